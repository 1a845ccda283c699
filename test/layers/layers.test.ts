import assert from 'node:assert/strict'
import test from 'node:test'
import { parseModel } from '../../src/codec/text-parse.ts'
import { type WeightLayer, weightLayers } from '../../src/layers/layers.ts'
import { recomputeMasks } from '../../src/passes/insert-prune-mask.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { nonNegativeTest } from '../../src/quant/non-negative.ts'
import { randomBatches } from '../passes/golden.ts'

const layersOf = (body: string): WeightLayer[] =>
  weightLayers(parseModel(`onnx {ir_version=10}\nopset ai.onnx=21\ngraph "g"\n${body}\nend\n`).graph)

test('a layer is seen through transposes, casts and Constant nodes, its axes mapped to the stored weight', () => {
  const [fc, conv] = layersOf(`
  input %x : float32[1,2,4,4]
  input %v : float32[1,3]
  init %w = float16[2,3] [1, 2, 3, 4, 5, 6]
  %wf = Cast(%w) {to=1}
  %wt = Transpose(%wf)
  %y = MatMul(%v, %wt) #name "fc"
  %k = Constant() {value=float32[1,2,1,1] [1, 2]}
  %z = Conv(%x, %k)
  output %y
  output %z`)
  assert.ok(fc && conv)
  assert.deepEqual([fc.name, fc.weight.name, fc.outputAxis, fc.inputAxis], ['fc', 'w', 0, 1])
  assert.equal(fc.maskPoint.name, 'wf')
  assert.deepEqual([conv.name, conv.weight.name, conv.outputAxis, conv.inputAxis], ['z', 'k', 0, 1])
})

test('masks, quantisers and the quantised input of a layer are found', async () => {
  const model = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[1,2,4,4]
  init %a = float32[2,2,1,1] [1, -2, 3, -4]
  init %b = float32[1,2,1,1] [1, -2]
  %h = Conv(%x, %a) #name "a"
  %r = Relu(%h)
  %y : float32[1,1,4,4] = Conv(%r, %b) #name "b"
  output %y
end
`)
  await runPass(model, 'prune', { sparsity: 0.5 })
  await runPass(model, 'quantize', { weightBits: 3, activationBits: 5 }, { calibration: randomBatches(model, 1) })
  const [a, b] = weightLayers(model.graph)
  assert.deepEqual([...a!.mask!.constant!.toFloat32()], [0, 0, 1, 1])
  assert.deepEqual([a!.quant!.bits, a!.quant!.axis, a!.quant!.lo, a!.quant!.hi], [3, 0, -4, 3])
  assert.equal(a!.activationQuant, null)
  assert.deepEqual([b!.activationQuant!.bits, b!.activationQuant!.lo, b!.activationQuant!.hi], [5, 0, 31])
  assert.equal(b!.weight.name, 'b')
  const moved = recomputeMasks([a!, b!], (l) => (l === a ? Float32Array.of(9, 1, 2, 3) : Float32Array.of(8, 7)))
  assert.deepEqual([...moved.get(a!)!], [1, 0, 0, 0])
  assert.deepEqual([...moved.get(b!)!], [1, 1])
})

test('weights that are computed, shared or read elsewhere are told apart', () => {
  const layers = layersOf(`
  input %x : float32[1,2,4,4]
  input %dynamic : float32[2,2,1,1]
  init %w = float32[2,2,1,1] [1, 2, 3, 4]
  init %u = float32[2,2,1,1] [1, 2, 3, 4]
  %a = Conv(%x, %dynamic) #name "a"
  %b = Conv(%a, %w) #name "b"
  %c = Conv(%b, %w) #name "c"
  %n = Neg(%u) #name "neg"
  %d = Conv(%c, %u) #name "d"
  %e = Conv(%d, %n) #name "e"
  output %e`)
  assert.deepEqual(
    layers.map((l) => [l.name, l.users.length, l.otherUser?.name ?? null]),
    [
      ['b', 2, null],
      ['d', 1, 'neg'],
    ],
  )
})

test('non-negativity follows ReLU through pools, concatenation and quantisers', () => {
  const { graph } = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[1,2,4,4]
  init %s = float32[] [0.1]
  init %z = uint8[] [0]
  %r = Relu(%x)
  %p = MaxPool(%r) {kernel_shape=[2, 2]}
  %t = Sigmoid(%x)
  %c = Concat(%r, %t) {axis=1}
  %m = Concat(%r, %x) {axis=1}
  %q = QuantizeLinear(%x, %s, %z)
  %d = DequantizeLinear(%q, %s, %z)
  output %d
end
`)
  const test = nonNegativeTest()
  const names = ['x', 'r', 'p', 't', 'c', 'm', 'd'].filter((n) => test(graph.find(n)!))
  assert.deepEqual(names, ['r', 'p', 't', 'c', 'd'])
})
