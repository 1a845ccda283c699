/**
 * Arrays of the data as targets of outputs: losses and gradients against TensorFlow.js, and what is said before the first step
 * where names, shapes or numbers do not fit.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { ArraySet, type ColumnMap } from '../../src/data/index.ts'
import { memoryRows } from '../../src/data/rows.ts'
import { measure } from '../../src/evaluate/measure.ts'
import { metricNamed } from '../../src/evaluate/metrics/chosen.ts'
import type { Builder } from '../../src/graph/builder.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { type StartEvent, type StepEvent, train } from '../../src/train/loop/trainer.ts'
import { defineLoss, lossRegistry } from '../../src/train/losses.ts'
import type { TrainOptionsInput } from '../../src/train/train-options.ts'
import { Sink } from '../cli/sink.ts'
import { tf } from '../ops/tfjs.ts'
import { npy, npz } from '../support/data-files.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-targets-'))
after(() => rmSync(scratch, { recursive: true }))

const [COUNT, INPUTS] = [12, 6]
const rng = new Rng(3)
const normals = (n: number): Float32Array => Float32Array.from({ length: n }, () => rng.normal(0, 0.7))
const x = Tensor.float32([COUNT, INPUTS], normals(COUNT * INPUTS))

/** A head: its features, and what is done with them. */
interface Head {
  readonly width: number
  readonly dims: readonly number[]
  readonly softmax?: boolean
}

const heads: Readonly<Record<string, Head>> = {
  numbers: { width: 2, dims: [2] },
  one: { width: 1, dims: [1] },
  share: { width: 3, dims: [3], softmax: true },
  kind: { width: 4, dims: [4] },
  tokens: { width: 15, dims: [5, 3] },
  map: { width: 12, dims: [3, 2, 2] },
}
const weights = Object.fromEntries(
  Object.entries(heads).map(([name, { width }]) => [name, Tensor.float32([INPUTS, width], normals(INPUTS * width))]),
)

function network(names: readonly string[]): Model {
  const model = new Model(new Graph('net'), 21)
  const { graph } = model
  const input = graph.addInput('x', { elem: 'float32', dims: ['n', INPUTS] })
  const b = graph.append()
  for (const name of names) {
    const { dims, softmax } = heads[name]!
    const features = b.op('MatMul', [input, b.initializer(`w_${name}`, weights[name]!)])
    const shaped = dims.length > 1 ? b.op('Reshape', [features, b.ints([-1, ...dims])]) : features
    const type = { elem: 'float32', dims: ['n', ...dims] } as const
    graph.addOutput(b.op(softmax ? 'Softmax' : 'Identity', [shaped], softmax ? { axis: 1 } : {}, { name, type }))
  }
  return model
}

const classes = (dims: readonly number[], count: number, least = 0): Tensor => {
  const size = dims.reduce((a, b) => a * b)
  return Tensor.int64(
    dims,
    Array.from({ length: size }, () => least + rng.integer(count - least)),
  )
}
const probabilities = (): Tensor => {
  const rows = Array.from({ length: COUNT }, () => {
    const e = [1, 2, 3].map(() => Math.exp(rng.normal(0, 1)))
    return e.map((v) => v / (e[0]! + e[1]! + e[2]!))
  })
  return Tensor.float32([COUNT, 3], rows.flat())
}
const wanted: Readonly<Record<string, Tensor>> = {
  numbers: Tensor.float32([COUNT, 2], normals(COUNT * 2)),
  one: Tensor.float32([COUNT], normals(COUNT)),
  share: probabilities(),
  kind: classes([COUNT], 4),
  tokens: classes([COUNT, 5], 3, -1),
  map: classes([COUNT, 2, 2], 3),
}

function setOf(arrays: Readonly<Record<string, Tensor>>, map?: ColumnMap): ArraySet {
  const columns = Object.entries(arrays).map(([name, t]) => ({
    ...{ name, elem: t.type, dims: t.dims.slice(1), file: `${name}.npy` },
    rows: memoryRows(t.bytes, t.bytes.length / t.dims[0]!),
  }))
  return ArraySet.of({ name: 'arrays', split: 'train', columns, map })
}

const plain: TrainOptionsInput = {
  ...{ batch: COUNT, maxSteps: 1, optimizer: 'sgd', lr: 0.5, momentum: 0, weightDecay: 0, nesterov: false },
  schedule: 'constant',
}

/** One step over all samples: the loss, each output's share, and what the weights became. */
async function step(model: Model, set: ArraySet, options: TrainOptionsInput, teacher?: Model) {
  const own = cloneModel(model)
  let start: StartEvent | undefined
  let done: StepEvent | undefined
  const run = { data: set, options: { ...plain, ...options }, ...(teacher && { teacher: { model: teacher } }) }
  await train(own, run, (event) => {
    if (event.kind === 'start') start = event
    if (event.kind === 'step') done = event
  })
  return { model: own, start: start!, done: done! }
}

type Reckon = (y: ReturnType<typeof tf.tensor>) => ReturnType<typeof tf.tensor>

const table = (name: string) => {
  const t = wanted[name]!
  return tf.tensor(Array.from(t.toNumbers(), Number), [...t.dims], t.type === 'int64' ? 'int32' : 'float32')
}
/** Cross entropy over the last axis, of positions whose class is not negative. */
function sparse(y: ReturnType<typeof tf.tensor>, name: string) {
  const index = table(name)
  const known = tf.cast(tf.greaterEqual(index, 0), 'float32')
  const hot = tf.oneHot(tf.cast(tf.maximum(index, 0), 'int32'), y.shape.at(-1)!)
  const own = tf.sum(tf.mul(hot, tf.logSoftmax(y)), -1)
  return tf.neg(tf.div(tf.sum(tf.mul(own, known)), tf.sum(known)))
}
const difference = (y: ReturnType<typeof tf.tensor>, name: string) => tf.sub(y, tf.reshape(table(name), y.shape))

/** By output and loss: what TensorFlow.js makes of the features. */
const oracle: Readonly<Record<string, Reckon>> = {
  'numbers mse': (y) => tf.mean(tf.square(difference(y, 'numbers'))),
  'numbers l1': (y) => tf.mean(tf.abs(difference(y, 'numbers'))),
  'one mse': (y) => tf.mean(tf.square(difference(y, 'one'))),
  'one l1': (y) => tf.mean(tf.abs(difference(y, 'one'))),
  'share mse': (y) => tf.mean(tf.square(difference(tf.softmax(y), 'share'))),
  'share ce': (y) => tf.neg(tf.mean(tf.sum(tf.mul(table('share'), tf.logSoftmax(y)), -1))),
  'kind ce': (y) => sparse(y, 'kind'),
  'tokens ce': (y) => sparse(tf.reshape(y, [COUNT, 5, 3]), 'tokens'),
  'map ce': (y) => sparse(tf.transpose(tf.reshape(y, [COUNT, 3, 2, 2]), [0, 2, 3, 1]), 'map'),
  'numbers log-cosh': (y) => tf.mean(tf.log(tf.cosh(difference(y, 'numbers')))),
} as const

/** Loss and gradient of the weights by TensorFlow.js. */
function reckoned(name: string, loss: string): { loss: number; gradient: Float32Array } {
  const w = tf.tensor2d(weights[name]!.toFloat32(), [INPUTS, heads[name]!.width])
  const inputs = tf.tensor2d(x.toFloat32(), [COUNT, INPUTS])
  const { value, grad } = tf.valueAndGrad((v) => tf.sum(oracle[`${name} ${loss}`]!(tf.matMul(inputs, v as typeof w))))(
    w,
  )
  return { loss: value.dataSync()[0]!, gradient: grad.dataSync() as Float32Array }
}

function near(got: number, want: number, what: string): void {
  assert.ok(Math.abs(got - want) <= 2e-5 * Math.max(1, Math.abs(want)), `${what}: ${got}, wanted ${want}`)
}

function checkWeights(model: Model, name: string, gradient: Float32Array, factor = 1): void {
  const got = model.graph.find(`w_${name}`)!.constant!.toFloat32()
  const before = weights[name]!.toFloat32()
  for (let i = 0; i < got.length; i++) near(got[i]!, before[i]! - 0.5 * factor * gradient[i]!, `w_${name}[${i}]`)
}

for (const [name, loss, given] of [
  ['numbers', 'mse', undefined],
  ['numbers', 'l1', 'l1'],
  ['one', 'mse', 'mse'],
  ['one', 'l1', { one: 'l1' }],
  ['share', 'mse', undefined],
  ['share', 'ce', 'ce'],
  ['kind', 'ce', undefined],
  ['tokens', 'ce', undefined],
  ['map', 'ce', undefined],
] as const)
  test(`${name} by ${loss}${given ? '' : ', the default'}: loss and gradient are TensorFlow.js's`, async () => {
    const { model, done, start } = await step(network([name]), setOf({ x, [name]: wanted[name]! }), { loss: given })
    const want = reckoned(name, loss)
    near(done.loss, want.loss, 'loss')
    checkWeights(model, name, want.gradient)
    assert.deepEqual(
      start.objectives.map((l) => l.loss),
      [loss],
    )
  })

test('several outputs at once, with weights, losses by name, and accumulated gradients', async () => {
  const names = Object.keys(heads)
  const set = setOf({ x, ...wanted })
  const options = { loss: { numbers: 'l1' }, lossWeight: { tokens: 0.25, map: 0 } }
  const losses = { numbers: 'l1', one: 'mse', share: 'mse', kind: 'ce', tokens: 'ce' } as const
  const factor = (name: string): number => (name === 'tokens' ? 0.25 : 1)
  const { model, done } = await step(network(names), set, options)
  let total = 0
  for (const [name, loss] of Object.entries(losses)) {
    const want = reckoned(name, loss)
    near(done.losses![name]!, factor(name) * want.loss, name)
    checkWeights(model, name, want.gradient, factor(name))
    total += factor(name) * want.loss
  }
  near(done.loss, total, 'loss')
  assert.deepEqual(model.graph.find('w_map')!.constant!.toFloat32(), weights.map!.toFloat32())
  // a mean over equal parts; positions that do not count differ between parts, so not for tokens
  const parts = await step(network(['numbers', 'kind']), set, {
    batch: COUNT / 3,
    accumulate: 3,
    loss: { numbers: 'l1' },
  })
  for (const name of ['numbers', 'kind'] as const)
    checkWeights(parts.model, name, reckoned(name, losses[name]).gradient)
})

test('a loss of the user’s own; labels beside arrays; a teacher beside arrays', async () => {
  const logCosh = defineLoss({
    name: 'log-cosh',
    summary: 'log cosh of the difference',
    emit: (b: Builder, s: Value, t: Value) =>
      b.op('ReduceMean', [b.op('Log', [b.op('Cosh', [b.op('Sub', [s, t])])])], { keepdims: 0 }),
  })
  lossRegistry.use([logCosh])
  const numbers = { x, numbers: wanted.numbers! }
  const own = await step(network(['numbers']), setOf(numbers), { loss: 'log-cosh' })
  const want = reckoned('numbers', 'log-cosh')
  near(own.done.loss, want.loss, 'loss')
  checkWeights(own.model, 'numbers', want.gradient)
  lossRegistry.use([])

  const labelled = await step(network(['numbers', 'kind']), setOf({ ...numbers, labels: wanted.kind! }), {})
  near(labelled.done.losses!.kind!, reckoned('kind', 'ce').loss, 'labels')
  near(labelled.done.losses!.numbers!, reckoned('numbers', 'mse').loss, 'array')
  assert.ok(labelled.done.top1 !== null)

  const teacher = network(['numbers'])
  for (const [alpha, share] of [
    [1, 0],
    [0.25, 0.75],
  ] as const) {
    const taught = await step(network(['numbers']), setOf(numbers), { loss: 'mse', alpha }, teacher)
    // the teacher gives what the student gives
    near(taught.done.loss, share * reckoned('numbers', 'mse').loss, 'loss')
    checkWeights(taught.model, 'numbers', reckoned('numbers', 'mse').gradient, share)
  }
})

test('what does not fit is said before the first step, with the file’s name', async () => {
  const bad = Tensor.float32([COUNT, 2], Array(COUNT * 2).fill(1))
  bad.view('float32')[7] = Number.NaN
  const cases: readonly [string, Readonly<Record<string, Tensor>>, readonly string[], TrainOptionsInput, RegExp][] = [
    [
      'shape',
      { numbers: wanted.share! },
      ['numbers'],
      {},
      /numbers\.npy: 'numbers' has the shape \[samples, 3\], but output 'numbers' is \[12, 2\]/,
    ],
    [
      'name',
      { boxes: wanted.numbers!, more: wanted.one! },
      ['numbers'],
      {},
      /arrays has no labels.*arrays boxes, more are for none of the outputs numbers.*--map numbers=boxes/s,
    ],
    [
      'loss of nothing',
      { numbers: wanted.numbers! },
      ['numbers', 'one'],
      { loss: { one: 'l1' } },
      /--loss one=l1 compares 'one' with a teacher, or with an array.*--map one=ARRAY; there are arrays for numbers/s,
    ],
    [
      'kl',
      { numbers: wanted.numbers! },
      ['numbers'],
      { loss: 'kl' },
      /numbers\.npy: 'numbers' is an array of the data, and kl compares/,
    ],
    [
      'no classes',
      { one: wanted.one! },
      ['one'],
      { loss: 'ce' },
      /cannot be compared by ce: output 'one' \[12, 1\] has no classes/,
    ],
    [
      'a class too large',
      { kind: Tensor.int64([COUNT], Array(COUNT).fill(4)) },
      ['kind'],
      {},
      /kind\.npy: 'kind' is 4 in sample 0, but output 'kind' with 4 classes takes .* to 3/,
    ],
    ['not finite', { numbers: bad }, ['numbers'], {}, /numbers\.npy: 'numbers' is NaN in sample 3/],
  ]
  for (const [what, arrays, outputs, options, reason] of cases) {
    const training = step(network(outputs), setOf({ x, ...arrays }), options)
    await assert.rejects(
      training,
      (e: unknown) => e instanceof MncError && e.blame === 'user' && reason.test(`${e.message} ${e.next}`),
      `${what}: ${await training.catch((e: Error) => e.message)}`,
    )
  }
  const { start } = await step(
    network(['numbers', 'one']),
    setOf({ x, numbers: wanted.numbers!, odd: wanted.kind! }),
    {},
  )
  assert.match(start.warnings.join(), /arrays that no output is named after are not used: odd/)
})

test('mnc train learns from an archive of arrays, and eval measures what is left', async () => {
  const truth = normals(INPUTS * 2)
  const count = 256
  const inputs = normals(count * INPUTS)
  const y = Float32Array.from({ length: count * 2 }, (_, i) => {
    let sum = 0
    for (let k = 0; k < INPUTS; k++) sum += inputs[Math.floor(i / 2) * INPUTS + k]! * truth[k * 2 + (i % 2)]!
    return sum
  })
  const at = (name: string): string => join(scratch, name)
  writeFileSync(at('d.npz'), npz({ x: npy(inputs, [count, INPUTS]), goal: npy(y, [count, 2]) }))
  await writeModel(network(['numbers']), at('m.onnx'))
  const mnc = async (...args: string[]) => {
    const [out, err] = [new Sink(), new Sink()]
    const exit = await runCommandLine(args, { stdout: out, stderr: err })
    return { exit, out: out.text, err: err.text }
  }
  const data = ['--data', `npz:${at('d.npz')}`, '--map', 'numbers=goal']
  const trained = await mnc(
    'train',
    at('m.onnx'),
    ...data,
    '--epochs',
    '30',
    '--batch',
    '32',
    '--lr',
    '0.3',
    '-o',
    at('t.onnx'),
  )
  assert.equal(trained.exit, 0, trained.err)
  const measured = await mnc('--json', 'eval', at('t.onnx'), ...data, '--metric', 'mse')
  const before = await mnc('--json', 'eval', at('m.onnx'), ...data, '--metric', 'mse')
  const mse = ({ out }: { out: string }): number => JSON.parse(out).metrics.mse.value
  assert.ok(mse(measured) < 1e-3 * mse(before), `${mse(before)} to ${mse(measured)}`)
  assert.ok(readFileSync(at('t.onnx')).length > 0)
})

test('the part held out is measured by --metric, mse by default; the best epoch is the best by it', async () => {
  const set = setOf({ x, numbers: wanted.numbers! })
  const scores = async (options: TrainOptionsInput, best: (values: number[]) => number): Promise<void> => {
    const values: number[] = []
    const own = network(['numbers'])
    // steps that are too long: epochs get better and worse
    const all = { ...plain, maxSteps: undefined, batch: 3, epochs: 6, lr: 0.6, valFraction: 0.25, ...options }
    const summary = await train(own, { data: set, options: all }, (e) => {
      if (e.kind !== 'epoch') return
      assert.deepEqual([e.valTop1, e.valLoss, e.valMetric?.name], [null, null, options.metric ?? 'mse'])
      values.push(e.valMetric!.value)
    })
    assert.equal(summary.valMetric!.value, best(values))
    assert.equal(summary.bestEpoch, values.indexOf(best(values)))
    const { validation } = set.splitValidation(0.25, 0)
    const name = options.metric ?? 'mse'
    const again = await measure(own, validation, undefined, [metricNamed(name)])
    assert.equal(again.metrics[name]!.value, best(values))
  }
  await scores({}, (v) => Math.min(...v))
  await scores({ metric: 'psnr' }, (v) => Math.max(...v))
  const fails = (options: TrainOptionsInput, reason: RegExp): Promise<void> =>
    assert.rejects(step(network(['numbers']), set, { batch: 3, ...options }), (e: MncError) =>
      reason.test(`${e.message} ${e.next}`),
    )
  await fails({ metric: 'mse' }, /--metric mse is measured on a part of the data that is held out add --val-fraction/)
  await fails({ metric: 'msee', valFraction: 0.25 }, /there is no metric 'msee' did you mean 'mse'/)
  await fails({ metric: 'accuracy', valFraction: 0.25 }, /has no labels to measure accuracy with/)
})

test('a recipe trains on arrays, and its stages are measured by the metrics that it names', async () => {
  const at = (name: string): string => join(scratch, name)
  await writeModel(network(['numbers']), at('r.onnx'))
  writeFileSync(
    at('r.npz'),
    npz({ x: npy(x.toFloat32(), [COUNT, INPUTS]), numbers: npy(wanted.numbers!.toFloat32(), [COUNT, 2]) }),
  )
  const stages = [
    { name: 'float', from: at('r.onnx'), train: { epochs: 2, batch: 4, lr: 0.1 } },
    { name: 'psnr', from: 'float', eval: { metric: ['psnr', 'cosine'] } },
  ]
  writeFileSync(at('r.json'), JSON.stringify({ name: 'r', data: `npz:${at('r.npz')}`, stages }))
  const [out, err] = [new Sink(), new Sink()]
  const exit = await runCommandLine(['--json', 'run', at('r.json'), '--workdir', at('work')], {
    stdout: out,
    stderr: err,
  })
  assert.equal(exit, 0, err.text)
  const [float, psnr] = JSON.parse(out.text).stages
  assert.deepEqual([Object.keys(float.metrics.metrics), float.metrics.eval], [['mse'], null])
  assert.deepEqual(Object.keys(psnr.metrics.metrics), ['psnr', 'cosine'])
  const { metrics } = await measure(
    await readModel(at('work/float.onnx')),
    setOf({ x, numbers: wanted.numbers! }),
    undefined,
    [metricNamed('mse')],
  )
  assert.equal(float.metrics.metrics.mse.value, metrics.mse!.value)
  assert.match(err.text, /mse \d/)
  const dry = [new Sink(), new Sink()] as const
  const args = ['--json', 'run', at('r.json'), '--workdir', at('dry'), '--dry-run']
  assert.equal(await runCommandLine(args, { stdout: dry[0], stderr: dry[1] }), 0, dry[1].text)
})
