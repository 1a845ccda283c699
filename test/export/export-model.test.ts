import assert from 'node:assert/strict'
import { test } from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { encodeModel, fingerprint } from '../../src/codec/codec.ts'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { ExportOptions } from '../../src/export/export-options.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementTypes } from '../../src/graph/types.ts'
import { readHistory } from '../../src/pass-manager/history.ts'
import { errors } from './errors.ts'
import { Net, type NetOptions, smallNet } from './nets.ts'

const cases: readonly (readonly [string, NetOptions])[] = [
  ['W4A4 at 75 %', {}],
  ['W4, float activations', { activationBits: 32 }],
  ['A4, float weights', { bits: 32 }],
  ['pruned only', { bits: 32, activationBits: 32 }],
  ['W2A4', { bits: 2 }],
  ['W3A3', { bits: 3, activationBits: 3 }],
  ['W8A4', { bits: 8 }],
  ['W8A8 dense', { bits: 8, activationBits: 8, sparsity: 0 }],
  ['W4A4 dense', { sparsity: 0 }],
  ['signed activations behind ReLU', { signedActivations: true }],
]

for (const format of ['packed', 'int4'] as const)
  for (const [name, net] of cases)
    test(`${format} computes what the graph with fake quantisers does: ${name}`, async () => {
      const source = smallNet(1, net)
      const before = encodeModel(source)
      const e = await errors(source, { format })
      assert.ok(e.disabled < 1e-4, `ORT_DISABLE_ALL: ${e.disabled}`)
      assert.ok(e.all < 1e-4, `ORT_ENABLE_ALL: ${e.all}`)
      assert.deepEqual(encodeModel(source), before, 'the source was changed')
    })

for (const packedWeights of [false, true])
  for (const [name, net] of cases)
    test(`int8${packedWeights ? ' with packed weights' : ''} gives the same levels: ${name}`, async () => {
      const e = await errors(smallNet(1, net), { format: 'int8', packedWeights })
      assert.ok(e.disabled < 1e-4, `ORT_DISABLE_ALL: ${e.disabled}`)
      assert.ok(e.all < 1e-4, `ORT_ENABLE_ALL: ${e.all}`)
    })

test('a layer whose output is read both in integers and in floats', async () => {
  for (const bits of [4, 32]) {
    const n = new Net(6, { bits })
    const x = n.input([1, 8, 6, 6])
    const c = n.conv(n.act(n.relu(x)), 'a', 8, 8, 3, { bias: true })
    const d = n.conv(n.act(c), 'b', 8, 8, 3, { bias: true })
    const m = n.finish(n.b.op('Add', [c, d]))
    for (const format of ['packed', 'int4', 'int8'] as const) {
      const e = await errors(m, { format })
      assert.ok(e.disabled < 1e-4 && e.all < 1e-4, `${bits} bits, ${format}: ${e.disabled}, ${e.all}`)
    }
  }
})

test('ConvTranspose and MatMul weights, and a signed quantiser without ReLU', async () => {
  const n = new Net(3, { signedActivations: true })
  const x = n.input([1, 8, 5, 5])
  const w = n.weight('up', [8, 12, 3, 3], 1)
  const up = n.b.op('ConvTranspose', [n.act(x), w], { kernel_shape: [3, 3], strides: [2, 2] })
  const y = n.act(n.bn(up, 'bn', 12))
  const conv = n.conv(y, 'c', 12, 6, 1)
  const rows = n.b.op('Reshape', [conv, n.b.ints([11, -1])])
  const m = n.finish(n.b.op('MatMul', [rows, n.weight('m', [66, 7], 1)]))
  for (const format of ['packed', 'int4', 'int8'] as const) {
    const e = await errors(m, { format })
    assert.ok(e.disabled < 1e-4 && e.all < 1e-4, `${format}: ${e.disabled}, ${e.all}`)
  }
})

test('an opset-13 Q/DQ graph of another tool: INT8 weights with zero points, per-tensor steps, int32 bias', async () => {
  const n = new Net(5)
  const { b } = n
  const x = n.input([1, 4, 8, 8])
  const u8 = (v: number) => b.scalar(v, 'uint8')
  const q = b.op('QuantizeLinear', [x, b.scalar(0.02), u8(128)])
  const dx = b.op('DequantizeLinear', [q, b.scalar(0.02), u8(128)])
  const ints = n
    .floats([8, 4, 3, 3])
    .toFloat32()
    .map((u) => Math.round(u * 100) + 120)
  const wq = b.initializer('wq', Tensor.from('uint8', [8, 4, 3, 3], ints))
  const w = b.op('DequantizeLinear', [wq, b.scalar(0.01), u8(120)])
  const bq = b.initializer('bq', Tensor.from('int32', [8], [1, -200, 3, 4000, 5, 60, 7, 8]))
  const bias = b.op('DequantizeLinear', [bq, b.initializer('bs', Tensor.scalar(0.0002))])
  const conv = b.op('Conv', [dx, w, bias], { kernel_shape: [3, 3] })
  const step = b.scalar(0.0503) // 0.05 would make a tie of every 250th sum
  const y = b.op('QuantizeLinear', [conv, step, u8(100)])
  const m = n.finish(b.op('DequantizeLinear', [y, step, u8(100)]))
  m.opsets.set('', 13)
  const e = await errors(m, { format: 'packed' })
  assert.deepEqual([e.model.opset, e.model.irVersion], [13, 7])
  assert.ok(e.disabled < 1e-4 && e.all < 1e-4, `${e.disabled}, ${e.all}`)
})

test('a Q/DQ graph with Casts between the halves and shared parameters behind Identity', async () => {
  const n = new Net(5)
  const { b } = n
  const step = b.scalar(0.02)
  const zero = b.scalar(0, 'uint8')
  const copy = (v: Value): Value => b.op('Identity', [v])
  const quantised = (x: Value): Value => {
    const q = b.op('QuantizeLinear', [x, copy(step), copy(zero)])
    const cast = b.op('Cast', [q], { to: elementTypes.uint8.code })
    return b.op('DequantizeLinear', [cast, copy(step), copy(zero)])
  }
  const layer = (x: Value, name: string): Value => {
    const ints = n
      .floats([8, 8, 3, 3])
      .toFloat32()
      .map((u) => Math.round(u * 100))
    const stored = b.initializer(name, Tensor.from('int8', [8, 8, 3, 3], ints))
    const w = b.op('DequantizeLinear', [stored, b.scalar(0.01), b.scalar(0, 'int8')])
    return b.op('Relu', [b.op('Conv', [x, w], { kernel_shape: [3, 3] })])
  }
  const x = n.input([1, 8, 8, 8])
  const m = n.finish(quantised(layer(quantised(layer(quantised(x), 'w1')), 'w2')))
  const layers = (await modelInfo(m, { bytes: 0 })).layers
  assert.deepEqual(
    layers.map((l) => [l.weightBits, l.activationBits]),
    [
      [8, 8],
      [8, 8],
    ],
  )
  for (const format of ['packed', 'int8'] as const) {
    const e = await errors(m, { format })
    assert.ok(e.disabled < 1e-4 && e.all < 1e-4, `${format}: ${e.disabled}, ${e.all}`)
  }
})

test('no BatchNormalization, mask, latent weight or quantiser of weights is left, and a second export changes nothing', async () => {
  const source = smallNet(2)
  const { model, report } = await exportModel(source)
  const ops = new Set([...model.graph.nodes()].map((n) => n.op))
  for (const op of ['BatchNormalization', 'DequantizeLinear']) assert.ok(!ops.has(op), op)
  assert.deepEqual(report.batchNorms, { folded: 3, reduced: 2, kept: 0 })
  for (const v of model.graph.initializers())
    assert.ok(v.constant!.type !== 'float32' || v.constant!.size < 64, `${v.name} is left`)
  const again = await exportModel(model)
  assert.equal(again.report.weights, report.weights)
  const withoutHistory = (m: Model): number => {
    const copy = cloneModel(m)
    copy.metadata.delete('mnc.history')
    return encodeModel(copy).length
  }
  const [first, second] = [withoutHistory(model), withoutHistory(again.model)]
  assert.ok(Math.abs(second - first) < 40, `${first} -> ${second}`)
  assert.deepEqual(
    readHistory(again.model).map((e) => [e.pass, e.input, e.metrics?.weightBytes]),
    [
      ['export', fingerprint(source), report.weightBytes],
      ['export', fingerprint(model), again.report.weightBytes],
    ],
  )
  assert.deepEqual(encodeModel((await exportModel(source)).model), encodeModel(model), 'not deterministic')
})

test('each tensor takes the smallest form', async () => {
  const form = async (o: NetOptions): Promise<string> => {
    const n = new Net(1, { activationBits: 32, ...o })
    const x = n.input([1, 16, 4, 4])
    const { report } = await exportModel(n.finish(n.conv(x, 'c', 16, 64, 3)))
    return report.tensors.map((t) => `${t.storage}${t.bits}`).join()
  }
  assert.equal(await form({ sparsity: 0.75 }), 'sparse4')
  assert.equal(await form({ sparsity: 0 }), 'dense4')
  assert.equal(await form({ sparsity: 0, bits: 2 }), 'dense2')
  assert.equal(await form({ sparsity: 0.75, bits: 3 }), 'sparse3')
  assert.equal(await form({ sparsity: 0, bits: 8 }), 'int88')
  assert.equal(await form({ sparsity: 0.9, bits: 32 }), 'sparse32')
  assert.equal(await form({ sparsity: 0, bits: 32 }), 'raw32')
})

test('a weight of fewer bits shares the decode of wider ones, and one of zeros takes next to nothing', async () => {
  const n = new Net(2, { sparsity: 0.75, bits: 4, activationBits: 32 })
  const wide = n.conv(n.input([1, 16, 4, 4]), 'wide', 16, 64, 3)
  const zeros = n.b.initializer('zeros', Tensor.from('int8', [64, 64, 3, 3], new Int8Array(36864)))
  const few = Tensor.from(
    'int8',
    [32, 64, 1, 1],
    Int8Array.from({ length: 2048 }, (_, i) => (i % 7 === 0 ? -1 : 0)),
  )
  const dequantised = (v: Value): Value => n.b.op('DequantizeLinear', [v, n.b.scalar(0.1)])
  const none = n.b.op('Conv', [wide, dequantised(zeros)], { pads: [1, 1, 1, 1] })
  const y = n.b.op('Conv', [n.b.op('Add', [wide, none]), dequantised(n.b.initializer('few', few))])
  const graph = n.finish(y)
  const { all, disabled } = await errors(graph, { format: 'packed' })
  assert.ok(all < 1e-5 && disabled < 1e-5)
  const { report } = await exportModel(graph)
  const forms = report.tensors.map((t) => [t.storage, t.elements, t.bits, t.bytes] as const)
  assert.ok(forms.every(([storage]) => storage === 'sparse'))
  const [, , , bytes] = forms.find(([, elements]) => elements === 36864)!
  // a bit for a pattern of six
  assert.ok(bytes <= 36864 / 6 / 8 + 1, `${bytes}`)
})

test('what a form costs on every run is said, and only where it does', async () => {
  const graph = (): Model => smallNet(6, { bits: 4, activationBits: 4 })
  const costs = async (o: ExportOptions): Promise<readonly string[]> => (await exportModel(graph(), o)).report.costs
  const [rounded, ...others] = await costs({ format: 'packed' })
  assert.match(rounded!, /^activations are rounded in float arithmetic at \d+ places on every run.*--float-activations/)
  assert.deepEqual(others, [])
  assert.deepEqual(await costs({ format: 'packed', floatActivations: true }), [])
  assert.deepEqual(await costs({ format: 'int8' }), [])
  const { report, model } = await exportModel(graph(), { format: 'int4' })
  const [first, second] = report.costs
  const { unfolded } = await explainKernels(model)
  assert.equal(
    Number(/dequantises (\d+) weights/.exec(first!)![1]),
    unfolded.length,
    'those that onnxruntime does not fold',
  )
  assert.match(second!, /quantisers without integer kernels/)
})

test('short names: those that are read most often are the shortest', async () => {
  const n = new Net(3, { activationBits: 32 })
  let x = n.input([1, 8, 4, 4])
  for (let i = 0; i < 40; i++) x = n.b.op('Add', [x, n.b.scalar(i)], {}, { name: `a_long_name_of_sum_${i}` })
  const often = n.b.op('Neg', [x], {}, { name: 'a_name_that_is_read_often' })
  let y = n.conv(often, 'c', 8, 8, 3)
  for (let i = 0; i < 30; i++) y = n.b.op('Add', [y, often], {}, { name: `another_long_name_of_sum_${i}` })
  const { model, names } = await exportModel(n.finish(y), { format: 'packed', shortNames: true })
  assert.equal(Object.entries(names).find(([, name]) => name === 'a_name_that_is_read_often')?.[0].length, 1)
  const inner = [...model.graph.values()].filter((v) => !v.isInput && !v.isOutput)
  assert.ok(inner.length > 62 && inner.every((v) => v.name.length <= 2))
})

test('short names leave those in bodies of If alone', async () => {
  const net = new Net(3, { sparsity: 0, bits: 32 })
  const { b } = net
  const h = b.op('MatMul', [net.input([1, 4]), net.weight('weight', [4, 4], 1)], {}, { name: 'product' })
  const outer = b.op('Add', [h, h], {}, { name: 'product_twice' })
  const condition = b.op('Greater', [b.op('ReduceMax', [outer], { keepdims: 0 }), b.scalar(0)])
  const branch = b.op('If', [condition], {}, { name: 'branch' })
  for (const [name, op] of [
    ['then_branch', 'Abs'],
    ['else_branch', 'Neg'],
  ] as const) {
    const body = new Graph(name, net.model.graph)
    let v = body.append().op(op, [outer], {}, { name: '0' })
    for (let i = 1; i < 9; i++) v = body.append().op('Add', [v, outer], {}, { name: String(i) })
    body.addOutput(v)
    branch.producer!.setAttribute(name, { kind: 'graph', value: body })
  }
  const source = net.finish(b.op('Neg', [branch]))
  const { disabled, model } = await errors(source, { format: 'packed', shortNames: true })
  assert.ok(disabled < 1e-6)
  assert.equal(model.graph.find('product_twice'), undefined)
})
