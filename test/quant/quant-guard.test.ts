/** What quantising writes loads in onnxruntime and computes what the graph says at every optimisation level. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { randomBatches, randomFeeds, relativeError } from '../passes/golden.ts'
import { widest } from '../support/cut-off.ts'
import { randomGraph } from '../support/random-graph.ts'

const LEVELS = ['disabled', 'basic', 'extended', 'all'] as const
const ops = ['Conv', 'ConvTranspose', 'Gemm', 'MatMul']

async function outputs(model: Model, optimization: (typeof LEVELS)[number], fused = true) {
  const config = fused ? {} : { config: { 'session.disable_quant_qdq': '1' } }
  const session = await ortExecutor().load(model, { optimization, threads: 1, ...config })
  try {
    return await session.run(randomFeeds(model, 1))
  } finally {
    await session.dispose()
  }
}

/** Loads at all levels, and is within `tolerance` there, unless float rounding alone is not. */
async function assertLevels(model: Model, tolerance: number, what: string): Promise<void> {
  const want = await outputs(model, 'disabled')
  for (const level of LEVELS.slice(1)) {
    const error = relativeError(want, await outputs(model, level))
    if (error <= tolerance) continue
    assert.ok(relativeError(want, await outputs(model, level, false)) > tolerance, `${what}, ${level}: ${error}`)
  }
}

const settings: readonly { options: Record<string, unknown>; tolerance: number; outputs?: number }[] = [
  // rounding flips no level here, or does so without the engine's own rewrites too
  { options: {}, tolerance: 1e-4 },
  { options: { firstLayer: 'quantize', signedInputs: 'symmetric' }, tolerance: 1e-4 },
  { options: { activationBits: 0 }, tolerance: 1e-4 },
  { options: { weightBits: 2, activationBits: 0, granularity: 'tensor' }, tolerance: 1e-4 },
  { options: { weightBits: 3, activationBits: 5, signedInputs: 'symmetric' }, tolerance: 1e-4 },
  { options: { weightBits: 4, activationBits: 8 }, tolerance: 1e-4 },
  { options: {}, outputs: 4, tolerance: 1e-4 },
  // integer kernels: a step of 8 bits here and there
  { options: { weightBits: widest, activationBits: 8, firstLayer: 'quantize' }, tolerance: 0.03 },
  { options: { weightBits: widest, activationBits: 8, signedInputs: 'symmetric' }, tolerance: 0.03 },
  { options: { weightBits: widest, activationBits: 8, firstLayer: 'quantize' }, outputs: 8, tolerance: 0.03 },
]

const SEEDS = 7
for (const { options, tolerance, outputs } of settings)
  test(`random models quantised with ${JSON.stringify({ ...options, outputs })}`, async () => {
    let quantised = 0
    for (let seed = 100; seed < 100 + SEEDS; seed++) {
      const model = randomGraph(seed)
      const context = { calibration: randomBatches(model, 1) }
      await runPass(model, 'quantize', { ops, calibration: 'max', ...options }, context)
      if (outputs) await runPass(model, 'quantize-outputs', { bits: outputs }, context)
      if (!outputs || [...model.graph.nodes()].some((n) => n.metadata.has('mnc.output'))) quantised++
      await assertLevels(model, tolerance, `seed ${seed}`)
    }
    assert.ok(quantised > 0)
  })

/** A layer, what `between` puts behind it, and a layer that reads that. */
function twoLayers(op: 'Conv' | 'MatMul', between: (x: Value) => Value, seed = 1): Model {
  const rng = new Rng(seed)
  const graph = new Graph('two')
  const b = graph.append()
  const floats = (name: string, dims: number[], size = 1) =>
    b.initializer(
      name,
      Tensor.float32(
        dims,
        Float32Array.from({ length: dims.reduce((n, d) => n * d, 1) }, () => rng.uniform(-size, size)),
      ),
    )
  const conv = op === 'Conv'
  const x = graph.addInput('x', { elem: 'float32', dims: conv ? ['N', 4, 6, 6] : ['N', 6, 16] })
  const layer = (v: Value, name: string): Value =>
    conv
      ? b.op('Conv', [v, floats(`${name}.w`, [4, 4, 3, 3], 0.4), floats(`${name}.b`, [4])], { pads: [1, 1, 1, 1] })
      : b.op('MatMul', [v, floats(`${name}.w`, [16, 16], 0.5)])
  const y = layer(between(layer(x, 'first')), 'second')
  y.setType({ elem: 'float32', dims: null })
  graph.addOutput(y)
  return new Model(graph, 17)
}

const behind: Readonly<Record<string, (x: Value) => Value>> = {
  nothing: (x) => x,
  Relu: (x) => x.graph.append().op('Relu', [x]),
  'Clip without a maximum': (x) => x.graph.append().op('Clip', [x, x.graph.append().scalar(-0.5)]),
  'Clip without a minimum': (x) => x.graph.append().op('Clip', [x, null, x.graph.append().scalar(1)]),
  'Clip with limits in Constant nodes': (x) => {
    const b = x.graph.append()
    const limit = (v: number): Value => b.op('Constant', [], { value: Tensor.scalar(v) })
    return b.op('Clip', [x, limit(0), limit(6)])
  },
  'Clip, then Transpose twice': (x) => {
    const b = x.graph.append()
    const turn = (v: Value): Value => b.op('Transpose', [v], { perm: [0, 2, 1] })
    const flat = b.op('Reshape', [b.op('Clip', [x, null, b.scalar(1)]), b.ints([0, 4, -1])])
    const like = b.op('Shape', [x])
    return b.op('Reshape', [turn(turn(flat)), like])
  },
}

const WIDTHS = [
  [4, 3],
  [4, 4],
  [4, 8],
  [3, 8],
  [widest, 6],
  [widest, 8],
  [widest, 0],
] as const

for (const [name, between] of Object.entries(behind))
  test(`two layers with ${name} between, at every width`, async () => {
    for (const op of ['Conv', 'MatMul'] as const) {
      if (op === 'MatMul' && name.includes('Transpose')) continue
      for (const [k, [weightBits, activationBits]] of WIDTHS.entries()) {
        const signedInputs = k % 2 ? 'symmetric' : 'zero-point'
        const model = twoLayers(op, between)
        const options = {
          ops,
          weightBits,
          activationBits,
          signedInputs,
          firstLayer: 'quantize',
          calibration: 'max',
        } as const
        await runPass(model, 'quantize', options, { calibration: randomBatches(model, 1) })
        const tolerance = weightBits === widest && activationBits === 8 ? 0.03 : 1e-4
        await assertLevels(model, tolerance, `${op} W${weightBits}A${activationBits} ${signedInputs}`)
      }
    }
  })

test('a bias that is not a 32-bit multiple of the scales of a channel stays float', async () => {
  for (const size of [1e-3, 1e-6, 1e-10]) {
    const model = twoLayers('Conv', (x) => x)
    const w = model.graph.find('first.w')!
    w.setConstant(
      Tensor.float32(
        w.constant!.dims,
        w.constant!.toFloat32().map((v, i) => (i < 36 ? v * size : v)),
      ),
    )
    const options = { weightBits: widest, activationBits: 8, firstLayer: 'quantize' } as const
    await runPass(model, 'quantize', options, { calibration: randomBatches(model, 1) })
    await assertLevels(model, 0.03, `weights of ${size}`)
  }
})

const relu = (x: Value): Value => x.graph.append().op('Relu', [x])
const turned = (x: Value): Value => x.graph.append().op('Transpose', [x], { perm: [0, 1, 3, 2] })
const clip =
  (low: number, high: number) =>
  (x: Value): Value =>
    x.graph.append().op('Clip', [x, x.graph.append().scalar(low), x.graph.append().scalar(high)])

/** Operators for which onnxruntime has an integer kernel. */
const withKernels: Readonly<Record<string, (x: Value) => Value>> = {
  Softmax: (x) => x.graph.append().op('Softmax', [x], { axis: -1 }),
  Sigmoid: (x) => x.graph.append().op('Sigmoid', [x]),
  LeakyRelu: (x) => x.graph.append().op('LeakyRelu', [x], { alpha: 0.3 }),
  AveragePool: (x) => x.graph.append().op('AveragePool', [x], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
  Add: (x) => x.graph.append().op('Add', [x, x.graph.append().op('Sigmoid', [x])]),
  Mul: (x) => x.graph.append().op('Mul', [x, x.graph.append().op('Sigmoid', [x])]),
  Concat: (x) => x.graph.append().op('Concat', [x, x], { axis: 2 }),
}

for (const [name, between] of Object.entries(withKernels))
  test(`${name} between quantisers rounds to the nearest level at every width`, async () => {
    for (const bits of [4, 6, 8]) {
      const model = twoLayers('Conv', between)
      const context = { calibration: randomBatches(model, 1) }
      const options = {
        ops,
        activationBits: bits,
        weightBits: widest,
        firstLayer: 'quantize',
        calibration: 'max',
      } as const
      await runPass(model, 'quantize', options, context)
      await runPass(model, 'quantize-outputs', { bits }, context)
      const [want, got] = [await outputs(model, 'disabled'), await outputs(model, 'all')]
      const [x, y] = [want, got].map((o) => Object.values(o)[0]!.toFloat32()) as [Float32Array, Float32Array]
      const largest = x.reduce((m, v) => Math.max(m, Math.abs(v)), 0)
      const error = Math.sqrt(x.reduce((s, v, i) => s + (v - y[i]!) ** 2, 0) / x.length) / largest
      assert.ok(error < 3e-4, `${bits} bits: ${error}`)
    }
  })

const limits: Readonly<Record<string, readonly ((x: Value) => Value)[]>> = {
  'two ReLUs': [relu, relu],
  'Clip, then ReLU': [clip(-1, 6), relu],
  'two Clips': [clip(-1, 6), clip(0, 5)],
  'a Clip behind': [clip(-0.1, 5)],
  'ReLUs around a transposition': [relu, turned, relu],
  'Clip, ReLU, and a transposition': [clip(-1, 6), relu, turned],
}

for (const [name, steps] of Object.entries(limits))
  test(`operators with integer kernels and ${name}`, async () => {
    for (const [kernel, between] of Object.entries(withKernels)) {
      const model = twoLayers('Conv', (x) => steps.reduce((v, step) => step(v), between(x)))
      const context = { calibration: randomBatches(model, 1) }
      await runPass(model, 'quantize', { ops, weightBits: widest, activationBits: 8, calibration: 'max' }, context)
      await runPass(model, 'quantize-outputs', {}, context)
      await assertLevels(model, 1e-3, kernel)
    }
  })
