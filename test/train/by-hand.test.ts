/**
 * The whole step against arithmetic written out here in double precision: a linear classifier, whose gradient is x^T of
 * the loss's derivative by the logits. Every loss, optimiser, schedule and way to take more images per step.
 */
import assert from 'node:assert/strict'
import test from 'node:test'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import type { Value } from '../../src/graph/graph.ts'
import { imageSource, type SourceBatch } from '../../src/train/loop/batch-source.ts'
import { learningRate, type ScheduleName } from '../../src/train/loop/schedule.ts'
import type { LossName } from '../../src/train/step/losses.ts'
import { temperatureWarning } from '../../src/train/temperature-warning.ts'
import type { TrainOptionsInput } from '../../src/train/train-options.ts'
import { CLASSES, images, linearModel, pixels, run, values } from './fixtures.ts'

const STEPS = 20
const BATCH = 6
type Matrix = number[][]

/** The batches of a run with the options that fixtures.ts gives. */
async function batchesOf(batch: number): Promise<{ x: Matrix; labels: number[] }[]> {
  const source = imageSource(images(60), pixels, { batch, parts: 1, seed: 0, augment: 'none', workers: 0 })
  const rows = ({ parts }: SourceBatch) => {
    const { images: t, labels } = parts[0]!
    const size = t.size / batch
    const flat = Array.from(t.view('float32'))
    return { x: Array.from({ length: batch }, (_, i) => flat.slice(i * size, (i + 1) * size)), labels: [...labels!] }
  }
  const out = []
  for await (const b of source.batches(0, STEPS)) out.push(rows(b))
  return out
}

const softmax = (row: readonly number[]): number[] => {
  const top = Math.max(...row)
  const e = row.map((v) => Math.exp(v - top))
  const sum = e.reduce((a, b) => a + b)
  return e.map((v) => v / sum)
}

interface Terms {
  readonly loss: LossName
  readonly alpha: number
  readonly temperature: number
  readonly labelSmoothing: number
}

/** Loss of one image and its derivative by the logits s; t: the teacher's. */
function lossOf(s: number[], t: number[], label: number, o: Terms): { loss: number; ds: number[] } {
  const q = softmax(s)
  const y = s.map((_, c) => (c === label ? 1 - o.labelSmoothing : 0) + o.labelSmoothing / s.length)
  const hard = { loss: -y.reduce((a, v, c) => a + v * Math.log(q[c]!), 0), ds: q.map((v, c) => v - y[c]!) }
  if (o.loss === 'ce') return hard
  const soft = against(s, t, o)
  return {
    loss: o.alpha * soft.loss + (1 - o.alpha) * hard.loss,
    ds: s.map((_, c) => o.alpha * soft.ds[c]! + (1 - o.alpha) * hard.ds[c]!),
  }
}

function against(s: number[], t: number[], { loss, temperature: T }: Terms): { loss: number; ds: number[] } {
  const n = s.length
  const mean = (v: number[]): number => v.reduce((a, b) => a + b) / n
  if (loss === 'mse')
    return { loss: mean(s.map((v, c) => (v - t[c]!) ** 2)), ds: s.map((v, c) => (2 * (v - t[c]!)) / n) }
  if (loss === 'l1')
    return { loss: mean(s.map((v, c) => Math.abs(v - t[c]!))), ds: s.map((v, c) => Math.sign(v - t[c]!) / n) }
  const [q, p] = [softmax(s.map((v) => v / T)), softmax(t.map((v) => v / T))]
  const divergence = (a: number[], b: number[]): number => a.reduce((sum, v, c) => sum + v * Math.log(v / b[c]!), 0)
  if (loss === 'kl') return { loss: T * T * divergence(p, q), ds: q.map((v, c) => T * (v - p[c]!)) }
  const kl = divergence(q, p)
  return { loss: T * T * kl, ds: q.map((v, c) => T * v * (Math.log(v / p[c]!) - kl)) }
}

interface Reference {
  readonly losses: number[]
  readonly weight: Matrix
  readonly bias: number[]
}

/** The run by hand. `group` batches make one update. */
async function byHand(options: TrainOptionsInput, teacherSeed: number, group = 1): Promise<Reference> {
  const { loss = 'ce', alpha = 1, temperature = 4, labelSmoothing = 0, weightDecay = 1e-4 } = options
  const { optimizer = 'sgd', momentum = 0.9, nesterov = false, clipNorm = 0, lr = 0.05, schedule = 'cosine' } = options
  const terms = { loss, alpha, temperature, labelSmoothing } as Terms
  const params = (seed: number): Matrix => {
    const m = linearModel(seed)
    const w = Array.from(values(m, 'weight'))
    const b = values(m, 'bias')
    const size = w.length / CLASSES
    return Array.from({ length: CLASSES }, (_, c) => [...w.slice(c * size, (c + 1) * size), b[c]!])
  }
  const forward = (w: Matrix, x: number[]): number[] =>
    w.map((row) => row.reduce((a, v, i) => a + v * (i < x.length ? x[i]! : 1), 0))
  const w = params(0)
  const taught = params(teacherSeed)
  const m = w.map((row) => row.map(() => 0))
  const v = w.map((row) => row.map(() => 0))
  const losses: number[] = []
  const steps = await batchesOf(BATCH * group)
  const { warmupSteps = 0, warmupFrom = 0.001, milestones = [0.5, 0.75], gamma = 0.1 } = options
  const totalSteps = STEPS
  steps.forEach(({ x, labels }, step) => {
    const g = w.map((row) => row.map(() => 0))
    let sum = 0
    x.forEach((image, i) => {
      const { loss: l, ds } = lossOf(forward(w, image), forward(taught, image), labels[i]!, terms)
      sum += l / x.length
      ds.forEach((d, c) => {
        for (let k = 0; k <= image.length; k++) g[c]![k]! += (d * (k < image.length ? image[k]! : 1)) / x.length
      })
    })
    losses.push(sum)
    const norm = Math.sqrt(g.flat().reduce((a, d) => a + d * d, 0))
    const clip = clipNorm > 0 ? Math.min(1, clipNorm / (norm + 1e-6)) : 1
    const rate = learningRate({ schedule, lr, totalSteps, warmupSteps, warmupFrom, milestones, gamma }, step)
    w.forEach((row, c) => {
      row.forEach((value, k) => {
        let d = g[c]![k]! * clip
        if (optimizer === 'sgd') {
          d += weightDecay * value
          m[c]![k] = momentum * m[c]![k]! + d
          row[k] = value - rate * (nesterov ? d + momentum * m[c]![k]! : m[c]![k]!)
        } else {
          m[c]![k] = momentum * m[c]![k]! + (1 - momentum) * d
          v[c]![k] = 0.999 * v[c]![k]! + 0.001 * d * d
          const mean = m[c]![k]! / (1 - momentum ** (step + 1))
          const root = Math.sqrt(v[c]![k]! / (1 - 0.999 ** (step + 1)))
          row[k] = value * (1 - rate * weightDecay) - (rate * mean) / (root + 1e-8)
        }
      })
    })
  })
  return { losses, weight: w.map((row) => row.slice(0, -1)), bias: w.map((row) => row.at(-1)!) }
}

function near(x: number, expected: number, tolerance = 1e-5): void {
  assert.ok(Math.abs(x - expected) <= tolerance, `${x}, by hand ${expected}`)
}

function allNear(list: ArrayLike<number>, expected: readonly number[], tolerance = 1e-5): void {
  assert.equal(list.length, expected.length)
  for (let i = 0; i < list.length; i++) near(list[i]!, expected[i]!, tolerance * Math.max(1, Math.abs(expected[i]!)))
}

async function compare(options: TrainOptionsInput, group = 1): Promise<void> {
  const teacher = options.loss && options.loss !== 'ce' ? { model: linearModel(7), preprocess: pixels } : undefined
  const epochs = (STEPS * BATCH * group) / 60
  const [own, reference] = [
    await run(linearModel(), { ...options, epochs }, { teacher }),
    await byHand(options, 7, group),
  ]
  assert.equal(own.losses.length, STEPS)
  allNear(own.losses, reference.losses)
  allNear(values(own.model, 'weight'), reference.weight.flat())
  allNear(values(own.model, 'bias'), reference.bias)
  assert.ok(own.losses.at(-1)! < own.losses[0]!)
}

const cases: Readonly<Record<string, TrainOptionsInput>> = {
  'cross entropy, sgd with momentum': { loss: 'ce', weightDecay: 0.01 },
  'label smoothing, Nesterov, linear schedule': { labelSmoothing: 0.1, nesterov: true, schedule: 'linear' },
  'kl at temperature 4, adamw, warm-up': { loss: 'kl', temperature: 4, optimizer: 'adamw', lr: 0.003, warmupSteps: 5 },
  'kl mixed with cross entropy, clipped': { loss: 'kl', temperature: 1, alpha: 0.7, clipNorm: 0.5 },
  'reverse kl at temperature 2, step schedule': { loss: 'reverse-kl', temperature: 2, schedule: 'step', gamma: 0.5 },
  'mse, constant rate': { loss: 'mse', schedule: 'constant', lr: 0.01, momentum: 0 },
  // not adamw: a gradient of signs can cancel to a rounding error, which Adam would normalise to a whole step
  'l1, Nesterov': { loss: 'l1', nesterov: true, lr: 0.002 },
}
for (const [name, options] of Object.entries(cases)) test(name, () => compare(options))

test('two batches accumulated are one of twice the size', () => compare({ accumulate: 2, epochs: 1 }, 2))

test('accumulation with adamw and clipping', () =>
  compare({ accumulate: 2, optimizer: 'adamw', lr: 0.003, clipNorm: 1 }, 2))

test('the first step says how undecided the teacher is', async () => {
  const teacher = { model: linearModel(7), preprocess: pixels }
  const { x } = (await batchesOf(BATCH))[0]!
  const size = x[0]!.length
  const [weight, bias] = [values(teacher.model, 'weight'), values(teacher.model, 'bias')]
  for (const temperature of [1, 4]) {
    const entropies = x.map((image) => {
      const scores = Array.from(bias, (b, c) => b + image.reduce((a, v, k) => a + v * weight[c * size + k]!, 0))
      return -softmax(scores.map((s) => s / temperature)).reduce((a, p) => a + p * Math.log(p), 0)
    })
    const expected = entropies.reduce((a, e) => a + e) / x.length / Math.log(CLASSES)
    for (const options of [{ loss: 'kl' }, { loss: 'reverse-kl', alpha: 0.5 }] as const) {
      const { events } = await run(linearModel(), { ...options, temperature, maxSteps: 2 }, { teacher })
      const [first, second] = events.flatMap((e) => (e.kind === 'step' ? [e.teacherEntropy] : []))
      near(first!, expected, 1e-5)
      assert.equal(second, undefined)
    }
  }
  const { events } = await run(linearModel(), { loss: 'mse', maxSteps: 1 }, { teacher })
  assert.ok(events.every((e) => !('teacherEntropy' in e)))
  assert.match(temperatureWarning(0.01)!, /nearly always certain.*raise --temperature/)
  assert.match(temperatureWarning(0.97)!, /nearly alike.*lower --temperature/)
  assert.equal(temperatureWarning(0.5), null)
})

test('rates at the corners of every schedule', () => {
  const o = { lr: 0.1, totalSteps: 100, warmupSteps: 20, warmupFrom: 0.001, milestones: [0.5, 0.75], gamma: 0.1 }
  const rates = (schedule: ScheduleName) => [0, 10, 20, 60, 80, 99].map((s) => learningRate({ ...o, schedule }, s))
  const expected: Record<ScheduleName, number[]> = {
    constant: [0.001, 0.0505, 0.1, 0.1, 0.1, 0.1],
    linear: [0.001, 0.0505, 0.1, 0.05, 0.025, 0.00125],
    step: [0.001, 0.0505, 0.1, 0.01, 0.001, 0.001],
    cosine: [0.001, 0.0505, 0.1, 0.05, 0.0146447, 3.85e-5],
  }
  for (const [name, list] of Object.entries(expected)) allNear(rates(name as ScheduleName), list, 1e-6)
})

test('a model that ends in Softmax or LogSoftmax is trained on, and measured by, its scores', async () => {
  const plain = await run(linearModel(), { maxSteps: 3 })
  const score = await evaluate(plain.model, images(12), pixels)
  for (const op of ['Softmax', 'LogSoftmax']) {
    const model = linearModel()
    const { graph } = model
    const [logits] = graph.outputs as [Value]
    graph.removeOutput(logits)
    const type = { elem: 'float32', dims: ['N', CLASSES] } as const
    const scores = graph.append().op(op, [logits], { axis: -1 })
    graph.addOutput(graph.append().op('Identity', [scores], {}, { name: 'scores', type }))
    const ended = await run(model, { maxSteps: 3 })
    allNear(ended.losses, plain.losses, 1e-6)
    near((await evaluate(ended.model, images(12), pixels)).loss, score.loss)
  }
})
