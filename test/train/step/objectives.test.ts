/**
 * The objective of each output of a model, against losses that are computed here from the student's and the teacher's
 * outputs in onnxruntime: several outputs of ranks 2 to 5, an integer one first, a softmax at other axes.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { MncError } from '../../../src/base/errors.ts'
import { Rng } from '../../../src/base/rng.ts'
import { writeModel } from '../../../src/codec/codec.ts'
import { runCommandLine } from '../../../src/commands/program.ts'
import { evaluate } from '../../../src/evaluate/evaluate.ts'
import type { Builder } from '../../../src/graph/builder.ts'
import { cloneModel } from '../../../src/graph/clone.ts'
import { Graph, type Value } from '../../../src/graph/graph.ts'
import { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { WORKING_OPSET } from '../../../src/ops/support/define-op.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { type BatchSource, randomSource } from '../../../src/train/loop/batch-source.ts'
import { measureVariances } from '../../../src/train/loop/teacher-variance.ts'
import { type StartEvent, type StepEvent, train } from '../../../src/train/loop/trainer.ts'
import type { LossName } from '../../../src/train/step/losses.ts'
import { hyperFeeds, optimizerDefaults } from '../../../src/train/step/optimizers.ts'
import { buildStep } from '../../../src/train/step/step-graph.ts'
import type { StepGraph, StepOptions } from '../../../src/train/step/step-options.ts'
import { StepRunner } from '../../../src/train/step/step-runner.ts'
import type { TrainOptionsInput } from '../../../src/train/train-options.ts'
import { Sink } from '../../cli/sink.ts'
import { images, linearModel, pixels, run, scratch } from '../fixtures.ts'

const at = scratch()
const INPUTS = 6

/** `heads` makes outputs by name out of the input x [n, 6] and a linear layer to any number of features. */
type Heads = (b: Builder, features: (count: number) => Value, x: Value) => Readonly<Record<string, Value>>

function network(seed: number, heads: Heads, open = true): Model {
  const model = new Model(new Graph('net'), WORKING_OPSET)
  const { graph } = model
  const rng = new Rng(seed)
  const x = graph.addInput('x', { elem: 'float32', dims: [open ? 'n' : 1, INPUTS] })
  const b = graph.append()
  let layers = 0
  const features = (count: number): Value => {
    const values = Array.from({ length: INPUTS * count }, () => rng.normal(0, 0.6))
    return b.op('MatMul', [x, b.initializer(`w${layers++}`, Tensor.float32([INPUTS, count], values))])
  }
  for (const [name, v] of Object.entries(heads(b, features, x))) {
    const integer = v.producer?.op === 'ArgMax'
    graph.addOutput(b.op('Identity', [v], {}, { name, type: { elem: integer ? 'int64' : 'float32', dims: null } }))
  }
  return model
}

const shaped = (b: Builder, v: Value, dims: readonly number[]): Value => b.op('Reshape', [v, b.ints([-1, ...dims])])

/** Every kind of output: an integer, width 1, boxes, a map, a volume, a softmax inside, scores that one reads. */
const many: Heads = (b, features) => {
  const scores = shaped(b, features(24), [8, 3])
  // read by nothing but this softmax, whose own result is not an output
  b.op('ReduceMax', [b.op('Softmax', [scores], { axis: 2 })])
  const image = b.op('Softmax', [shaped(b, features(24), [4, 2, 3])], { axis: 1 })
  return {
    best: b.op('ArgMax', [features(5)], { axis: 1 }),
    value: features(1),
    boxes: shaped(b, b.op('Mul', [features(32), b.scalar(50)]), [8, 4]),
    scores,
    map: b.op('Sigmoid', [shaped(b, features(12), [1, 3, 4])]),
    volume: shaped(b, features(12), [1, 2, 2, 3]),
    classes: b.op('Transpose', [image], { perm: [0, 2, 3, 1] }),
  }
}

type Outputs = Readonly<Record<string, Tensor>>

async function outputsOf(model: Model, x: Tensor): Promise<Outputs> {
  const session = await ortExecutor().load(model)
  try {
    return await session.run({ x })
  } finally {
    await session.dispose()
  }
}

/** Sums over the lines of a tensor along an axis: of what `line` makes of a student's and a teacher's line. */
function meanOverLines(s: Tensor, t: Tensor, axis: number, line: (s: number[], t: number[]) => number): number {
  const { dims } = s
  const count = dims[axis]!
  const stride = dims.slice(axis + 1).reduce((p, d) => p * d, 1)
  const [a, b] = [s.toNumbers(), t.toNumbers()]
  let [sum, lines] = [0, 0]
  for (let i = 0; i < s.size; i++) {
    if (Math.floor(i / stride) % count !== 0) continue
    const at = Array.from({ length: count }, (_, k) => i + k * stride)
    sum += line(
      at.map((k) => a[k]!),
      at.map((k) => b[k]!),
    )
    lines++
  }
  return sum / lines
}

const softmax = (v: readonly number[]): number[] => {
  const e = v.map((x) => Math.exp(x - Math.max(...v)))
  const sum = e.reduce((p, x) => p + x)
  return e.map((x) => x / sum)
}
const kl = (p: readonly number[], q: readonly number[]): number =>
  p.reduce((sum, x, i) => sum + x * Math.log(x / q[i]!), 0)

/** The divergence of scores, or of probabilities taken back to scores by a logarithm. */
function divergence(s: Tensor, t: Tensor, axis: number, T: number, loss: LossName, probabilities = false): number {
  const cool = (v: number[]): number[] => softmax(v.map((x) => (probabilities ? Math.log(x) : x) / T))
  return T * T * meanOverLines(s, t, axis, (a, b) => (loss === 'kl' ? kl(cool(b), cool(a)) : kl(cool(a), cool(b))))
}

function meanSquare(s: Tensor, t: Tensor): number {
  const [a, b] = [s.toNumbers(), t.toNumbers()]
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2 / a.length
  return sum
}

/** Over all elements of the batches that a run measures, in one list. */
function variance(parts: readonly Tensor[]): number {
  const all = parts.flatMap((t) => Array.from(t.toNumbers()))
  const mean = all.reduce((s, x) => s + x, 0) / all.length
  return all.reduce((s, x) => s + (x - mean) ** 2, 0) / all.length
}

interface Seen {
  readonly start: StartEvent
  readonly steps: readonly StepEvent[]
}

async function trained(student: Model, teacher: Model, options: TrainOptionsInput): Promise<Seen> {
  const events: (StartEvent | StepEvent)[] = []
  const own = { batch: 4, maxSteps: 1, optimizer: 'adamw', lr: 0.01, threads: 1, ...options } as const
  await train(cloneModel(student), { data: 'random', teacher: { model: teacher }, options: own }, (e) => {
    if (e.kind === 'start' || e.kind === 'step') events.push(e)
  })
  return { start: events[0] as StartEvent, steps: events.slice(1) as StepEvent[] }
}

/** The batches that a run on random inputs sees first. */
async function firstBatches(model: Model, batch: number, count: number): Promise<Tensor[]> {
  const source = await randomSource(model, { batch, parts: 1, seed: 0 })
  const out: Tensor[] = []
  for await (const { parts } of source.batches(0, count)) out.push(parts[0]!.images)
  return out
}

const near = (have: number, want: number, what: string, tolerance = 1e-4): void =>
  assert.ok(Math.abs(have - want) <= tolerance * Math.max(1e-3, Math.abs(want)), `${what}: ${have}, by hand ${want}`)

for (const batch of [1, 4, 7])
  test(`all float outputs are taught, each by what it is, batch ${batch}`, async () => {
    const [student, teacher] = [network(1, many), network(2, many)]
    const { start, steps } = await trained(student, teacher, { batch, temperature: 2 })
    const measured = await firstBatches(student, batch, Math.min(8, Math.ceil(64 / batch)))
    const [x] = measured as [Tensor]
    const [s, t] = [await outputsOf(student, x), await outputsOf(teacher, x)]
    const taught = await Promise.all(measured.map((v) => outputsOf(teacher, v)))
    const relative = (name: string): number => meanSquare(s[name]!, t[name]!) / variance(taught.map((o) => o[name]!))
    const want: Record<string, number> = {
      value: relative('value'),
      boxes: relative('boxes'),
      scores: divergence(s.scores!, t.scores!, 2, 2, 'reverse-kl'),
      map: relative('map'),
      volume: relative('volume'),
      classes: divergence(s.classes!, t.classes!, 3, 2, 'reverse-kl', true),
    }
    const [{ loss, losses, teacherEntropy }] = steps as [StepEvent]
    assert.deepEqual(Object.keys(losses!), Object.keys(want))
    for (const [name, value] of Object.entries(want)) near(losses![name]!, value, name)
    near(
      loss,
      Object.values(want).reduce((p, v) => p + v),
      'the sum',
    )
    assert.deepEqual(
      start.objectives.map((l) => [l.output, l.loss, l.axis, l.weight]),
      [
        ['value', 'nmse', null, 1],
        ['boxes', 'nmse', null, 1],
        ['scores', 'reverse-kl', 2, 1],
        ['map', 'nmse', null, 1],
        ['volume', 'nmse', null, 1],
        ['classes', 'reverse-kl', 3, 1],
      ],
    )
    const entropy = (v: Tensor, axis: number, probabilities: boolean): number =>
      meanOverLines(v, v, axis, (line) => {
        const p = softmax(line.map((z) => (probabilities ? Math.log(z) : z) / 2))
        return -p.reduce((sum, q) => sum + q * Math.log(q), 0) / Math.log(p.length)
      })
    near(teacherEntropy!, (entropy(t.scores!, 2, false) + entropy(t.classes!, 3, true)) / 2, 'entropy')
  })

test('a loss falls whatever the outputs', async () => {
  const [student, teacher] = [network(1, many), network(2, many)]
  const { steps } = await trained(student, teacher, { limit: 4, epochs: 40, maxSteps: 40, lr: 0.03 })
  for (const name of Object.keys(steps[0]!.losses!))
    assert.ok(steps.at(-1)!.losses![name]! < 0.5 * steps[0]!.losses![name]!, name)
})

test('one float output: scores where it can be such, else the squared error over the variance', async () => {
  const objective = async (heads: Heads, options: TrainOptionsInput = {}) => {
    const { start, steps } = await trained(network(1, heads), network(2, heads), options)
    assert.ok(steps[0]!.loss > 0)
    const [{ loss, axis }] = start.objectives as [StartEvent['objectives'][number]]
    assert.equal(steps[0]!.teacherEntropy !== undefined, axis !== null)
    assert.equal(steps[0]!.losses, undefined)
    return [loss, axis]
  }
  assert.deepEqual(await objective((_b, f) => ({ y: f(3) })), ['reverse-kl', 1])
  assert.deepEqual(await objective((_b, f) => ({ y: f(3) }), { loss: 'kl' }), ['kl', 1])
  assert.deepEqual(await objective((_b, f) => ({ y: f(1) })), ['nmse', null])
  assert.deepEqual(await objective((b, f) => ({ best: b.op('ArgMax', [f(2)], { axis: 1 }), y: f(2) })), [
    'reverse-kl',
    1,
  ])
  for (const op of ['Sigmoid', 'Tanh', 'LpNormalization'])
    assert.deepEqual(await objective((b, f) => ({ y: b.op(op, [f(3)]) })), ['nmse', null], op)
  assert.deepEqual(await objective((b, f) => ({ y: shaped(b, f(12), [4, 3]) })), ['nmse', null])
  assert.deepEqual(await objective((b, f) => ({ y: shaped(b, f(12), [4, 3]) }), { loss: 'kl' }), ['kl', 2])
  assert.deepEqual(await objective((b, f) => ({ y: shaped(b, f(12), [4, 3]) }), { lossAxis: { y: 1 } }), [
    'reverse-kl',
    1,
  ])
  assert.deepEqual(await objective((b, f) => ({ y: shaped(b, f(24), [3, 2, 4]) }), { loss: { y: 'kl' } }), ['kl', 1])
  const flattened: Heads = (b, f) => ({
    y: b.op('Flatten', [b.op('Softmax', [b.op('Identity', [shaped(b, f(5), [5, 1, 1])])], { axis: 1 })]),
  })
  assert.deepEqual(await objective(flattened), ['reverse-kl', 1])
  await assert.rejects(
    objective((_b, f) => ({ y: f(1) }), { loss: 'kl' }),
    /'y' is \[4, 1\]: there are no classes/,
  )
})

test('either of the two networks tells that an output is scores', async () => {
  const plain: Heads = (b, f) => ({ y: shaped(b, f(12), [4, 3]), z: f(2) })
  const ended: Heads = (b, f) => ({ y: b.op('Softmax', [shaped(b, f(12), [4, 3])], { axis: 1 }), z: f(2) })
  for (const [own, other] of [
    [plain, ended],
    [ended, plain],
  ] as const) {
    const [student, teacher] = [network(1, own), network(2, other)]
    const { start, steps } = await trained(student, teacher, { temperature: 1 })
    assert.deepEqual(
      start.objectives.map((l) => [l.loss, l.axis]),
      [
        ['reverse-kl', 1],
        ['nmse', null],
      ],
    )
    const [x] = (await firstBatches(student, 4, 1)) as [Tensor]
    const [s, t] = [await outputsOf(network(1, plain), x), await outputsOf(network(2, plain), x)]
    near(steps[0]!.losses!.y!, divergence(s.y!, t.y!, 1, 1, 'reverse-kl'), 'y')
  }
})

test('losses, weights and axes by name', async () => {
  const [student, teacher] = [network(1, many), network(2, many)]
  const options = {
    temperature: 3,
    loss: { boxes: 'l1', 'v*': 'mse', map: 'kl', classes: 'mse' },
    lossWeight: { boxes: 0.25, volume: 0, scores: 3 },
    lossAxis: { map: -1, scores: 1 },
  } as const
  const { start, steps } = await trained(student, teacher, options)
  const [x] = (await firstBatches(student, 4, 1)) as [Tensor]
  const [s, t] = [await outputsOf(student, x), await outputsOf(teacher, x)]
  const distance = (name: string): number => {
    const [a, b] = [s[name]!.toNumbers(), t[name]!.toNumbers()]
    return Array.from(a, (v, i) => Math.abs(v - b[i]!)).reduce((p, v) => p + v) / a.length
  }
  const { losses, loss } = steps[0]!
  near(losses!.boxes!, 0.25 * distance('boxes'), 'boxes')
  near(losses!.value!, meanSquare(s.value!, t.value!), 'value')
  near(losses!.map!, divergence(s.map!, t.map!, 3, 3, 'kl'), 'map')
  near(losses!.scores!, 3 * divergence(s.scores!, t.scores!, 1, 3, 'reverse-kl'), 'scores')
  assert.ok(!('volume' in losses!))
  near(
    loss,
    Object.values(losses!).reduce((p, v) => p + v),
    'the sum',
  )
  assert.deepEqual(
    start.objectives.map((l) => l.weight),
    [1, 0.25, 3, 1, 1],
  )
})

test('options that make no sense are refused', async () => {
  const [student, teacher] = [network(1, many), network(2, many)]
  const refuse = (options: TrainOptionsInput, message: RegExp, next = /./, own = student, other = teacher) =>
    assert.rejects(trained(own, other, options), (e: MncError) => {
      assert.match(e.message, message)
      assert.match(e.next ?? '', next)
      assert.notEqual(e.blame, 'pass')
      return true
    })
  await refuse({ loss: { boxs: 'mse' } }, /no float output matches 'boxs'/, /did you mean 'boxes'/)
  await refuse({ loss: { best: 'mse' } }, /no float output matches 'best'/)
  await refuse({ lossWeight: { nothing: 2 } }, /no float output matches 'nothing'/)
  await refuse({ lossWeight: { '*': 0 } }, /leaves all outputs out/)
  await refuse({ lossAxis: { boxes: 1.5 } }, /boxes=1.5 is not an axis/)
  await refuse({ lossAxis: { boxes: 4 } }, /--loss-axis boxes=4: the output is \[4, 8, 4\]/)
  await refuse({ lossAxis: { map: 1 } }, /--loss-axis map=1: the output is \[4, 1, 3, 4\]/)
  await refuse({ loss: { value: 'kl' } }, /'value' is \[4, 1\]/)
  await refuse({ loss: { scores: 'ce' } }, /random inputs have no labels/)
  const plain: Heads = (_b, f) => ({ a: f(2), c: f(3) })
  await refuse({ loss: 'kl' }, /no output is known to be one/, /--loss a=kl/, network(1, plain), network(2, plain))
  const two = network(2, (_b, f) => ({ a: f(2) }))
  await refuse({}, /no float output that corresponds to the student's 'c'/, /--loss-weight c=0/, network(1, plain), two)
  const { start } = await trained(network(1, plain), two, { lossWeight: { c: 0 } })
  assert.deepEqual(
    start.objectives.map((l) => l.output),
    ['a'],
  )
  const narrow: Heads = (_b, f) => ({ a: f(3), c: f(3) })
  await refuse(
    {},
    /'a': the student returns \[4, 2\] but the teacher \[4, 3\]/,
    /./,
    network(1, plain),
    network(2, narrow),
  )
})

test('partners have the same name, else the same place among what is left', async () => {
  const teacher = network(2, (b, f) => {
    const [a, c, d] = [f(2), f(3), f(4)]
    return { index: b.op('ArgMax', [c], { axis: 1 }), first: d, c, other: a }
  })
  const student = network(2, (_b, f) => {
    const [a, c, d] = [f(2), f(3), f(4)]
    return { c, mine: d, last: a }
  })
  const { steps } = await trained(student, teacher, { loss: 'mse' })
  assert.deepEqual(Object.keys(steps[0]!.losses!), ['c', 'mine', 'last'])
  assert.equal(steps[0]!.loss, 0)
})

/** One sample, over and over. */
function repeated(batch: number): BatchSource & { readonly images: Tensor } {
  const rng = new Rng(9)
  const row = Array.from({ length: INPUTS }, () => rng.normal())
  const images = Tensor.float32([batch, INPUTS], Array.from({ length: batch }, () => row).flat())
  const part = { images, labels: null }
  return {
    ...{ name: 'repeated', size: batch, classes: null, stepsPerEpoch: 1, batch, parts: 1, dims: {}, isDivisible: true },
    images,
    async *batches() {
      yield { step: 0, epoch: 0, parts: [part], count: batch }
    },
  }
}

async function stepOn(
  batch: number,
  more: Partial<StepOptions> = {},
): Promise<{ step: StepGraph; runner: StepRunner }> {
  const source = repeated(batch)
  const executor = ortExecutor()
  const options: StepOptions = {
    ...{ batch, alpha: 1, temperature: 2, optimizer: optimizerDefaults, batchStatistics: true, learnScales: false },
    teacher: {
      ...{ model: network(2, many), batchStatistics: false },
      variances: (part, name) => measureVariances(part, name, source, executor),
    },
    ...more,
  }
  const step = await buildStep(network(1, many), options, () => false)
  const runner = await StepRunner.create(step, executor, { threads: 1 })
  runner.loadFrom(network(1, many))
  return { step, runner }
}

const still = hyperFeeds(optimizerDefaults, 0, 0)

test('losses do not grow with the batch', async () => {
  const results: (readonly number[])[] = []
  for (const batch of [1, 4, 7]) {
    const { runner } = await stepOn(batch)
    results.push((await runner.step([{ images: repeated(batch).images, targets: null }], still)).losses!)
    await runner.dispose()
  }
  for (const losses of results)
    losses.forEach((l, i) => {
      near(l, results[0]![i]!, `output ${i}`, 1e-5)
    })
})

test('gradients are those of the loss: finite differences', async () => {
  const asked = { boxes: 'l1', map: 'kl', value: 'mse' } as const
  for (const more of [{}, { loss: asked, lossWeight: { scores: 2, boxes: 0.1 }, lossAxis: { map: 3 } }]) {
    const { runner, step } = await stepOn(4, more)
    const rng = new Rng(11)
    const images = Tensor.float32(
      [4, INPUTS],
      Array.from({ length: 4 * INPUTS }, () => rng.normal()),
    )
    const gradients = await runner.gradients(images, null, still)
    const weights = runner.vector('weights').slice()
    for (const entry of step.weights.entries) {
      const direction = Array.from({ length: entry.size }, () => rng.uniform(-1, 1))
      const lossAt = async (h: number): Promise<number> => {
        const moved = weights.slice()
        direction.forEach((d, i) => {
          moved[entry.offset + i]! += h * d
        })
        runner.setVector('weights', moved)
        return (await runner.step([{ images, targets: null }], still)).loss
      }
      const h = 2e-3
      const numeric = ((await lossAt(h)) - (await lossAt(-h))) / (2 * h)
      runner.setVector('weights', weights)
      const g = gradients.get(entry.name)!
      const analytic = direction.reduce((sum, d, i) => sum + d * g[i]!, 0)
      const scale = direction.reduce((sum, d, i) => sum + Math.abs(d * g[i]!), 1e-3)
      assert.ok(Math.abs(numeric - analytic) < 0.02 * scale, `${entry.name}: ${analytic}, differences say ${numeric}`)
    }
    await runner.dispose()
  }
})

test('a teacher that does not vary, and a network against itself', async () => {
  const flat: Heads = (b, _f, x) => ({
    y: b.op('Add', [b.op('Mul', [b.op('ReduceSum', [x, b.ints([1])], { keepdims: 1 }), b.scalar(0)]), b.scalar(3)]),
  })
  const { steps } = await trained(
    network(1, (_b, f) => ({ y: f(1) })),
    network(2, flat),
    {},
  )
  const [x] = (await firstBatches(network(1, many), 4, 1)) as [Tensor]
  const { y } = await outputsOf(
    network(1, (_b, f) => ({ y: f(1) })),
    x,
  )
  near(steps[0]!.loss, meanSquare(y!, Tensor.float32([4, 1], [3, 3, 3, 3])) / 9, 'over the mean square')
  const own = network(1, many)
  const itself = await trained(own, own, { loss: 'mse' })
  assert.ok(itself.steps[0]!.loss < 1e-12)
})

test('mixed precision, accumulation and double outputs', async () => {
  const [student, teacher] = [network(1, many), network(2, many)]
  const plain = await trained(student, teacher, { batch: 8 })
  const parts = await trained(student, teacher, { batch: 4, accumulate: 2 })
  assert.deepEqual(Object.keys(parts.steps[0]!.losses!), Object.keys(plain.steps[0]!.losses!))
  near(
    parts.steps[0]!.loss,
    Object.values(parts.steps[0]!.losses!).reduce((p, v) => p + v),
    'the sum',
  )
  const double = network(1, (_b, f) => ({ y: f(3), z: f(2) }))
  const b = double.graph.append()
  const [y, z] = [...double.graph.outputs] as [Value, Value]
  double.graph.removeOutput(z)
  double.graph.addOutput(b.op('Cast', [z], { to: 11 }, { name: 'zz', type: { elem: 'float64', dims: null } }))
  assert.equal(double.graph.outputs[0], y)
  const other = network(2, (_b, f) => ({ y: f(3), zz: f(2) }))
  const { steps } = await trained(double, other, { loss: 'mse' })
  assert.ok(steps[0]!.losses!.zz! > 0)
})

test('the command takes a loss for all or by name, and logs each output', async () => {
  const [student, teacher, out, log] = ['s.onnx', 't.onnx', 'o.onnx', 'l.jsonl'].map(at) as [
    string,
    string,
    string,
    string,
  ]
  await writeModel(network(1, many), student)
  await writeModel(network(2, many), teacher)
  const args = [
    'train',
    student,
    '--teacher',
    teacher,
    '--data',
    'random',
    '--batch',
    '4',
    '--max-steps',
    '2',
    '--threads',
    '1',
  ]
  const command = async (...more: string[]): Promise<{ code: number; err: string }> => {
    const [stdout, stderr] = [new Sink(), new Sink()]
    const code = await runCommandLine([...args, '-o', out, '--log', log, ...more], { stdout, stderr })
    return { code, err: stderr.text }
  }
  const named = await command(
    '--loss',
    'boxes=l1,v*=mse',
    '--loss',
    'map=kl',
    '--loss-axis',
    'map=3',
    '--loss-weight',
    'boxes=0.1',
  )
  assert.equal(named.code, 0, named.err)
  assert.match(
    named.err,
    /losses: value by mse, boxes by l1 times 0.1, scores by reverse-kl over axis 2, map by kl over axis 3/,
  )
  assert.doesNotMatch(named.err, /\d{3,} %/)
  const [first] = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((l) => JSON.parse(l)) as [StepEvent]
  assert.deepEqual(Object.keys(first.losses!), ['value', 'boxes', 'scores', 'map', 'volume', 'classes'])
  assert.equal((await command('--loss', 'mse')).code, 0)
  const wrong = await command('--loss', 'boxes=l3')
  assert.equal(wrong.code, 2)
  assert.match(wrong.err, /--loss must be one of ce, kl, reverse-kl, mse, nmse, l1/)
  assert.equal((await command('--loss', 'mean')).code, 2)
})

test('labels teach, and eval measures, the first output of scores, wherever it stands', async () => {
  const plain = linearModel()
  const beside = linearModel()
  const { graph } = beside
  const [logits] = graph.outputs as [Value]
  const b = graph.append()
  graph.removeOutput(logits)
  const best = b.op('ArgMax', [logits], { axis: 1, keepdims: 0 })
  graph.addOutput(b.op('Identity', [best], {}, { name: 'best', type: { elem: 'int64', dims: ['N'] } }))
  const first = b.op('Slice', [logits, b.ints([0]), b.ints([1]), b.ints([1])])
  graph.addOutput(b.op('Identity', [first], {}, { name: 'first', type: { elem: 'float32', dims: ['N', 1] } }))
  graph.addOutput(logits)
  const [want, have] = [await run(plain, { maxSteps: 4 }), await run(beside, { maxSteps: 4 })]
  assert.deepEqual(have.losses, want.losses)
  const [a, c] = [await evaluate(want.model, images(12), pixels), await evaluate(have.model, images(12), pixels)]
  assert.deepEqual([c.top1, c.loss], [a.top1, a.loss])
  const twice = await run(beside, { maxSteps: 1, loss: { logits: 'ce' }, lossWeight: { logits: 0.5 } })
  assert.ok(Math.abs(twice.losses[0]! - want.losses[0]! / 2) < 1e-6)
})
