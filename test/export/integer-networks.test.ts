/** Networks that run in integers from end to end: the pass, what an export makes of it, and 4- beside 8-bit activations. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { quantPairOf } from '../../src/layers/quant-pair.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { Net, noise } from './nets.ts'

/** Two residual blocks of W4A4 convolutions with biases. */
function residual(): Model {
  const n = new Net(8)
  const x = n.input([2, 16, 8, 8])
  let r = n.relu(n.conv(n.act(n.relu(x)), 'stem', 16, 16, 3))
  for (const k of [1, 2]) {
    const a = n.relu(n.conv(n.act(r), `a${k}`, 16, 16, 3, { bias: true }))
    const b = n.conv(n.act(a), `b${k}`, 16, 16, 3, { bias: true })
    r = n.relu(n.b.op('Add', [b, r]))
  }
  return n.finish(n.conv(n.act(r), 'last', 16, 8, 1))
}

function image(seed: number): Tensor {
  const r = noise(seed)
  return Tensor.float32(
    [2, 16, 8, 8],
    Float32Array.from({ length: 2048 }, () => 2 * r()),
  )
}

const calibration = {
  async *batches() {
    yield { x: image(1) }
  },
}

async function run(m: Model, optimization: 'disabled' | 'basic' | 'extended' | 'all'): Promise<Float32Array> {
  const session = await ortExecutor().load(m, { optimization })
  const out = await session.run({ x: image(2) })
  await session.dispose()
  return Object.values(out)[0]!.toFloat32()
}

const activationTypes = (m: Model): string[] =>
  [...m.graph.nodes()].flatMap((n) => {
    const pair = quantPairOf(n)
    return pair?.quantize && pair.axis === null ? [`${pair.container} ${pair.bits}`] : []
  })

test('every layer and every addition of a residual network becomes an integer kernel', async () => {
  const m = residual()
  const before = (await explainKernels((await exportModel(m, { format: 'int8' })).model)).layers
  assert.equal(before.filter((l) => l.kernel).length, 2, 'without the pass: only the first of each block')
  await runPass(m, 'quantize-outputs', {}, { calibration })
  const want = await run(m, 'disabled')
  const largest = want.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
  for (const [format, tolerance] of [
    ['packed', 1e-4],
    ['int8', 0.05], // sums in 8 bits leave no room for an exact integer bias: a step here and there
  ] as const) {
    const { model } = await exportModel(m, { format })
    for (const level of ['disabled', 'all'] as const) {
      const got = await run(model, level)
      const mean = want.reduce((s, v, i) => s + Math.abs(v - got[i]!), 0) / want.length
      assert.ok(mean <= tolerance * largest, `${format}, ${level}: ${mean} of ${largest}`)
    }
    if (format === 'packed') continue
    const { layers, ops } = await explainKernels(model)
    assert.deepEqual(
      layers.map((l) => l.kernel !== null),
      // the last gives floats
      [true, true, true, true, true, false],
    )
    // two sums, which two layers read with another step
    assert.equal(ops.QLinearAdd, 4)
  }
})

test('8-bit activations beside 4-bit ones: the latter get 8-bit containers, widths stay', async () => {
  const m = residual()
  assert.ok(activationTypes(m).every((t) => t === 'uint4 4'))
  await runPass(m, 'quantize-outputs', {}, { calibration })
  const types = activationTypes(m)
  assert.ok(
    types.every((t) => !/^u?int4/.test(t)),
    types.join(),
  )
  assert.equal(types.filter((t) => t === 'uint8 4').length, 6)
  assert.equal(types.filter((t) => t.endsWith(' 8')).length, types.length - 6)
  const alone = residual()
  await assert.rejects(runPass(alone, 'quantize-outputs'), { blame: 'user', message: /needs data/ })
})

test('layers of different activation widths in one graph compute what each alone does', async () => {
  const n = new Net(3, { bits: 32, sparsity: 0, activationBits: 32 })
  const x = n.input([2, 16, 8, 8])
  const a = n.relu(n.conv(x, 'a', 16, 16, 3))
  const m = n.finish(n.conv(n.relu(n.conv(n.relu(n.conv(a, 'b', 16, 16, 3)), 'c', 16, 16, 3)), 'd', 16, 16, 3))
  await runPass(m, 'quantize', { layerActivationBits: { 'c.y': 8 } }, { calibration })
  assert.deepEqual(activationTypes(m), ['uint8 4', 'uint8 8', 'uint8 4'])
  const want = await run(m, 'disabled')
  const largest = want.reduce((s, v) => Math.max(s, Math.abs(v)), 0)
  for (const format of ['packed', 'int4'] as const) {
    const { model } = await exportModel(m, { format })
    for (const level of ['disabled', 'all'] as const) {
      const got = await run(model, level)
      for (let i = 0; i < want.length; i++)
        assert.ok(Math.abs(want[i]! - got[i]!) <= 1e-4 * largest, `${format}, ${level}, ${i}`)
    }
  }
})

const hardSigmoid = (n: Net, x: Value): Value => {
  const { b } = n
  return b.op('Div', [b.op('Clip', [b.op('Add', [x, b.scalar(3)]), b.scalar(0), b.scalar(6)]), b.scalar(6)])
}

/** x clip(x + 3, 0, 6) / 6 */
const hardSwish = (n: Net, x: Value): Value => {
  const { b } = n
  const clipped = b.op('Clip', [b.op('Add', [x, b.scalar(3)]), b.scalar(0), b.scalar(6)])
  return b.op('Div', [b.op('Mul', [x, clipped]), b.scalar(6)])
}

const FLOAT = { bits: 32, sparsity: 0, activationBits: 32 } as const
const W8A8 = { weightBits: 8, activationBits: 8, firstLayer: 'quantize', ops: ['Conv', 'Gemm'] } as const

/** A block of a mobile network between a stem and a classifier, with what `gate` and `squeezed` make of a value. */
function mobile(gate: (n: Net, x: Value) => Value, squeezed: (n: Net, x: Value) => Value): Model {
  const n = new Net(4, FLOAT)
  const { b } = n
  const x = n.input([2, 16, 8, 8])
  const stem = gate(n, n.bn(n.conv(x, 'stem', 16, 16, 3), 'bn0', 16))
  const wide = gate(n, n.bn(n.conv(stem, 'wide', 16, 32, 1), 'bn1', 32))
  const deep = gate(n, n.bn(n.conv(wide, 'deep', 32, 32, 3, { group: 32 }), 'bn2', 32))
  const pooled = b.op('GlobalAveragePool', [deep])
  const scores = n.conv(n.relu(n.conv(pooled, 'e1', 32, 16, 1, { bias: true })), 'e2', 16, 32, 1, { bias: true })
  const excited = b.op('Mul', [deep, squeezed(n, scores)])
  const narrow = n.bn(n.conv(excited, 'narrow', 32, 16, 1), 'bn3', 16)
  const sum = b.op('Add', [narrow, stem])
  const flat = b.op('Flatten', [b.op('GlobalAveragePool', [gate(n, n.conv(sum, 'head', 16, 32, 1, { bias: true }))])])
  return n.finish(b.op('Gemm', [flat, n.weight('fc', [10, 32], 0)], { transB: 1 }, { name: 'logits' }))
}

/** Two layers of a DenseNet, a transition and a classifier. */
function denselyConnected(): Model {
  const n = new Net(6, FLOAT)
  const { b } = n
  const x = n.input([2, 16, 8, 8])
  let all = n.conv(x, 'stem', 16, 16, 3)
  for (const [k, from] of [16, 24].entries()) {
    const y = n.conv(n.relu(n.bn(all, `bn${k}`, from)), `c${k}`, from, 32, 1)
    const z = n.conv(n.relu(n.bn(y, `bn${k}b`, 32)), `d${k}`, 32, 8, 3)
    all = b.op('Concat', [all, z], { axis: 1 })
  }
  const t = b.op('AveragePool', [n.conv(n.relu(n.bn(all, 'bnt', 32)), 't', 32, 16, 1)], {
    kernel_shape: [2, 2],
    strides: [2, 2],
  })
  const flat = b.op('Flatten', [b.op('GlobalAveragePool', [n.relu(n.bn(t, 'bnl', 16))])])
  return n.finish(b.op('Gemm', [flat, n.weight('fc', [10, 16], 0)], { transB: 1 }, { name: 'logits' }))
}

const networks: Readonly<Record<string, () => Model>> = {
  'h-swish and h-sigmoid in single operators': () => mobile(hardSwish, hardSigmoid),
  'HardSwish and HardSigmoid': () =>
    mobile(
      (n, x) => n.b.op('HardSwish', [x]),
      (n, x) => n.b.op('HardSigmoid', [x], { alpha: 1 / 6, beta: 0.5 }),
    ),
  'swish and sigmoid': () =>
    mobile(
      (n, x) => n.b.op('Mul', [x, n.b.op('Sigmoid', [x])]),
      (n, x) => n.b.op('Sigmoid', [x]),
    ),
  'ReLU6 and sigmoid': () =>
    mobile(
      (n, x) => n.b.op('Clip', [x, n.b.scalar(0), n.b.scalar(6)]),
      (n, x) => n.b.op('Sigmoid', [x]),
    ),
  'densely connected': denselyConnected,
}

const INTEGER = /^QLinear|^(QuantizeLinear|DequantizeLinear|Clip|Transpose|Flatten|Reshape|Gemm|QGemm|MaxPool|Concat)$/

for (const [name, make] of Object.entries(networks))
  test(`the whole network in integers, at all levels: ${name}`, async () => {
    const m = make()
    await runPass(m, 'quantize', W8A8, { calibration })
    await runPass(m, 'quantize-outputs', {}, { calibration })
    const want = await run(m, 'disabled')
    const largest = want.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
    const { model } = await exportModel(m, { format: 'int8' })
    for (const level of ['disabled', 'basic', 'extended', 'all'] as const) {
      const got = await run(model, level)
      const mean = want.reduce((s, v, i) => s + Math.abs(v - got[i]!), 0) / want.length
      assert.ok(mean <= 0.02 * largest, `${level}: ${mean} of ${largest}`)
    }
    const { layers, ops } = await explainKernels(model)
    const floats = layers.filter((l) => l.op === 'Conv' && l.kernel === null)
    assert.deepEqual(floats, [])
    assert.deepEqual(
      Object.keys(ops).filter((op) => !INTEGER.test(op)),
      [],
    )
    // the input's and the classifier's
    assert.ok(ops.QuantizeLinear! <= 2 && ops.DequantizeLinear! <= 2 && (ops.Transpose ?? 0) <= 4, JSON.stringify(ops))
  })

test('what a Concat joins keeps its one scale when ranges are searched', async () => {
  const n = new Net(7, FLOAT)
  const x = n.input([2, 16, 8, 8])
  const stem = n.conv(x, 'stem', 16, 16, 3)
  const all = n.b.op('Concat', [stem, n.conv(stem, 'c', 16, 8, 3)], { axis: 1 })
  const m = n.finish(n.conv(all, 'last', 24, 4, 1))
  await runPass(m, 'quantize', W8A8, { calibration })
  await runPass(m, 'quantize-outputs', {}, { calibration })
  const scales = (): (number | undefined)[] =>
    [...m.graph.nodes()].flatMap((node) => {
      const pair = quantPairOf(node)
      return pair?.quantize && pair.axis === null && !pair.source.isInput ? [pair.scale.constant?.item()] : []
    })
  const before = scales()
  assert.equal(new Set(before).size, 1, `${before}`)
  await runPass(m, 'search-ranges', {}, { calibration })
  assert.deepEqual(scales(), before)
})
