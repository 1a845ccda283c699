/** How an int8 file lays out residual connections and narrow convolutions: the same numbers, in other places. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { ExportOptions } from '../../src/export/export-options.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { Dim } from '../../src/graph/types.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { score } from '../../src/score/score.ts'
import { Net, type NetOptions, noise } from './nets.ts'

const image = (seed: number, size = 12): Tensor => {
  const r = noise(seed)
  return Tensor.float32([2, 3, size, size], Float32Array.from({ length: 6 * size * size }, r))
}

interface Shape extends NetOptions {
  readonly width?: number
  readonly size?: number
  readonly dims?: readonly Dim[]
  /** Convolutions of a block. */
  readonly convolutions?: number
  /** Without ReLU: activations below zero everywhere. */
  readonly linear?: boolean
  /** The image is quantised too. */
  readonly input?: boolean
  /** The Pad names its axis. */
  readonly axes?: boolean
}

/** Stem, two blocks; one with half the rows and twice the channels behind a Slice and Pad; one behind a 1x1 convolution. */
function residual(shape: Shape = {}): Model {
  const {
    width = 8,
    size = 12,
    dims,
    convolutions = 2,
    linear = false,
    axes = false,
    input = false,
    ...options
  } = shape
  const n = new Net(5, options)
  const { b } = n
  const relu = (v: Value): Value => (linear ? v : n.relu(v))
  const x = n.model.graph.addInput('x', { elem: 'float32', dims: dims ?? [2, 3, size, size] })
  let r = relu(n.conv(input ? n.act(x) : x, 'stem', 3, width, 3, { bias: true }))
  const block = (name: string, from: number, to: number, stride: number, shortcut: Value): void => {
    let y = r
    for (let i = 0; i < convolutions; i++) {
      const first = i === 0
      y = n.conv(n.act(y), `${name}.${i}`, first ? from : to, to, 3, first ? { stride } : {})
      if (i < convolutions - 1) y = relu(y)
    }
    r = relu(b.op('Add', [y, shortcut]))
  }
  block('a', width, width, 1, r)
  block('b', width, width, 1, r)
  const every = b.op('Slice', [r, b.ints([0, 0]), b.ints([2 ** 31, 2 ** 31]), b.ints([2, 3]), b.ints([2, 2])])
  const half = width / 2
  const pads = axes ? [b.ints([half, half]), null, b.ints([1])] : [b.ints([0, half, 0, 0, 0, half, 0, 0])]
  block('c', width, 2 * width, 2, b.op('Pad', [every, ...pads]))
  block('d', 2 * width, 3 * width, 2, n.conv(n.act(r), 'd.s', 2 * width, 3 * width, 1, { stride: 2 }))
  return n.finish(n.conv(n.act(r), 'last', 3 * width, 4, 1))
}

async function quantised(shape: Shape = {}): Promise<Model> {
  const model = residual(shape)
  const calibration = {
    async *batches() {
      yield { x: image(1, shape.size) }
    },
  }
  await runPass(model, 'quantize-outputs', {}, { calibration })
  return model
}

async function run(m: Model, optimization: 'disabled' | 'all', size?: number): Promise<Float32Array> {
  const session = await ortExecutor().load(m, { optimization })
  const out = await session.run({ x: image(2, size) })
  await session.dispose()
  return Object.values(out)[0]!.toFloat32()
}

/** A value close to the middle of two levels may take the other one: means are compared. */
async function assertSame(m: Model, source: Model, label: string, size?: number): Promise<void> {
  const want = await run(source, 'disabled', size)
  const largest = want.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
  assert.ok(largest > 0.5, `${label}: nothing to compare`)
  for (const level of ['disabled', 'all'] as const) {
    const got = await run(m, level, size)
    const mean = want.reduce((s, v, i) => s + Math.abs(v - got[i]!), 0) / want.length
    assert.ok(mean <= 0.01 * largest, `${label}, ${level}: ${mean} of ${largest}`)
  }
}

const int8 = async (m: Model, options: ExportOptions = {}): Promise<Model> =>
  (await exportModel(m, { format: 'int8', ...options })).model

test('options of int8 files are refused for the others', async () => {
  for (const options of [{ rowPairs: true }, { format: 'int4', packedWeights: true }] as const)
    await assert.rejects(exportModel(residual(), options), { blame: 'user', message: /requires --format int8/ })
})

test('scales with one dim', async () => {
  const source = await quantised()
  for (const n of source.graph.nodes()) {
    const step = n.op === 'QuantizeLinear' ? n.input(1) : null
    if (step?.constant?.size === 1) step.setConstant(step.constant.reshape([1]))
  }
  await assertSame(await int8(source, { rowPairs: true }), source, 'scales with one dim')
})

test('a Pad that names its axes, and is not a shortcut, after a sum', async () => {
  const n = new Net(5)
  const { b } = n
  const x = n.input([2, 3, 12, 12])
  let r = n.relu(n.conv(n.act(x), 'stem', 3, 8, 3))
  r = n.relu(b.op('Add', [n.conv(n.act(r), 'a', 8, 8, 3), r]))
  const odd = b.op('Slice', [r, b.ints([1, 1]), b.ints([12, 12]), b.ints([2, 3]), b.ints([2, 2])])
  const wide = b.op('Pad', [odd, b.ints([4, 4]), null, b.ints([-3])])
  r = n.relu(b.op('Add', [n.conv(n.act(r), 'c', 8, 16, 3, { stride: 2 }), wide]))
  const source = n.finish(n.conv(n.act(r), 'last', 16, 4, 1))
  const batches = async function* () {
    yield { x: image(1) }
  }
  await runPass(source, 'quantize-outputs', {}, { calibration: { batches } })
  await assertSame(await int8(source), source, 'pad')
})

/** Kernel heights of the convolutions, in graph order. */
const heights = (m: Model): number[] =>
  [...m.graph.nodes()].flatMap((n) => (n.op === 'Conv' ? [n.ints('kernel_shape', [])[0]!] : []))

test('sums, shortcuts and values with two steps become integer kernels without transpositions', async () => {
  const source = await quantised()
  const m = await int8(source)
  await assertSame(m, source, 'int8')
  const { layers, ops } = await explainKernels(m)
  assert.deepEqual(
    layers.map((l) => l.kernel),
    [null, ...Array<string>(9).fill('QLinearConv'), null],
  )
  // nine layers and the shortcut; four sums; three layers read what sums read, with another step
  assert.deepEqual([ops.QLinearConv, ops.QLinearAdd], [10, 7])
  assert.ok((ops.Transpose ?? 0) <= 2, `${ops.Transpose} transpositions, not one in and one out`)
  assert.deepEqual([ops.Slice, ops.Pad], [undefined, undefined])
})

test('the score of the file is that of the quantised network', async () => {
  const source = await quantised()
  const layers = async (m: Model) =>
    (await score(m)).layers.flatMap((l) => (l.macs > 0 ? [[l.macs, l.weightBits, l.activationBits]] : []))
  const want = await layers(source)
  assert.equal(want.length, 11)
  assert.deepEqual(await layers(await int8(source)), want)
})

test('narrow convolutions take two rows at once', async () => {
  const source = await quantised()
  const plain = await int8(source)
  const m = await int8(source, { rowPairs: true })
  await assertSame(m, source, 'pairs')
  assert.deepEqual(await run(m, 'disabled'), await run(plain, 'disabled'))
  // the stem writes pairs, four convolutions keep them, the first of c and its shortcut read them
  assert.deepEqual(heights(m).slice(0, 7).sort(), [1, 2, 2, 2, 2, 2, 4])
  const { layers, ops } = await explainKernels(m)
  assert.equal(layers.filter((l) => l.kernel).length, 9)
  assert.ok((ops.Transpose ?? 0) <= 2, `${ops.Transpose} transpositions, not one in and one out`)
  const packed = await int8(source, { rowPairs: true, packedWeights: true })
  assert.deepEqual(await run(packed, 'all'), await run(m, 'all'))
})

for (const [label, shape, pairs] of [
  ['a batch of any size', { dims: ['batch', 3, 12, 12] }, true],
  ['signed activations', { signedActivations: true }, true],
  ['8-bit activations', { activationBits: 8 }, true],
  ['activations below zero', { signedActivations: true, linear: true }, true],
  ['8-bit activations below zero', { signedActivations: true, activationBits: 8, linear: true }, true],
  ['a Pad that names its axis', { axes: true }, true],
  ['a quantised image', { input: true, activationBits: 8, signedActivations: true }, true],
  ['16 channels', { width: 16 }, true],
  ['20 channels', { width: 20 }, false],
  ['an odd number of rows', { size: 13 }, false],
  ['heights that the file leaves open', { dims: [2, 3, 'h', 12] }, false],
  ['a form that one convolution of a block turns', { convolutions: 1 }, false],
] as const satisfies [string, Shape, boolean][])
  test(`${label}: ${pairs ? 'pairs of rows' : 'rows as they are'}, same numbers`, async () => {
    const source = await quantised(shape)
    const size = 'size' in shape ? shape.size : undefined
    const m = await int8(source, { rowPairs: true })
    await assertSame(m, source, label, size)
    assert.equal(heights(m).includes(2), pairs)
  })
