import assert from 'node:assert/strict'
import { test } from 'node:test'
import { changeOf } from '../../src/analysis/diff-weights.ts'
import { diffModels } from '../../src/analysis/model-diff.ts'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { smallNet } from '../export/nets.ts'

const chain = (alpha: string, extra = ''): string => `onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[2, 3]
  init %w = float32[3, 2] [1, 0, 2, 3, 0, 4]
  %h : float32[2, 2] = MatMul(%x, %w) #name "fc"
  %y : float32[2, 2] = LeakyRelu(%h) {alpha=${alpha}} #name "act"
${extra}  output %y
end
`

test('a model is the same as its own copy, whatever the order in the file', async () => {
  const m = smallNet(1)
  const d = await diffModels(m, decodeModel(encodeModel(m)))
  assert.equal(d.identical, true)
  assert.deepEqual([d.nodes.added, d.nodes.removed, d.nodes.changed], [[], [], []])
  assert.ok(d.layers.every((l) => l.change?.maxChange === 0 && !l.rescaled))
})

test('nodes: attributes that changed are named, nodes that came and went are listed', async () => {
  const a = parseModel(chain('0.1'))
  const b = parseModel(chain('0.2', '  %z = Relu(%y) #name "more"\n'))
  const { nodes, identical } = await diffModels(a, b)
  assert.equal(identical, false)
  assert.deepEqual(nodes.added, [{ name: 'more', op: 'Relu' }])
  assert.equal(nodes.changed.length, 1)
  assert.equal(nodes.changed[0]!.name, 'act')
  assert.match(nodes.changed[0]!.changes.join(), /^alpha: 0\.1\d* -> 0\.2\d*$/)
  assert.deepEqual((await diffModels(b, a)).nodes.removed, [{ name: 'more', op: 'Relu' }])
})

test('weights: largest and relative change by hand', async () => {
  const a = parseModel(chain('0.1'))
  const b = cloneModel(a)
  b.graph.find('w')!.setConstant(Tensor.float32([3, 2], [1, 0, 2, 0, 0, 4.5]))
  const d = await diffModels(a, b)
  const [w] = d.tensors.changed
  assert.equal(w!.name, 'w')
  assert.equal(w!.change!.maxChange, 3)
  assert.ok(Math.abs(w!.change!.relativeChange! - Math.sqrt((9 + 0.25) / (1 + 4 + 9 + 16))) < 1e-12)
  const [fc] = d.layers
  assert.deepEqual([fc!.before!.sparsity, fc!.after!.sparsity], [2 / 6, 3 / 6])
  assert.deepEqual([d.sparsity.before, d.sparsity.after], [2 / 6, 3 / 6])
  assert.equal(changeOf(Tensor.float32([2], [0, 0]), Tensor.float32([2], [0, 1]))!.relativeChange, null)
  assert.equal(changeOf(Tensor.float32([1], [NaN]), Tensor.float32([1], [NaN]))!.maxChange, 0)
  assert.equal(changeOf(Tensor.float32([1], [1]), Tensor.float32([1], [NaN]))!.maxChange, Number.POSITIVE_INFINITY)
  assert.equal(changeOf(Tensor.float32([2], [1, 1]), Tensor.float32([1], [1])), null)
})

test('a pass: sparsity and bits before and after', async () => {
  const a = smallNet(1, { bits: 32, sparsity: 0, activationBits: 32 })
  const b = cloneModel(a)
  await runPass(b, 'prune', { sparsity: 0.5, scope: 'layer' })
  await runPass(b, 'quantize', { activationBits: 0 })
  const d = await diffModels(a, b)
  const c1 = d.layers.find((l) => l.name === 'c1.y')!
  assert.deepEqual([c1.before!.weightBits, c1.after!.weightBits], [32, 4])
  assert.equal(c1.before!.sparsity, 0)
  assert.ok(c1.after!.sparsity >= 0.5)
  assert.deepEqual(d.metadata, ['mnc.history'])
  assert.ok(d.nodes.added.some((n) => n.op === 'QuantizeLinear'))
  assert.ok(d.bytes.after > d.bytes.before)
})

test('an export only rescales layers, and keeps sparsity and widths', async () => {
  for (const format of ['packed', 'int4'] as const) {
    const a = smallNet(1)
    const { model } = await exportModel(a, { format })
    const { layers } = await diffModels(a, model)
    assert.equal(layers.length, 6)
    for (const l of layers) {
      assert.ok(l.rescaled || l.change!.maxChange === 0, `${format} ${l.name}: ${JSON.stringify(l.change)}`)
      // words of a prefix code take fewer bits than the values have
      assert.ok(l.after!.weightBits <= l.before!.weightBits, `${format} ${l.name}`)
      assert.deepEqual({ ...l.after, weightBits: 0 }, { ...l.before, weightBits: 0 }, `${format} ${l.name}`)
    }
    // one weight that differs is no longer a factor of its channel
    const spoilt = cloneModel(a)
    const w = spoilt.graph.find('c2')!
    w.setConstant(
      Tensor.float32(
        w.dims,
        w.constant!.toFloat32().map((x) => -x),
      ),
    )
    const c2 = (await diffModels(spoilt, model)).layers[2]!
    assert.equal(c2.rescaled, false)
    assert.ok(c2.change!.relativeChange! > 0.5)
  }
})

test('info knows the width of rounded inputs in every exported form', async () => {
  for (const [format, activationBits] of [
    ['packed', 4],
    ['packed', 3],
    ['int4', 4],
    ['int8', 4],
  ] as const) {
    const source = smallNet(1, { activationBits })
    const bits = async (m: typeof source): Promise<number[]> => (await modelInfo(m)).layers.map((l) => l.activationBits)
    assert.deepEqual(await bits((await exportModel(source, { format })).model), await bits(source), format)
  }
})
