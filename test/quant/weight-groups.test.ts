/** Scales for groups of weights: what quantize writes, against onnxruntime and by hand, and what becomes of it. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { exportFor } from '../../src/export/targets/export-for.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { scaleDims, scaleIndices } from '../../src/layers/scale-layout.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { fakeQuantize, fitWeightScales } from '../../src/quant/quantizer.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'
import { score } from '../../src/score/score.ts'

const K = 100
const HIDDEN = 70
const ops = ['*']
/** Tokens -> table of rows of K -> MatMul -> Gemm, transB -> Gemm: groups of 32 leave a short one in each. */
function net(): Model {
  const rng = new Rng(5)
  const graph = new Graph('net')
  const b = graph.append()
  // some inputs have far larger weights than others
  const floats = (name: string, dims: readonly number[]) =>
    b.initializer(
      name,
      Tensor.float32(
        dims,
        Float32Array.from({ length: dims[0]! * dims[1]! }, (_, i) => rng.normal(0, 1) * (i % 9 === 0 ? 4 : 1)),
      ),
    )
  const tokens = graph.addInput('tokens', { elem: 'int64', dims: [2, 6] })
  const rows = b.op('Gather', [floats('table', [23, K]), tokens], {}, { name: 'embedding' })
  const x = b.op('Tanh', [b.op('MatMul', [rows, floats('w', [K, HIDDEN])], {}, { name: 'matmul' })])
  const flat = b.op('Reshape', [x, b.ints([12, HIDDEN])])
  const y = b.op(
    'Gemm',
    [flat, floats('g', [40, HIDDEN]), b.initializer('c', Tensor.float32([40], new Float32Array(40).fill(0.5)))],
    { transB: 1 },
    { name: 'gemm' },
  )
  graph.addOutput(b.op('Gemm', [y, floats('h', [40, 12])], { alpha: 0.5 }, { name: 'head' }))
  const model = new Model(graph)
  model.opsets.set('', 21)
  return model
}

const feeds = (seed: number) => {
  const rng = new Rng(seed)
  return {
    tokens: Tensor.int64(
      [2, 6],
      Array.from({ length: 12 }, () => Math.floor(rng.uniform(0, 23))),
    ),
  }
}

const data: CalibrationData = {
  async *batches() {
    for (let i = 0; i < 6; i++) yield feeds(i)
  },
}

async function outputOf(model: Model, seed = 50): Promise<Float32Array> {
  const session = await ortExecutor().load(cloneModel(model), { threads: 1 })
  const out = Object.values(await session.run(feeds(seed)))[0]!.toFloat32()
  await session.dispose()
  return out
}

const distance = (a: Float32Array, b: Float32Array): number => a.reduce((s, v, i) => s + (v - b[i]!) ** 2, 0)

function assertSame(actual: Float32Array, expected: Float32Array, what: string): void {
  const top = expected.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
  expected.forEach((v, i) => void assert.ok(Math.abs(actual[i]! - v) <= 2e-6 * top, `${what}: ${actual[i]}, not ${v}`))
}

test('elements and scales, by hand', () => {
  assert.deepEqual(scaleDims([2, 5, 2], { axis: 1, block: 2 }), [2, 3, 2])
  const indices = scaleIndices([2, 5, 2], { axis: 1, block: 2 })
  assert.deepEqual([...indices], [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9, 10, 11])
  assert.deepEqual([...scaleIndices([2, 3], { axis: 1 })], [0, 1, 2, 0, 1, 2])
  assert.deepEqual([...scaleIndices([2, 2], { axis: null })], [0, 0, 0, 0])
})

test('at every width the model computes with the grouped weights, and is nearer than with a scale a channel', async () => {
  const want = await outputOf(net())
  for (const weightBits of [2, 3, 4, 6, 8]) {
    const [plain, grouped, byHand] = [net(), net(), net()]
    const options = { ops, weightBits, activationBits: 0, firstLayer: 'quantize' } as const
    await runPass(plain, 'quantize', options)
    await runPass(grouped, 'quantize', { ...options, weightGroup: 32 })
    for (const l of weightLayers(byHand.graph)) {
      const w = l.tensor.toFloat32()
      const layout = { axis: l.inputAxis, block: l.tensor.dims[l.inputAxis!]! > 32 ? 32 : 0 }
      const { dims } = l.tensor
      const scales = fitWeightScales(w, dims, layout, weightBits, 'als')
      const quant = weightLayers(grouped.graph).find((x) => x.name === l.name)!.quant!
      assert.deepEqual(quant.scale.constant!.toFloat32(), scales)
      assert.deepEqual([quant.axis, quant.block], [layout.axis, layout.block])
      l.weight.setConstant(Tensor.float32(dims, fakeQuantize(w, dims, layout, scales, weightBits)))
    }
    const out = await outputOf(grouped)
    assertSame(out, await outputOf(byHand), `${weightBits} bits`)
    assert.ok(distance(out, want) < distance(await outputOf(plain), want), `${weightBits} bits`)
    await runPass(grouped, 'lower-fake-quant', {})
    assertSame(await outputOf(grouped), await outputOf(byHand), `${weightBits} bits, lowered`)
  }
})

test('layers of 4 and of 8 bits in one model, with optimisations of the engine and without', async () => {
  const model = net()
  const options = { ops, weightBits: 4, layerWeightBits: { matmul: 8, embedding: 8 }, activationBits: 0 }
  await runPass(model, 'quantize', { ...options, firstLayer: 'quantize', weightGroup: 16 })
  const session = await ortExecutor().load(cloneModel(model), { threads: 1, optimization: 'disabled' })
  const plain = Object.values(await session.run(feeds(50)))[0]!.toFloat32()
  await session.dispose()
  assertSame(plain, await outputOf(model), 'without optimisations')
})

test('rounding for the outputs of layers goes on the grid of groups, and comes nearer', async () => {
  const want = await outputOf(net())
  for (const steps of ['search', 'weighted', 'keep'] as const) {
    const model = net()
    await runPass(model, 'quantize', { ops, weightBits: 3, activationBits: 0, firstLayer: 'quantize', weightGroup: 32 })
    const before = distance(await outputOf(model), want)
    const { changed } = await runPass(model, 'round-weights', { steps }, { calibration: data })
    assert.ok(changed)
    const after = distance(await outputOf(model), want)
    assert.ok(after < 0.7 * before, `${steps}: ${after / before}`)
    const again = await runPass(model, 'round-weights', { steps, biases: 'keep' }, { calibration: data })
    assert.equal(again.changed, false)
  }
})

test('exports of every format compute the same; what they store is told with its scales', async () => {
  for (const [weightBits, sparsity] of [
    [4, 0],
    [3, 0.6],
    [8, 0],
  ] as const) {
    const model = net()
    if (sparsity > 0) await runPass(model, 'prune', { ops, sparsity })
    await runPass(model, 'quantize', { ops, weightBits, activationBits: 0, firstLayer: 'quantize', weightGroup: 32 })
    const want = await outputOf(model)
    for (const format of ['packed', 'int4', 'int8'] as const) {
      const { model: file } = await exportModel(model, { format })
      assertSame(await outputOf(file), want, `${weightBits} bits, ${format}`)
      const { layers } = await modelInfo(file)
      for (const l of layers)
        assert.ok((l.valueBits ?? l.weightBits)! <= weightBits, `${format}: ${l.name} ${l.valueBits}`)
      // INT4 counts as 4 bits, whatever it holds
      if (format === 'int4' && weightBits < 4) continue
      const [graph, counted] = [await score(model), await score(file)]
      assert.ok(Math.abs(counted.storage / graph.storage - 1) < 0.02, `${format}: ${counted.storage} ${graph.storage}`)
    }
  }
  // scales of 32 bits for each row and group of 4-bit weights
  const model = net()
  await runPass(model, 'quantize', {
    ops: ['MatMul'],
    weightBits: 4,
    activationBits: 0,
    firstLayer: 'quantize',
    weightGroup: 32,
  })
  const { layers } = await score(model)
  assert.equal(layers.find((l) => l.name === 'matmul')!.storage, (K * HIDDEN * 4 + 4 * HIDDEN * 32) / 32)
})

test('weight-only files compute what the graph does, by MatMulNBits where layers are products', async () => {
  for (const weightGroup of [undefined, 16, 32, 64])
    for (const weightBits of [2, 3, 4, 6, 8]) {
      const model = net()
      const groups = weightGroup === undefined ? {} : { weightGroup }
      await runPass(model, 'quantize', { ops, weightBits, activationBits: 0, firstLayer: 'quantize', ...groups })
      const { model: file, report } = await exportModel(model, { format: 'weight-only' })
      assertSame(await outputOf(file), await outputOf(model), `${weightBits} bits, groups of ${weightGroup}`)
      const products = [...file.graph.nodes()].filter((n) => n.domain === 'com.microsoft')
      assert.deepEqual(
        products.map((n) => [n.int('K', 0), n.int('N', 0), n.int('bits', 0), n.int('accuracy_level', 0)]),
        [
          [K, HIDDEN],
          [HIDDEN, 40],
          [40, 12],
        ].map((d) => [...d, weightBits < 3 ? 2 : weightBits < 5 ? 4 : 8, 1]),
      )
      assert.equal(report.tensors.filter((t) => t.storage === 'nbits').length, 3)
    }
})

test('products that round their inputs are near, and the target measures which of the two is faster', async () => {
  const model = net()
  const context = { calibration: data }
  await runPass(
    model,
    'quantize',
    { ops, weightBits: 4, activationBits: 0, firstLayer: 'quantize', weightGroup: 32 },
    context,
  )
  const { model: file } = await exportModel(model, { format: 'weight-only', roundInputs: true })
  const products = [...file.graph.nodes()].filter((n) => n.domain === 'com.microsoft')
  assert.ok(products.length === 3 && products.every((n) => n.int('accuracy_level', 0) === 4))
  const [got, want] = [await outputOf(file), await outputOf(model)]
  const largest = want.reduce((m, x) => Math.max(m, Math.abs(x)), 0)
  const error = want.reduce((m, x, i) => Math.max(m, Math.abs(x - got[i]!)), 0)
  assert.ok(error > 0 && error < 0.05 * largest, `${error / largest}`)
  const { picked } = await exportFor(model, { target: 'weight-only' })
  assert.deepEqual(
    picked!.tried.map((t) => [t.form, t.refused, t.timed?.length]),
    [
      ['--format weight-only', null, 1],
      ['--format weight-only --round-inputs', null, 1],
    ],
  )
  await assert.rejects(exportModel(model, { format: 'packed', roundInputs: true }), {
    blame: 'user',
    message: /--round-inputs requires --format weight-only/,
  })
})

test('layers with quantised inputs and grouped weights compute the same in integer files', async () => {
  const model = net()
  await runPass(model, 'quantize', { ops, weightBits: 4, activationBits: 8, weightGroup: 16 }, { calibration: data })
  const want = await outputOf(model)
  for (const format of ['packed', 'int4', 'int8'] as const)
    assertSame(await outputOf((await exportModel(model, { format })).model), want, format)
  const { model: pairs, report } = await exportModel(model, { format: 'qdq' })
  assertSame(await outputOf(pairs), want, 'qdq')
  assert.match(report.left.largest[0]!.reason, /scales for groups of weights/)
})

test('convolutions keep a scale a channel; sizes that no kernel takes are refused', async () => {
  const graph = new Graph('net')
  const b = graph.append()
  const x = graph.addInput('x', { elem: 'float32', dims: [1, 64, 1, 1] })
  const w = b.initializer(
    'w',
    Tensor.float32(
      [3, 64, 1, 1],
      new Float32Array(192).map((_, i) => Math.sin(i)),
    ),
  )
  graph.addOutput(b.op('Conv', [x, w], {}, { name: 'conv' }))
  const model = new Model(graph)
  model.opsets.set('', 21)
  const bits = { ops, weightBits: 4, activationBits: 0 }
  await runPass(model, 'quantize', { ...bits, weightGroup: 16 })
  const { quant } = weightLayers(model.graph)[0]!
  assert.deepEqual([quant!.axis, quant!.block], [0, 0])
  for (const [options, message] of [
    [{ weightGroup: 48 }, /--weight-group=48 must be a power of two from 16 to 256/],
    [{ weightGroup: 8 }, /--weight-group=8 must be/],
    [{ weightGroup: 32, granularity: 'tensor' }, /exclude each other/],
  ] as const)
    await assert.rejects(
      runPass(net(), 'quantize', { ...bits, ...options }),
      (e: unknown) => e instanceof MncError && e.blame === 'user' && message.test(e.message),
    )
})
