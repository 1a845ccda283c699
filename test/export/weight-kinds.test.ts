/**
 * Every kind of layer that holds weights, pruned and quantised by the passes and exported in every form: outputs are
 * those of the fake-quantised graph at all optimisation levels of onnxruntime, and `info` knows the widths.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { effectiveLayers } from '../../src/analysis/layers.ts'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import type { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Model as NewModel } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementTypes } from '../../src/graph/types.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'
import { score } from '../../src/score/score.ts'

interface Kind {
  readonly op: string
  /** Of the data; indices where the op looks rows up. */
  readonly data: readonly number[]
  readonly weights: readonly (readonly number[])[]
  readonly bias?: readonly number[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
  readonly outputs?: number
  /** An operator between the stored weight and the layer. */
  readonly behind?: 'Transpose' | 'Unsqueeze'
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
  'MatMul of a transposed weight': { op: 'MatMul', data: [2, 3, 40], weights: [[30, 40]], behind: 'Transpose' },
  'square MatMul, transposed': { op: 'MatMul', data: [2, 3, 32], weights: [[32, 32]], behind: 'Transpose' },
  'Conv of a weight with an axis more': { op: 'Conv', data: [2, 8, 20], weights: [[24, 8]], behind: 'Unsqueeze' },
  Gather: { op: 'Gather', data: [3, 4], weights: [[60, 20]] },
  LSTM: recurrent('LSTM', 4, 1),
  'LSTM, both ways': recurrent('LSTM', 4, 2),
  GRU: recurrent('GRU', 3, 1, { linear_before_reset: 1 }),
  'RNN, reverse': recurrent('RNN', 1, 1, { direction: 'reverse' }),
}

/** The layer between two cheap operators, so that it is neither input nor output itself. */
function netOf(kind: Kind, seed: number): Model {
  const { op, data, weights, bias, attributes = {}, outputs = 1, behind } = kind
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
  const w = weights.map((dims, i) => {
    const stored = b.initializer(`w${i}`, draw(dims, 0.3))
    return behind ? b.op(behind, behind === 'Unsqueeze' ? [stored, b.ints([2])] : [stored]) : stored
  })
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
  const options = { ops: [kind.op], weightBits: width, activationBits, firstLayer: 'quantize' } as const
  await pass(model, 'quantize', options, { calibration: calibration(kind) })
  return model
}

const forms = [
  { format: 'packed' },
  { format: 'int4' },
  { format: 'int8' },
  { format: 'int8', packedWeights: true },
  { format: 'weight-only' },
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
        if (form.format === 'weight-only') {
          const given = await modelInfo(model)
          const counts = (i: typeof given) => [i.parameters, i.macs, ...i.layers.map((l) => [l.weights, l.macs])]
          assert.deepEqual(counts(info), counts(given), what)
        }
        assert.equal(info.layers.length, kind.weights.length, what)
        for (const l of info.layers) {
          const stored = report.tensors.find((t) => t.elements === l.weights)!
          const most = {
            int4: 4,
            int8: 8,
            nbits: width <= 2 ? 2 : width <= 4 ? 4 : 8,
            dense: width <= 4 ? 4 : width,
            sparse: width,
            float16: 16,
            fixed16: 16,
            fixed24: 24,
            raw: 32,
          }[stored.storage]
          const detail = `${what}: ${l.name} ${stored.storage}`
          assert.equal(l.valueBits, width, detail)
          // words of a prefix code take less, and no less than a bit
          const coded = form.format === 'packed' || 'packedWeights' in form
          assert.ok(l.weightBits <= most && l.weightBits >= (coded ? 1 : most), `${detail}: ${l.weightBits}`)
        }
        const [scored] = (await score(made)).layers.filter((l) => l.weights > 0)
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

test('a table that a layer reads too, transposed: both are quantised, in every form', async () => {
  const model = new NewModel()
  const { graph } = model
  const b = graph.append()
  const rng = new Rng(3)
  const x = graph.addInput('x', { elem: 'int64', dims: [2, 5] })
  const values = Float32Array.from({ length: 200 * 16 }, () => rng.normal(0, 0.3))
  const table = b.initializer('table', Tensor.float32([200, 16], values))
  const rows = b.op('Gather', [table, x], {}, { name: 'rows' })
  graph.addOutput(b.op('MatMul', [b.op('Tanh', [rows]), b.op('Transpose', [table])], {}, { name: 'scores' }))
  await pass(model, 'quantize', { ops: ['Gather', 'MatMul'], activationBits: 0 })
  const feeds = { x: Tensor.from('int64', [2, 5], [3, 1, 4, 1, 5, 9, 2, 6, 49, 0]) }
  const want = await outputsOf(model, feeds, 'disabled')
  for (const form of forms) {
    const { model: made, report } = await exportModel(model, form)
    assert.equal(report.left.weights, 0)
    assert.ok(report.bytes < encodeModel(model).length / 2, JSON.stringify(form))
    for (const level of levels) {
      const error = farthest(await outputsOf(made, feeds, level), want)
      assert.ok(error < 1e-5, `${JSON.stringify(form)}, ${level}: ${error}`)
    }
  }
})

test('widths of forms that other tools write', async () => {
  const rng = new Rng(8)
  const integers = (n: number, below: number): number[] => Array.from({ length: n }, () => rng.integer(below))
  const widths = async (make: (b: Builder) => Value): Promise<[number, number]> => {
    const model = new NewModel()
    const b = model.graph.append()
    const x = model.graph.addInput('x', { elem: 'float32', dims: [2, 32] })
    model.graph.addOutput(b.op('MatMul', [x, make(b)], {}, { name: 'layer' }))
    const [layer] = await effectiveLayers(model)
    return [layer!.weightBits, layer!.valueBits]
  }
  const shaped = (b: Builder, v: Value): Value => b.op('Reshape', [v, b.ints([32, 32])])
  const dims = [32, 32]
  const uint8 = (b: Builder) => b.initializer('w', Tensor.from('uint8', dims, integers(1024, 256)))
  const dequantised = (b: Builder, q: Value, zero: number) =>
    b.op('DequantizeLinear', [q, b.scalar(0.01), b.scalar(zero, 'uint8')])
  assert.deepEqual(await widths((b) => dequantised(b, uint8(b), 128)), [8, 8])
  const narrow = (b: Builder) =>
    b.initializer(
      'w',
      Tensor.from(
        'uint8',
        dims,
        integers(1024, 16).map((q) => q + 120),
      ),
    )
  assert.deepEqual(await widths((b) => dequantised(b, narrow(b), 128)), [8, 4], '4-bit values in bytes')
  const half = (b: Builder) =>
    b.initializer(
      'w',
      Tensor.from(
        'float16',
        dims,
        integers(1024, 999).map((q) => q / 999),
      ),
    )
  assert.deepEqual(await widths((b) => b.op('Cast', [half(b)], { to: elementTypes.float32.code })), [16, 16])
  const masked = (b: Builder): Value => {
    const w = b.initializer('w', Tensor.from('float32', dims, integers(1024, 999)))
    const mask = b.initializer('mask', Tensor.from('uint8', dims, integers(1024, 2)))
    return b.op('Mul', [w, b.op('Cast', [mask], { to: elementTypes.float32.code })])
  }
  assert.equal((await widths(masked))[0], 32, 'a mask is not the weight')
  const book = (b: Builder): Value => {
    const table = b.initializer('table', Tensor.from('float32', [16], integers(16, 999)))
    const stored = b.initializer('codes', Tensor.from('uint8', dims, integers(1024, 16)))
    return b.op('Gather', [table, b.op('Cast', [stored], { to: elementTypes.int64.code })])
  }
  assert.equal((await widths(book))[0], 8, 'codes of a table')
  const nibbles = (b: Builder): Value => {
    const bytes = b.initializer('w', Tensor.from('uint8', [512, 1], integers(512, 256)))
    const low = b.op('BitwiseAnd', [bytes, b.scalar(15, 'uint8')])
    const high = b.op('BitShift', [bytes, b.scalar(4, 'uint8')], { direction: 'RIGHT' })
    const both = b.op('Cast', [b.op('Concat', [low, high], { axis: 1 })], { to: elementTypes.float32.code })
    return b.op('Mul', [shaped(b, b.op('Sub', [both, b.scalar(8)])), b.scalar(0.1)])
  }
  assert.deepEqual(await widths(nibbles), [4, 4], 'two values a byte')
  const stacked = (b: Builder): Value => {
    const part = (name: string) => b.initializer(name, Tensor.from('int8', [16, 32], integers(512, 100)))
    const all = b.op('Concat', [part('a'), part('b')], { axis: 0 })
    return b.op('Mul', [b.op('Cast', [all], { to: elementTypes.float32.code }), b.scalar(0.1)])
  }
  assert.equal((await widths(stacked))[0], 8, 'parts that are stored apart')
})
