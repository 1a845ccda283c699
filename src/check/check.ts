/**
 * Compares a model with its reference in onnxruntime: accuracy, largest error and agreement, at ORT_DISABLE_ALL and at
 * ORT_ENABLE_ALL, because optimisers change results (see activations.ts). The reference runs at ORT_DISABLE_ALL, which
 * computes what its file says. Inputs and outputs are matched by position, inner values (SQNR by layer) by name. Errors are
 * those of all float outputs that both have; classes are the first output's. Each model takes the samples in its own way
 * (samples/batch-plan.ts), so every sample is compared, even where one of them runs at batch 1 only.
 *
 *   SQNR = 10 log10( sum ref^2 / sum (ref - model)^2 )   dB
 */
import { usageError } from '../base/errors.ts'
import { type LongRun, stopIfAborted } from '../base/long-run.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { type Dim, formatType } from '../graph/types.ts'
import type { LoadOptions, Session } from '../runtime/executor.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import { type BatchPlan, batchPlan, type PlanOptions } from '../samples/batch-plan.ts'
import { type InputDims, inputDims } from '../samples/input-shapes.ts'
import { randomInputs } from '../samples/random-inputs.ts'
import { runSamples } from '../samples/run-samples.ts'

export interface CheckBatch {
  /** By the reference's input names. */
  readonly feeds: Readonly<Record<string, Tensor>>
  /** Class of each sample; without labels there is no accuracy. */
  readonly labels?: Int32Array | null | undefined
  /** Samples in it. */
  readonly count: number
}

export type Level = 'disabled' | 'all'

export interface LevelResult {
  /** Fraction of correct answers, null without labels. */
  readonly top1: number | null
  /** reference.top1 - top1. */
  readonly drop: number | null
  /** Of all outputs. */
  readonly maxAbsError: number
  /** Of all outputs: largest error over the reference's largest |value| there. */
  readonly maxRelError: number
  /** Where maxRelError is, by the reference's name; null where nothing differs. */
  readonly worstOutput: string | null
  /** Fraction of samples with the same best class in both. */
  readonly agreement: number
  /** Fraction of samples of which every output is within 1e-4 of the reference, relative to that output's largest |value|. */
  readonly equal: number
}

export interface CheckResult {
  readonly samples: number
  /** Inputs were random: nothing here says anything about accuracy. */
  readonly random: boolean
  /** Names, in the reference, of the outputs that are compared. */
  readonly outputs: readonly string[]
  readonly reference: {
    readonly top1: number | null
    /**
     * How far the reference is from itself at ORT_ENABLE_ALL (without onnxruntime's own requantising), on the first
     * batch: the effect of float rounding alone where quantisers turn it into whole levels. null where it does not load.
     */
    readonly noise: { readonly maxRelError: number; readonly equal: number } | null
  }
  /** At ORT_ENABLE_ALL, which is what a stock session does. */
  readonly model: { readonly top1: number | null }
  /** The larger of the two levels. */
  readonly drop: number | null
  readonly maxAbsError: number
  readonly maxRelError: number
  readonly byOptimisation: Readonly<Record<Level, LevelResult>>
}

export interface CheckOptions extends Pick<LongRun, 'signal'> {
  /** Without batches: random inputs. */
  readonly batches?: AsyncIterable<CheckBatch>
  readonly seed?: number
  readonly onProgress?: (samples: number) => void
}

const levels: readonly Level[] = ['disabled', 'all']

/** Usage error where the two models do not take the same inputs; model error where onnxruntime refuses one. */
export async function checkModels(reference: Model, model: Model, options: CheckOptions = {}): Promise<CheckResult> {
  const seed = options.seed ?? 0
  const outputs = matchOutputs(reference, model)
  const [ours, theirs] = [outputs.map(([a]) => a), outputs.map(([, b]) => b)]
  const given = options.batches && (await peeked(options.batches))
  const pair = await planPair(reference, model, given?.first)
  const ref = await load(reference, 'disabled')
  const sessions = { disabled: await load(model, 'disabled'), all: await load(model, 'all') }
  try {
    const tally = { disabled: new Tally(ours), all: new Tally(ours) }
    let noise: LevelResult | null | undefined
    let right = 0
    let samples = 0
    let labelled = true
    for await (const batch of given?.all() ?? randomBatches(reference, seed, { dims: pair.dims })) {
      stopIfAborted(options.signal, `interrupted after ${samples} samples`)
      const want = await samplesOf(ref, pair.reference, batch, ours)
      const renamed = { ...batch, feeds: pair.rename(batch.feeds) }
      for (const level of levels)
        tally[level].add(want, await samplesOf(sessions[level], pair.model, renamed, theirs), batch)
      if (noise === undefined) noise = await noiseOf(reference, pair.reference, ours, want, batch)
      if (batch.labels) right += countRight(want[0]!, batch)
      else labelled = false
      samples += batch.count
      options.onProgress?.(samples)
    }
    const top1 = labelled ? right / samples : null
    const byOptimisation = { disabled: tally.disabled.result(top1), all: tally.all.result(top1) }
    const larger = (of: (r: LevelResult) => number): number => Math.max(...levels.map((l) => of(byOptimisation[l])))
    return {
      samples,
      random: options.batches === undefined,
      outputs: ours,
      reference: { top1, noise: noise ? { maxRelError: noise.maxRelError, equal: noise.equal } : null },
      model: { top1: byOptimisation.all.top1 },
      drop: top1 === null ? null : larger((r) => r.drop ?? 0),
      maxAbsError: larger((r) => r.maxAbsError),
      maxRelError: larger((r) => r.maxRelError),
      byOptimisation,
    }
  } finally {
    for (const s of [ref, ...Object.values(sessions)]) await s.dispose()
  }
}

/** The first batch, and all of them, that one included. A usage error where there is none. */
async function peeked(batches: AsyncIterable<CheckBatch>) {
  const rest = batches[Symbol.asyncIterator]()
  const { value: first, done } = await rest.next()
  if (done) throw usageError('there is no sample to check')
  async function* all(): AsyncGenerator<CheckBatch, void, undefined> {
    yield first
    for (let r = await rest.next(); !r.done; r = await rest.next()) yield r.value
  }
  return { first, all }
}

const load = (model: Model, optimization: Level, more: LoadOptions = {}): Promise<Session> => {
  return ortExecutor().load(model, { optimization, ...more })
}

async function noiseOf(
  reference: Model,
  plan: BatchPlan,
  names: readonly string[],
  want: readonly Samples[],
  batch: CheckBatch,
): Promise<LevelResult | null> {
  let session: Session
  try {
    session = await load(reference, 'all', { config: { 'session.disable_quant_qdq': '1' } })
  } catch {
    return null
  }
  const tally = new Tally(names)
  try {
    tally.add(want, await samplesOf(session, plan, batch, names), batch)
  } finally {
    await session.dispose()
  }
  return tally.result(null)
}

/** The values of each sample in one output. */
type Samples = readonly ArrayLike<number>[]

async function samplesOf(
  session: Session,
  plan: BatchPlan,
  { feeds, count }: CheckBatch,
  names: readonly string[],
): Promise<Samples[]> {
  const all = await runSamples(session, plan, feeds, count, names)
  return names.map((name) => all[name]!)
}

/** How two models take the same samples. */
export interface PlanPair {
  readonly reference: BatchPlan
  readonly model: BatchPlan
  /** Sizes that both are run with, by the reference's names. */
  readonly dims: InputDims
  /** Feeds by the model's names. */
  rename(feeds: Readonly<Record<string, Tensor>>): Record<string, Tensor>
}

/**
 * `batch`: what the models will be fed, whose sizes are taken where the reference leaves them open. A usage error where
 * the models take different inputs.
 */
export async function planPair(reference: Model, model: Model, batch?: CheckBatch): Promise<PlanPair> {
  const names = matchInputs(reference, model)
  const renamed = <T>(by: Readonly<Record<string, T>>): Record<string, T> =>
    Object.fromEntries(Object.entries(by).map(([name, x]) => [names.get(name) ?? name, x]))
  const theirs = inputDims(model)
  const common = Object.entries(batch ? sizesIn(batch, reference) : inputDims(reference)).map(([name, dims]) => {
    const other = theirs[names.get(name)!]
    // what one of the two fixes, apart from the batch, holds for both
    const size = (d: Dim, i: number): Dim => (typeof d === 'number' || i === 0 ? d : (sizeIn(other?.[i]) ?? d))
    return [name, dims.map(size)] as const
  })
  const plan = await batchPlan(reference, SAMPLES, { dims: Object.fromEntries(common) })
  const dims = Object.fromEntries(
    [...plan.inputs].map(([name, { dims, axes }]) => [name, dims.map((d, i) => (axes.includes(i) ? null : d))]),
  )
  const own = Object.entries(renamed(dims)).map(([name, list]) => {
    const declared = theirs[name]
    return [name, list.map((d, i) => d ?? declared?.[i] ?? null)] as const
  })
  return {
    reference: plan,
    model: await batchPlan(model, SAMPLES, { dims: Object.fromEntries(own) }),
    dims: Object.fromEntries(common),
    rename: renamed,
  }
}

/** Dims of the inputs; those that are open and not in the place of a batch have the size that they have in `feeds`. */
function sizesIn({ feeds }: CheckBatch, model: Model): InputDims {
  const declared = inputDims(model)
  const batch = new Set(Object.values(declared).map((dims) => dims[0]))
  const known = (d: Dim, i: number, own: readonly Dim[] | undefined): Dim => {
    const stays = i === 0 || (typeof own?.[i] === 'string' && batch.has(own[i]))
    return stays ? (own?.[i] ?? null) : d
  }
  const seen = Object.entries(feeds).map(([name, t]) => [name, t.dims.map((d, i) => known(d, i, declared[name]))])
  return { ...declared, ...Object.fromEntries(seen) }
}

const sizeIn = (d: Dim | undefined): number | null => (typeof d === 'number' ? d : null)

/** The first output, and the other float ones that both have: names in the reference and in the model. */
function matchOutputs(reference: Model, model: Model): (readonly [string, string])[] {
  const isFloat = (v: Value): boolean => /^float(16|32|64)$/.test(v.type?.elem ?? '')
  return reference.graph.outputs.flatMap((v, i) => {
    const twin = model.graph.outputs[i]
    return twin && (i === 0 || (isFloat(v) && isFloat(twin))) ? [[v.name, twin.name] as const] : []
  })
}

/** Input names of the model by those of the reference. */
function matchInputs(reference: Model, model: Model): Map<string, string> {
  const [a, b] = [reference.graph.fed, model.graph.fed]
  const shown = (list: readonly Value[]): string => list.map((v) => `'${v.name}' ${formatType(v.type)}`).join(', ')
  const fits = (v: Value, w: Value): boolean =>
    v.type?.elem === w.type?.elem && v.type?.dims?.length === w.type?.dims?.length
  if (a.length !== b.length || !a.every((v, i) => fits(v, b[i]!)))
    throw usageError(
      `the models take different inputs: ${shown(a)} and ${shown(b)}`,
      'check a model against the one it was made from',
    )
  return new Map(a.map((v, i) => [v.name, b[i]!.name]))
}

/** A sample counts as equal up to this fraction of the largest output: a hundred times float rounding of a network. */
const EQUAL = 1e-4

/** The results of one optimisation level, batch by batch. */
class Tally {
  #samples = 0
  #agree = 0
  #right = 0
  readonly #names: readonly string[]
  /** By output: the reference's largest |value|. */
  readonly #largest: number[]
  /** By output: the largest error of each sample. */
  readonly #errors: readonly number[][]

  constructor(names: readonly string[]) {
    this.#names = names
    this.#largest = names.map(() => 0)
    this.#errors = names.map(() => [])
  }

  add(want: readonly Samples[], got: readonly Samples[], batch: CheckBatch): void {
    for (const k of this.#names.keys()) this.#addOutput(k, want[k]!, got[k]!)
    for (const [i, scores] of want[0]!.entries()) if (best(scores) === best(got[0]![i]!)) this.#agree++
    if (batch.labels) this.#right += countRight(got[0]!, batch)
    this.#samples += batch.count
  }

  #addOutput(k: number, want: Samples, got: Samples): void {
    for (const [i, a] of want.entries()) {
      const b = got[i]!
      if (a.length !== b.length)
        throw usageError(`the models' outputs '${this.#names[k]}' have ${a.length} and ${b.length} values per sample`)
      const isShared = i > 0 && a === want[i - 1] && b === got[i - 1]
      this.#errors[k]!.push(isShared ? this.#errors[k]!.at(-1)! : rowError(a, b))
      if (!isShared) this.#largest[k] = largest(a, this.#largest[k]!)
    }
  }

  result(reference: number | null): LevelResult {
    const top1 = reference === null ? null : this.#right / this.#samples
    const errors = this.#errors.map((list) => list.reduce((m, e) => Math.max(m, e), 0))
    const relative = errors.map((e, k) => (e === 0 ? 0 : e / this.#largest[k]!))
    const maxRelError = Math.max(...relative)
    const equal = this.#errors[0]!.filter((_, i) =>
      this.#errors.every((list, k) => list[i]! <= EQUAL * this.#largest[k]!),
    )
    return {
      top1,
      drop: reference === null || top1 === null ? null : reference - top1,
      maxAbsError: Math.max(...errors),
      maxRelError,
      worstOutput: maxRelError === 0 ? null : this.#names[relative.indexOf(maxRelError)]!,
      agreement: this.#agree / this.#samples,
      equal: equal.length / this.#samples,
    }
  }
}

/** Largest difference; a NaN on one side only is an infinite one. */
function rowError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let error = 0
  for (let i = 0; i < a.length; i++) {
    const e = Math.abs(a[i]! - b[i]!)
    if (!Number.isNaN(e)) error = Math.max(error, e)
    else if (Number.isNaN(a[i]!) !== Number.isNaN(b[i]!)) return Number.POSITIVE_INFINITY
  }
  return error
}

function largest(values: ArrayLike<number>, most: number): number {
  for (let i = 0; i < values.length; i++) most = Math.max(most, Math.abs(values[i]!) || 0)
  return most
}

function countRight(scores: Samples, batch: CheckBatch): number {
  let right = 0
  for (let i = 0; i < batch.count; i++) if (best(scores[i]!) === batch.labels![i]) right++
  return right
}

/** Index of the largest value; the first of equals. */
function best(values: ArrayLike<number>): number {
  let top = 0
  for (let i = 1; i < values.length; i++) if (values[i]! > values[top]!) top = i
  return top
}

/** Samples of a random check; as many runs as the model's batch requires. */
const SAMPLES = 16

/** Random inputs of the graph's own types. */
export async function* randomBatches(
  model: Model,
  seed: number,
  options: PlanOptions = {},
): AsyncGenerator<CheckBatch, void, undefined> {
  const { batch, feeds } = await randomInputs(model, SAMPLES, options)
  for (let i = 0; i * batch < SAMPLES; i++) yield { feeds: feeds(seed, i), count: batch }
}
