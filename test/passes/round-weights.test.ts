/** round-weights on nets built here, its result measured by onnxruntime. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { evaluateConstants } from '../../src/layers/constants.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'
import { randomGraph } from '../support/random-graph.ts'
import { randomBatches } from './golden.ts'

const ops = ['Conv', 'ConvTranspose', 'Gemm', 'MatMul']

interface NetLayer {
  readonly op: string
  readonly weight: readonly number[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
}

const LAYERS: readonly NetLayer[] = [
  { op: 'Conv', weight: [6, 4, 3, 3], attributes: { pads: [1, 1, 1, 1] } },
  { op: 'Conv', weight: [6, 2, 3, 3], attributes: { group: 2, strides: [2, 2] } },
  { op: 'Conv', weight: [4, 1, 3, 3], attributes: { group: 4, dilations: [2, 2] } },
  { op: 'ConvTranspose', weight: [4, 5, 3, 3], attributes: { strides: [2, 2], pads: [1, 1, 1, 1] } },
  { op: 'ConvTranspose', weight: [4, 3, 2, 2], attributes: { group: 2 } },
  { op: 'MatMul', weight: [8, 5] },
]

/** One layer that reads the input, whose channels lean on each other. */
function oneLayer({ op, weight, attributes = {} }: NetLayer): Model {
  const graph = new Graph('net')
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 4, 8, 8] })
  const rng = new Rng(11)
  const b = graph.append()
  const values = Float32Array.from({ length: weight.reduce((p, q) => p * q, 1) }, () => rng.uniform(-1, 1))
  const y = b.op(op, [x, b.initializer('w', Tensor.float32(weight, values))], attributes, { name: 'layer' })
  graph.addOutput(y)
  const model = new Model(graph)
  model.opsets.set('', 21)
  return model
}

/** Batches of inputs whose elements are sums of neighbours'. */
function leaning(count: number): CalibrationData {
  const rng = new Rng(12)
  const batches = Array.from({ length: count }, () => {
    const values = new Float32Array(8 * 4 * 64)
    let last = 0
    for (let i = 0; i < values.length; i++) {
      last = 0.8 * last + rng.uniform(-0.5, 1)
      values[i] = last
    }
    return { x: Tensor.float32([8, 4, 8, 8], values) }
  })
  return {
    async *batches() {
      yield* batches
    },
  }
}

async function outputs(model: Model, data: CalibrationData): Promise<Float32Array[]> {
  const session = await ortExecutor().load(model, { threads: 1, optimization: 'disabled' })
  const out: Float32Array[] = []
  for await (const feeds of data.batches()) out.push(Object.values(await session.run(feeds))[0]!.toFloat32())
  await session.dispose()
  return out
}

const distance = (a: readonly Float32Array[], b: readonly Float32Array[]): number =>
  a.reduce((sum, x, i) => sum + x.reduce((s, v, k) => s + (v - b[i]![k]!) ** 2, 0), 0)

const SETTINGS: readonly { readonly options: Readonly<Record<string, unknown>>; readonly below: number }[] = [
  { options: { target: 'layer', biases: 'keep', steps: 'keep', sweeps: 0 }, below: 0.7 },
  { options: { target: 'layer', biases: 'keep' }, below: 0.5 },
  { options: {}, below: 0.35 },
  { options: { order: 'given', steps: 'weighted', damping: 0.1 }, below: 0.6 },
]

for (const layer of LAYERS)
  test(`${layer.op} ${layer.weight.join('x')}: outputs are nearer than with rounding to nearest`, async () => {
    const float = oneLayer(layer)
    for (const [granularity, activationBits] of [
      ['channel', 0],
      ['tensor', 6],
    ] as const)
      for (const { options, below } of SETTINGS) {
        const data = leaning(4)
        const plain = cloneModel(float)
        const bits = { ops, weightBits: 3, activationBits, firstLayer: 'quantize', granularity } as const
        await runPass(plain, 'quantize', bits, { calibration: data })
        const rounded = cloneModel(plain)
        const { changed } = await runPass(rounded, 'round-weights', options, { calibration: data })
        assert.ok(changed)
        const want = await outputs(float, data)
        const [before, after] = [
          distance(want, await outputs(plain, data)),
          distance(want, await outputs(rounded, data)),
        ]
        const what = `${JSON.stringify({ granularity, activationBits, ...options })}: ${(after / before).toFixed(3)}`
        assert.ok(after < before * Math.max(below, activationBits ? 0.75 : 0), what)
        await assertOnGrid(rounded, what)
      }
  })

/** What the quantiser makes of a weight, in onnxruntime, is the weight. */
async function assertOnGrid(model: Model, what: string): Promise<void> {
  for (const { quant, weight, mask, tensor } of weightLayers(model.graph)) {
    if (!quant) continue
    const out = (await evaluateConstants(model, [quant.dequantize.output])).get(quant.dequantize.output)!
    const kept = mask?.constant?.toFloat32()
    const source = weight.constant!.toFloat32().map((w, i) => w * (kept?.[i] ?? 1))
    assert.deepEqual(
      out.toFloat32().map((x) => x + 0),
      source.map((x) => x + 0),
      what,
    )
    assert.equal(tensor.dims.join(), out.dims.join())
  }
}

test('zeros of a mask stay, and others compensate for what was pruned if that is requested', async () => {
  const data = leaning(4)
  const float = oneLayer(LAYERS[0]!)
  const pruned = cloneModel(float)
  await runPass(pruned, 'prune', { ops, sparsity: 0.5 })
  await runPass(pruned, 'quantize', { ops, weightBits: 4, activationBits: 0 }, { calibration: data })
  const [zero, compensating] = [cloneModel(pruned), cloneModel(pruned)]
  await runPass(zero, 'round-weights', {}, { calibration: data })
  await runPass(compensating, 'round-weights', { pruned: 'compensate' }, { calibration: data })
  for (const m of [zero, compensating]) {
    await assertOnGrid(m, 'masked')
    const [layer] = weightLayers(m.graph)
    const mask = layer!.mask!.constant!.toFloat32()
    assert.equal(mask.filter((x) => x === 0).length, mask.length / 2)
    for (const [i, w] of layer!.tensor.toFloat32().entries()) if (mask[i] === 0) assert.equal(w + 0, 0)
  }
  const masked = cloneModel(float)
  await runPass(masked, 'prune', { ops, sparsity: 0.5 })
  const [dense, sparse] = [await outputs(float, data), await outputs(masked, data)]
  assert.ok(distance(sparse, await outputs(zero, data)) < 0.3 * distance(sparse, await outputs(pruned, data)))
  assert.ok(distance(dense, await outputs(compensating, data)) < 0.5 * distance(dense, await outputs(pruned, data)))
})

test('random networks: weights on the grid, the same bytes again, nothing in a second run', async () => {
  let rounded = 0
  for (let seed = 300; seed < 312; seed++) {
    const model = randomGraph(seed)
    const context = { calibration: randomBatches(model, 2) }
    await runPass(model, 'prune', { ops, sparsity: 0.25 })
    await runPass(model, 'quantize', { ops, weightBits: 4, activationBits: 8, calibration: 'max' }, context)
    const twin = cloneModel(model)
    const result = await runPass(model, 'round-weights', {}, context)
    await runPass(twin, 'round-weights', {}, context)
    assert.deepEqual(encodeModel(model), encodeModel(twin), `seed ${seed}`)
    rounded += weightLayers(model.graph).filter((l) => l.quant).length - result.declined.length
    const again = await runPass(model, 'round-weights', {}, context)
    assert.equal(again.changed, false)
    const session = await ortExecutor().load(model, { threads: 1 })
    await session.dispose()
  }
  assert.ok(rounded > 20, `${rounded} layers`)
})

test('after correct-bias it is too late', async () => {
  const [model, calibration] = [oneLayer(LAYERS[0]!), leaning(2)]
  await runPass(model, 'quantize', { ops, weightBits: 3, activationBits: 8 }, { calibration })
  await runPass(model, 'correct-bias', {}, { calibration })
  await assert.rejects(
    runPass(model, 'round-weights', {}, { calibration }),
    (e) => e instanceof MncError && e.code === 'pass-order' && e.blame === 'model',
  )
})

test('what is left, and why', async () => {
  const data = leaning(1)
  const reasonsFor = async (model: Model, options = {}): Promise<string[]> =>
    (await runPass(model, 'round-weights', options, { calibration: data })).declined.map((d) => d.reason)
  assert.deepEqual(await reasonsFor(oneLayer(LAYERS[0]!)), ['its weights have no quantiser'])
  const model = oneLayer(LAYERS[0]!)
  await runPass(model, 'quantize', { ops, weightBits: 4, activationBits: 0 })
  assert.match(
    (await reasonsFor(cloneModel(model), { largest: 35 }))[0]!,
    /sums of 36 products, more than --largest 35/,
  )
  assert.deepEqual(await reasonsFor(model), [])
  assert.deepEqual(await reasonsFor(model), ['its weights lie on the grid already'])
  await assert.rejects(
    runPass(oneLayer(LAYERS[0]!), 'round-weights', {}),
    (e) => e instanceof MncError && /needs data/.test(e.message),
  )
})
