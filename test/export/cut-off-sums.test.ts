/** 8-bit weights whose sums some processors cut off at 16 bits: which layers those are, and files without them. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { saturatingLayers } from '../../src/export/saturating-sums.ts'
import type { Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { Sink } from '../cli/sink.ts'
import { widest } from '../support/cut-off.ts'
import { errors } from './errors.ts'
import { Net } from './nets.ts'

/** Weights of one layer [4, 2, 1, 1] in a file, behind a quantised input. */
function layerOf(weights: readonly number[], o: { op?: 'Conv' | 'MatMul'; zero?: 'uint8' | 'int8' } = {}): Model {
  const { op = 'Conv', zero = 'uint8' } = o
  const model = new Model()
  const b = model.graph.append()
  const isConv = op === 'Conv'
  const x = model.graph.addInput('x', { elem: 'float32', dims: isConv ? [1, 2, 3, 3] : [3, 2] })
  const scale = b.initializer('s', Tensor.scalar(0.1))
  const z = b.initializer(
    'z',
    zero === 'uint8' ? Tensor.of('uint8', [], new Uint8Array(1)) : Tensor.of('int8', [], new Int8Array(1)),
  )
  const a = b.op('DequantizeLinear', [b.op('QuantizeLinear', [x, scale, z]), scale, z])
  const ints = Tensor.of('int8', isConv ? [4, 2, 1, 1] : [2, 4], Int8Array.from(weights))
  const w = b.op('DequantizeLinear', [b.initializer('w', ints), scale])
  const y = b.op(op, [a, w], {}, { name: 'y', type: { elem: 'float32', dims: null } })
  model.graph.addOutput(y)
  return model
}

test('two weights of a channel and a sign that add up to more than 128', async () => {
  const found = async (weights: readonly number[], o = {}): Promise<number> =>
    (await saturatingLayers(layerOf(weights, o))).length
  const rest = [1, -1, 0, 5]
  // 255 * 128 is less than 2^15, 255 * 129 is not
  assert.equal(await found([64, 64, 64, 64, ...rest]), 0)
  assert.equal(await found([64, 65, 1, 1, ...rest]), 1)
  assert.equal(await found([-64, -65, 1, 1, ...rest]), 1)
  assert.equal(await found([127, -128, 127, 1, ...rest]), 0, 'the sum of two signs is small')
  assert.equal(await found([127, 0, 127, 0, 127, 0, 127, 0]), 0, 'of two channels')
  assert.equal(await found([64, 65, 1, 1, ...rest], { zero: 'int8' }), 1)
  // channels of a product are columns
  assert.equal(await found([65, 64, 1, 1, 1, 1, 1, 1], { op: 'MatMul' }), 0)
  assert.equal(await found([65, 1, 1, 1, 64, 1, 1, 1], { op: 'MatMul' }), 1)
})

test('weights that the file computes are looked at, whatever else it multiplies', async () => {
  const model = layerOf([64, 65, 1, 1, 1, -1, 0, 5])
  const { graph } = model
  const [layer] = [...graph.nodes()].filter((n) => n.op === 'Conv')
  const weight = layer!.input(1).producer!
  const b = graph.before(weight)
  // rounded by the file; and a product of two values of the network, which are no weights
  const floats = b.op('Mul', [b.op('Cast', [weight.input(0)], { to: 1 }), b.scalar(0.1)])
  weight.setInput(0, b.op('QuantizeLinear', [floats, weight.input(1), b.scalar(0, 'int8')]))
  const [a] = layer!.inputs
  const turned = graph.append().op('Transpose', [a!], { perm: [0, 1, 3, 2] })
  const scale = weight.input(1)
  const zero = b.scalar(0, 'int8')
  const other = graph
    .append()
    .op('DequantizeLinear', [graph.append().op('QuantizeLinear', [turned, scale, zero]), scale, zero])
  graph.addOutput(graph.append().op('MatMul', [a!, other], {}, { name: 'z', type: { elem: 'float32', dims: null } }))
  assert.deepEqual(
    (await saturatingLayers(model)).map(({ node }) => node.output.name),
    ['y'],
  )
})

/** Dense, grouped and depthwise convolutions and a classifier; what is read is positive and large. */
function net(bits: number): Model {
  const n = new Net(3, { bits, activationBits: 8, sparsity: 0 })
  const layer = (x: Value, name: string, from: number, to: number, k: number, group = 1): Value =>
    n.act(n.relu(n.conv(x, name, from, to, k, { group, bias: true })), 0.02)
  const x = n.act(n.input([1, 4, 8, 8]), 0.004)
  const a = layer(x, 'dense', 4, 16, 3)
  const b = layer(a, 'depthwise', 16, 16, 3, 16)
  const c = layer(b, 'grouped', 16, 16, 1, 2)
  const f = n.act(n.b.op('Flatten', [n.b.op('GlobalAveragePool', [c])]), 0.004)
  const y = n.b.op('Gemm', [f, n.weight('fc', [8, 16], 0)], { transB: 1 }, { name: 'y' })
  return n.finish(n.act(y, 0.02))
}

/** Of the weights. */
const typesOf = (model: Model): string[] =>
  [...model.graph.nodes()].flatMap((n) => {
    const stored = n.op === 'DequantizeLinear' ? n.input(0).constant : null
    return stored && stored.dims.length > 1 ? [stored.type] : []
  })

/** A level of the output. */
const LEVEL = 0.02

test('int8 files are right on every processor; --vnni is for those that add in 32 bits', async () => {
  for (const packedWeights of [false, true]) {
    const e = await errors(net(8), { format: 'int8', packedWeights })
    assert.ok(e.disabled < LEVEL && e.all < LEVEL, `packed ${packedWeights}: ${e.disabled}, ${e.all}`)
    assert.deepEqual(await saturatingLayers(e.model), [])
  }
  const { model, report } = await exportModel(net(8), { format: 'int8' })
  assert.ok(typesOf(model).filter((t) => t === 'uint8').length >= 3, typesOf(model).join())
  assert.deepEqual(report.saturating, [])
  assert.match(report.costs.join(), /weights of \d layers have 8 bits and are UINT8.*--weight-bits 7.*--vnni/)
  const vnni = await exportModel(net(8), { format: 'int8', vnni: true })
  assert.ok(typesOf(vnni.model).every((t) => t === 'int8'))
  assert.ok(vnni.report.saturating.length >= 3)
  const { disabled, all } = await errors(net(8), { format: 'int8', vnni: true })
  assert.ok(disabled < LEVEL)
  assert.equal(all < LEVEL, widest === 8, `${all} on a processor for ${widest} bits`)
})

test('weights of 7 bits and fewer are int8 and right everywhere', async () => {
  for (const bits of [7, 6, 4]) {
    const { model, report } = await exportModel(net(bits), { format: 'int8' })
    assert.ok(
      typesOf(model).every((t) => t === 'int8'),
      `${bits} bits: ${typesOf(model)}`,
    )
    assert.deepEqual(report.saturating, [])
    assert.doesNotMatch(report.costs.join(), /UINT8/)
    const e = await errors(net(bits), { format: 'int8' })
    assert.ok(e.disabled < LEVEL && e.all < LEVEL, `${bits} bits: ${e.disabled}, ${e.all}`)
  }
})

test('plain pairs for other readers keep int8 weights, and the report lists their layers', async () => {
  const { model, report } = await exportModel(net(8), { format: 'qdq' })
  assert.ok(typesOf(model).every((t) => t === 'int8'))
  assert.ok(report.saturating.length >= 3)
})

test('export says which files are not right everywhere, check whether this processor is one of those', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-cut-off-'))
  after(() => rmSync(folder, { recursive: true }))
  const at = (name: string): string => join(folder, name)
  await writeModel(net(8), at('net.onnx'))
  const said = async (...words: readonly string[]): Promise<string> => {
    const [out, err] = [new Sink(), new Sink()]
    assert.equal(await runCommandLine([...words], { stdout: out, stderr: err }), 0, err.text)
    return err.text
  }
  const own = ['--format', 'int8', '--allow-larger', '-o']
  assert.doesNotMatch(await said('export', at('net.onnx'), ...own, at('right.onnx')), /without VNNI/)
  const err = await said('export', at('net.onnx'), '--vnni', ...own, at('vnni.onnx'))
  assert.match(err, /\d layers may lose accuracy in onnxruntime on x86 processors without VNNI.*--weight-bits 7/)
  const note = /note: onnxruntime cuts off sums of 8-bit weights on this processor, in \d layers/
  for (const name of ['right', 'vnni']) {
    const isNoted = note.test(await said('check', at('net.onnx'), at(`${name}.onnx`)))
    assert.equal(isNoted, name === 'vnni' && widest < 8, name)
  }
})
