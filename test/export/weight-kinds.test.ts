/**
 * Every kind of layer that holds weights, pruned and quantised by the passes and exported in every form: outputs are
 * those of the fake-quantised graph at all optimisation levels of onnxruntime, and `info` knows the widths.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { effectiveLayers } from '../../src/analysis/layers.ts'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import type { Model } from '../../src/graph/model.ts'
import { Model as NewModel } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { CalibrationData } from '../../src/passes/define-pass.ts'
import { pass } from '../../src/passes/manager.ts'
import { Rng } from '../../src/rng.ts'
import { ortExecutor } from '../../src/runtime/ort.ts'
import { score } from '../../src/score/score.ts'

interface Kind {
  readonly op: string
  /** Of the data; indices where the op looks rows up. */
  readonly data: readonly number[]
  readonly weights: readonly (readonly number[])[]
  readonly bias?: readonly number[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
  readonly outputs?: number
}

const H = 24
const recurrent = (op: string, gates: number, ways: number, more: Kind['attributes'] = {}): Kind => ({
  op,
  data: [5, 2, 16],
  weights: [
    [ways, gates * H, 16],
    [ways, gates * H, H],
  ],
  bias: [ways, 2 * gates * H],
  attributes: { hidden_size: H, ...(ways === 2 && { direction: 'bidirectional' }), ...more },
  outputs: op === 'LSTM' ? 3 : 2,
})

const kinds: Readonly<Record<string, Kind>> = {
  Conv: { op: 'Conv', data: [2, 8, 6, 6], weights: [[24, 8, 3, 3]], bias: [24] },
  ConvTranspose: { op: 'ConvTranspose', data: [2, 8, 4, 4], weights: [[8, 24, 2, 2]] },
  Gemm: { op: 'Gemm', data: [4, 40], weights: [[40, 30]], bias: [30] },
  'Gemm, transB': { op: 'Gemm', data: [4, 40], weights: [[30, 40]], bias: [30], attributes: { transB: 1 } },
  MatMul: { op: 'MatMul', data: [2, 3, 40], weights: [[40, 30]] },
  'MatMul in a batch': { op: 'MatMul', data: [2, 3, 20], weights: [[2, 20, 30]] },
  Gather: { op: 'Gather', data: [3, 4], weights: [[60, 20]] },
  LSTM: recurrent('LSTM', 4, 1),
  'LSTM, both ways': recurrent('LSTM', 4, 2),
  GRU: recurrent('GRU', 3, 1, { linear_before_reset: 1 }),
  'RNN, reverse': recurrent('RNN', 1, 1, { direction: 'reverse' }),
}

/** The layer between two cheap operators, so that it is neither input nor output itself. */
function netOf({ op, data, weights, bias, attributes = {}, outputs = 1 }: Kind, seed: number): Model {
  const model = new NewModel()
  const { graph } = model
  const b = graph.append()
  const rng = new Rng(seed)
  const draw = (dims: readonly number[], size: number): Tensor =>
    Tensor.float32(
      dims,
      Float32Array.from({ length: dims.reduce((a, d) => a * d, 1) }, () => rng.normal(0, size)),
    )
  const x = graph.addInput('x', { elem: op === 'Gather' ? 'int64' : 'float32', dims: data })
  const w = weights.map((dims, i) => b.initializer(`w${i}`, draw(dims, 0.3)))
  const more = bias ? [b.initializer('bias', draw(bias, 0.1))] : []
  const inputs = op === 'Gather' ? [...w, x] : [b.op('Neg', [x]), ...w, ...more]
  const made = b.ops(op, inputs, outputs, attributes, { name: 'layer' })
  for (const v of made) graph.addOutput(b.op('Neg', [v]))
  return model
}

function feedsOf({ op, data, weights }: Kind, seed: number): Record<string, Tensor> {
  const rng = new Rng(seed, 3)
  const n = data.reduce((a, d) => a * d, 1)
  const values = Array.from({ length: n }, () => (op === 'Gather' ? rng.integer(weights[0]![0]!) : rng.normal()))
  return { x: Tensor.from(op === 'Gather' ? 'int64' : 'float32', data, values) }
}

const levels = ['disabled', 'basic', 'extended', 'all'] as const

async function outputsOf(model: Model, feeds: Record<string, Tensor>, optimization: (typeof levels)[number]) {
  const session = await ortExecutor().load(model, { optimization })
  try {
    return Object.values(await session.run(feeds)).map((t) => t.toFloat32())
  } finally {
    await session.dispose()
  }
}

function farthest(got: readonly Float32Array[], want: readonly Float32Array[]): number {
  let [error, largest] = [0, 0]
  want.forEach((w, k) => {
    w.forEach((v, i) => {
      error = Math.max(error, Math.abs(v - got[k]![i]!))
      largest = Math.max(largest, Math.abs(v))
    })
  })
  assert.ok(largest > 0)
  return error / largest
}

const calibration = (kind: Kind): CalibrationData => ({
  async *batches() {
    for (let seed = 10; seed < 14; seed++) yield feedsOf(kind, seed)
  },
})

async function compressed(kind: Kind, width: number, activationBits: number, seed: number): Promise<Model> {
  const model = netOf(kind, seed)
  if (seed % 2 === 0) await pass(model, 'prune', { ops: [kind.op], sparsity: 0.6 })
  const options = { ops: [kind.op], weightBits: width, activationBits, firstLayer: 'quantize' }
  await pass(model, 'quantize', options, { calibration: calibration(kind) })
  return model
}

const forms = [
  { format: 'packed' },
  { format: 'int4' },
  { format: 'int8' },
  { format: 'int8', packedWeights: true },
] as const

const widths = [
  [2, 0],
  [3, 0],
  [4, 0],
  [4, 4],
  [5, 0],
  [8, 8],
] as const

for (const [name, kind] of Object.entries(kinds))
  test(`${name}: exported as it was quantised`, async () => {
    let seed = 0
    for (const [width, activationBits] of widths) {
      const model = await compressed(kind, width, activationBits, ++seed)
      const layers = await effectiveLayers(model)
      assert.deepEqual(
        layers.map((l) => [l.weightBits, l.valueBits]),
        kind.weights.map(() => [width, width]),
      )
      const feeds = feedsOf(kind, 20 + seed)
      const want = await outputsOf(model, feeds, 'disabled')
      for (const form of forms) {
        const what = `${JSON.stringify(form)}, ${width} bits, activations ${activationBits}`
        const { model: made, report } = await exportModel(model, form)
        assert.equal(report.left.weights, 0, what)
        const info = await modelInfo(made)
        assert.equal(info.layers.length, kind.weights.length, what)
        for (const l of info.layers) {
          const stored = report.tensors.find((t) => t.elements === l.weights)!
          const bits = { int4: 4, int8: 8, planes: width, packed: width, raw: 32 }[stored.storage]
          assert.deepEqual([l.weightBits, l.valueBits], [bits, width], `${what}: ${l.name} ${stored.storage}`)
        }
        const [scored] = (await score(made)).layers.filter((l) => l.op === kind.op)
        const [first] = info.layers
        assert.ok([first!.valueBits, first!.weightBits].includes(scored!.weightBits!), what)
        // where activations are rounded, a last place of a float may take the other level
        const bound = activationBits > 0 ? 0.02 : 1e-5
        for (const level of levels) {
          const error = farthest(await outputsOf(made, feeds, level), want)
          assert.ok(error < bound, `${what}, ${level}: ${error}`)
        }
      }
    }
  })
