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
import type { CheckBatch, CheckResult, Level } from './check-result.ts'
import {
  type CheckTally,
  checkResult,
  countRight,
  joinTallies,
  type LevelTally,
  levelResult,
  type Samples,
  tallyLevel,
} from './tally.ts'

export type * from './check-result.ts'

/** Samples and engine of a comparison. */
export interface CheckOptions extends Pick<LongRun, 'signal'> {
  /** Without batches: random inputs. */
  readonly batches?: AsyncIterable<CheckBatch>
  readonly seed?: number
  /** Of the engine; 0, the default: one per core. */
  readonly threads?: number
  readonly onProgress?: (samples: number) => void
}

/** Usage error where the two models do not take the same inputs; model error where onnxruntime refuses one. */
export async function checkModels(reference: Model, model: Model, options: CheckOptions = {}): Promise<CheckResult> {
  const tallies: CheckTally[] = []
  for await (const tally of checkTallies(reference, model, options)) tallies.push(tally)
  return checkResult(comparedOutputs(reference, model), options.batches === undefined, joinTallies(tallies))
}

/** Names, in the reference, of the outputs that are compared. */
export const comparedOutputs = (reference: Model, model: Model): readonly string[] =>
  matchOutputs(reference, model).map(([own]) => own)

/** Batch by batch. `isFirst`: the batches begin where all of them begin; they do by default. */
export async function* checkTallies(
  reference: Model,
  model: Model,
  options: CheckOptions & { readonly isFirst?: boolean } = {},
): AsyncGenerator<CheckTally, void, undefined> {
  const { seed = 0, threads = 0 } = options
  const outputs = matchOutputs(reference, model)
  const [ours, theirs] = [outputs.map(([a]) => a), outputs.map(([, b]) => b)]
  const given = options.batches && (await peeked(options.batches))
  const pair = await planPair(reference, model, given?.first)
  const ref = await load(reference, 'disabled', { threads })
  const sessions = { disabled: await load(model, 'disabled', { threads }), all: await load(model, 'all', { threads }) }
  try {
    let isFirst = options.isFirst ?? true
    let samples = 0
    for await (const batch of given?.all() ?? randomBatches(reference, seed, { dims: pair.dims })) {
      stopIfAborted(options.signal, `interrupted after ${samples} samples`)
      const want = await samplesOf(ref, pair.reference, batch, ours)
      const renamed = { ...batch, feeds: pair.rename(batch.feeds) }
      const levelOf = async (level: Level): Promise<LevelTally> =>
        tallyLevel(ours, want, await samplesOf(sessions[level], pair.model, renamed, theirs), batch)
      const byLevel = { disabled: await levelOf('disabled'), all: await levelOf('all') }
      const noise = isFirst ? await noiseOf(reference, pair.reference, ours, want, batch) : null
      const right = batch.labels ? countRight(want[0]!, batch) : 0
      yield { count: batch.count, isLabelled: batch.labels !== undefined, right, noise, byLevel }
      isFirst = false
      samples += batch.count
      options.onProgress?.(samples)
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
): Promise<CheckResult['reference']['noise']> {
  let session: Session
  try {
    session = await load(reference, 'all', { config: { 'session.disable_quant_qdq': '1' } })
  } catch {
    return null
  }
  try {
    const tally = tallyLevel(names, want, await samplesOf(session, plan, batch, names), batch)
    const { maxRelError, equal } = levelResult(names, tally, batch.count, null)
    return { maxRelError, equal }
  } finally {
    await session.dispose()
  }
}

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
  const size = (d: Dim | undefined): boolean => typeof d === 'number'
  // a size that one of them leaves open is the other's; the first dim is the batch, which may be fixed in one
  const fits = (v: Value, w: Value): boolean =>
    v.type?.elem === w.type?.elem &&
    v.type?.dims?.length === w.type?.dims?.length &&
    (v.type?.dims ?? []).every((d, i) => i === 0 || d === w.type!.dims![i] || !size(d) || !size(w.type!.dims![i]))
  if (a.length !== b.length || !a.every((v, i) => fits(v, b[i]!)))
    throw usageError(
      `the models take different inputs: ${shown(a)} and ${shown(b)}`,
      'check a model against the one it was made from',
    )
  return new Map(a.map((v, i) => [v.name, b[i]!.name]))
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
