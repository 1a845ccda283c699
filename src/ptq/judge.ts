/**
 * How far a changed model is from the float one, on samples that nothing was fitted to. Of each float output (all at
 * temperature 1, by what training would compare, objectives.ts):
 *
 *   scores          mean over positions of  sum p (log p - log q),  p and q the float and the changed model's softmax
 *   anything else   sum (y' - y)^2 / sum (y - mean y)^2
 *
 * The distance is their sum: 0 for equal outputs. Labels are not read.
 *
 * Which of two models is nearer is decided sample by sample, on the same samples: the differences' mean has to be larger than
 * its standard error. The distance itself is a few samples' business where models are close, and moves with them.
 */
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementCount } from '../graph/types.ts'
import { useRunningStatistics } from '../layers/training-mode.ts'
import { removeDead } from '../passes/eliminate-dead.ts'
import { inlineFunctions } from '../passes/inline-functions.ts'
import type { LoadOptions } from '../runtime/executor.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import { runnable } from '../train/step/lift.ts'
import { decide, isDivergence, subjectsOf } from '../train/step/objectives.ts'
import type { Head } from '../train/step/outputs.ts'

/** The measure by which an output is judged. */
export interface Criterion {
  readonly output: string
  readonly loss: 'kl' | 'nmse'
  /** Of the classes; null for nmse. */
  readonly axis: number | null
}

/** How far a model is, and what each sample adds: `distance` is their mean. */
export interface Judgement {
  /** NaN where outputs are not finite. */
  readonly distance: number
  readonly each: Float64Array
}

/** Feeds of one run. */
export type Feeds = Readonly<Record<string, Tensor>>

/** Rows of weights folded at load: without it 4-bit weights are dequantised on every run. The numbers are the same. */
const LOAD: LoadOptions = { config: { 'session.disable_quant_qdq': '1' } }

/** Losses as training would choose them, and no temperature: what is judged is the output itself. */
const LOSSES = { loss: 'kl', alpha: 1, temperature: 1 } as const

export class Judge {
  readonly criteria: readonly Criterion[]
  /** The temperature at which the float model's distributions have something to teach: the least such one of 1, 2, 4, 8, 16. */
  readonly temperature: number
  readonly #batches: readonly Feeds[]
  readonly #wanted: readonly (readonly Tensor[])[]
  readonly #threads: number

  private constructor(
    criteria: readonly Criterion[],
    batches: readonly Feeds[],
    wanted: readonly (readonly Tensor[])[],
    threads: number,
  ) {
    this.criteria = criteria
    this.temperature = temperatureOf(criteria, wanted)
    this.#batches = batches
    this.#wanted = wanted
    this.#threads = threads
  }

  /** A model error where no output is a float that could be compared. */
  static async of(float: Model, batches: readonly Feeds[], threads = 0): Promise<Judge> {
    const compared = comparedOf(float)
    const criteria = await criteriaOf(comparedOf(float), batches[0]!, threads)
    return new Judge(criteria, batches, await outputsOf(compared, batches, threads), threads)
  }

  async judge(model: Model): Promise<Judgement> {
    const got = await outputsOf(comparedOf(model), this.#batches, this.#threads)
    const parts = this.criteria.map((criterion, k) => {
      const of = (runs: readonly (readonly Tensor[])[]): Tensor[] => runs.map((run) => run[k]!)
      const measure = criterion.axis === null ? squaredShare : divergence(criterion.axis)
      return measure(of(this.#wanted), of(got))
    })
    const each = sumOf(parts)
    return { distance: meanOf(each), each }
  }
}

/** Whether `now` is nearer to the float model than `before`, by more than chance; NaN is no distance. */
export function isNearer(now: Judgement, before: Judgement | null): boolean {
  if (before === null || Number.isNaN(before.distance)) return true
  if (before.each.length !== now.each.length) return now.distance < before.distance
  const gains = now.each.map((x, i) => before.each[i]! - x)
  const gain = meanOf(gains)
  const squares = gains.reduce((sum, x) => sum + (x - gain) ** 2, 0)
  const error = Math.sqrt(squares / Math.max(1, gains.length - 1) / gains.length)
  return gain > 0 && gain > error
}

const meanOf = (x: Float64Array): number => x.reduce((a, b) => a + b, 0) / x.length

/** What outputs add, by sample; in all where they do not agree on what a sample is. */
function sumOf(parts: readonly Float64Array[]): Float64Array {
  const isAlike = parts.every((p) => p.length === parts[0]!.length)
  const whole = isAlike ? parts : parts.map((p) => Float64Array.of(meanOf(p)))
  return whole[0]!.map((_, i) => whole.reduce((sum, p) => sum + p[i]!, 0))
}

/**
 * Entropy, as a fraction of what it can be, that a teacher's distributions are to have. One that is nearly certain tells little
 * but its choice; ResNet-20 on CIFAR-10 has 1 % at temperature 1.
 */
const ENTROPY = 0.1
const TEMPERATURES = [1, 2, 4, 8, 16] as const

function temperatureOf(criteria: readonly Criterion[], wanted: readonly (readonly Tensor[])[]): number {
  const scores = criteria.flatMap((c, k) =>
    c.axis === null ? [] : [{ axis: c.axis, tensors: wanted.map((r) => r[k]!) }],
  )
  if (scores.length === 0) return 1
  const share = (temperature: number): number =>
    scores.reduce((sum, { axis, tensors }) => sum + entropy(axis, tensors, temperature), 0) / scores.length
  return TEMPERATURES.find((t) => share(t) >= ENTROPY) ?? TEMPERATURES.at(-1)!
}

/** What losses compare, in the order of the outputs, as the outputs of a copy of `model`. */
interface Compared {
  readonly model: Model
  readonly subjects: ReturnType<typeof subjectsOf>
}

function comparedOf(source: Model): Compared {
  const model = cloneModel(runnable(source))
  const { graph } = model
  graph.fixDefaults()
  inlineFunctions(model)
  useRunningStatistics(model)
  const subjects = subjectsOf(graph, LOSSES, true)
  giveOut(
    graph,
    subjects.map((s) => s.head.value),
  )
  return { model, subjects }
}

function giveOut(graph: Graph, values: readonly Value[]): void {
  const old = [...graph.outputs]
  for (const v of values) if (!old.includes(v)) graph.addOutput(v)
  for (const v of old) if (!values.includes(v)) graph.removeOutput(v)
  removeDead(graph)
}

/** Shapes are those of a run: what a Reshape computes, nothing infers. */
async function criteriaOf({ model, subjects }: Compared, feeds: Feeds, threads: number): Promise<readonly Criterion[]> {
  const { graph } = model
  const values = [...new Set(subjects.flatMap((s) => pathOf(s.head)))]
  giveOut(graph, values)
  const [shapes] = await run(model, values, [feeds], threads)
  values.forEach((v, i) => {
    const { type: elem, dims } = shapes![i]!
    v.setType({ elem, dims })
  })
  const exercises = subjects.map((subject) => ({
    subject,
    student: subject.head.value,
    source: null,
    teacher: null,
    output: null,
  }))
  return decide(exercises, LOSSES).map(({ subject, loss, axis }) =>
    isDivergence(loss)
      ? { output: subject.name, loss: 'kl', axis }
      : { output: subject.name, loss: 'nmse', axis: null },
  )
}

/** The nodes from the compared value back to the scores of its distribution. */
function pathOf({ value, distribution }: Head): Value[] {
  const path = [value]
  if (!distribution || distribution.scores === value) return path
  for (let v = value; v.producer && v.producer.inputs.length > 0; ) {
    v = v.producer.input(0)
    path.push(v)
    if (v === distribution.scores) return path
  }
  return [value]
}

/** By run, in the order of the subjects. */
const outputsOf = ({ model, subjects }: Compared, batches: readonly Feeds[], threads: number) =>
  run(
    model,
    subjects.map((s) => s.head.value),
    batches,
    threads,
  )

async function run(
  model: Model,
  values: readonly Value[],
  batches: readonly Feeds[],
  threads: number,
): Promise<readonly (readonly Tensor[])[]> {
  const session = await ortExecutor().load(model, { ...LOAD, threads })
  try {
    const runs: (readonly Tensor[])[] = []
    for (const feeds of batches) {
      const out = await session.run(feeds, [...new Set(values.map((v) => v.name))])
      runs.push(values.map((v) => out[v.name]!))
    }
    return runs
  } finally {
    await session.dispose()
  }
}

/** By sample, the first axis of all runs' outputs; their mean is the distance. */
type Measure = (wanted: readonly Tensor[], got: readonly Tensor[]) => Float64Array

const samplesIn = (tensors: readonly Tensor[]): number => tensors.reduce((n, { dims }) => n + (dims[0] ?? 1), 0)

const squaredShare: Measure = (wanted, got) => {
  const each = new Float64Array(samplesIn(wanted))
  let [sum, squares, n, sample] = [0, 0, 0, 0]
  for (const [k, t] of wanted.entries()) {
    const [want, have] = [t.toFloat32(), got[k]!.toFloat32()]
    const inner = want.length / Math.max(1, t.dims[0] ?? 1)
    for (let i = 0; i < want.length; i++) {
      each[sample + Math.floor(i / inner)]! += (want[i]! - have[i]!) ** 2
      sum += want[i]!
      squares += want[i]! ** 2
    }
    n += want.length
    sample += t.dims[0] ?? 1
  }
  const spread = squares - (sum * sum) / Math.max(1, n)
  // an output that never changes: its own size is what an error is compared with
  const scale = spread > 1e-12 * squares ? spread : squares || 1
  return each.map((x) => (x * each.length) / scale)
}

const divergence =
  (axis: number): Measure =>
  (wanted, got) => {
    // classes along the first axis: nothing tells samples apart
    const each = new Float64Array(axis === 0 ? wanted.length : samplesIn(wanted))
    let [positions, first] = [0, 0]
    for (const [k, t] of wanted.entries()) {
      const [want, have] = [t.toFloat32(), got[k]!.toFloat32()]
      const samples = axis === 0 ? 1 : t.dims[0]!
      const inner = want.length / Math.max(1, samples)
      for (const { at, stride, classes } of positionsOf(t, axis)) {
        each[first + Math.floor(at / inner)]! += divergenceAt(want, have, at, stride, classes)
        positions++
      }
      first += samples
    }
    return each.map((x) => (x * each.length) / positions)
  }

/** Mean entropy of softmax(t / temperature), as a fraction of log(classes). */
function entropy(axis: number, tensors: readonly Tensor[], temperature: number): number {
  let [total, positions] = [0, 0]
  for (const t of tensors) {
    const x = t.toFloat32().map((v) => v / temperature)
    for (const { at, stride, classes } of positionsOf(t, axis)) {
      const sum = logSum(x, at, stride, classes)
      let own = 0
      for (let c = 0; c < classes; c++) {
        const logP = x[at + c * stride]! - sum
        own -= Math.exp(logP) * logP
      }
      total += own / Math.log(classes)
      positions++
    }
  }
  return total / positions
}

interface Position {
  /** Of the first class; the others lie `stride` apart. */
  readonly at: number
  readonly stride: number
  readonly classes: number
}

function* positionsOf({ dims }: Tensor, axis: number): Generator<Position, void, undefined> {
  const classes = dims[axis]!
  const stride = elementCount(dims.slice(axis + 1))
  const outer = elementCount(dims.slice(0, axis))
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < stride; i++) yield { at: o * classes * stride + i, stride, classes }
}

/** sum p (log p - log q) over the classes that lie `stride` apart from `at` on. */
function divergenceAt(want: Float32Array, have: Float32Array, at: number, stride: number, classes: number): number {
  const [p, q] = [logSum(want, at, stride, classes), logSum(have, at, stride, classes)]
  let sum = 0
  for (let c = 0; c < classes; c++) {
    const i = at + c * stride
    const logP = want[i]! - p
    const share = Math.exp(logP)
    if (share > 0) sum += share * (logP - (have[i]! - q))
  }
  return sum
}

function logSum(x: Float32Array, at: number, stride: number, classes: number): number {
  let max = Number.NEGATIVE_INFINITY
  for (let c = 0; c < classes; c++) if (!(x[at + c * stride]! <= max)) max = x[at + c * stride]!
  let sum = 0
  for (let c = 0; c < classes; c++) sum += Math.exp(x[at + c * stride]! - max)
  return max + Math.log(sum)
}
