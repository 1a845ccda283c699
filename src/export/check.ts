/**
 * Compares a model with its reference in onnxruntime: accuracy, largest error and agreement, at ORT_DISABLE_ALL and at
 * ORT_ENABLE_ALL, because optimisers change results (see activations.ts). The reference runs at ORT_DISABLE_ALL: that
 * is what its file says. Inputs and outputs are matched by position, inner values (SQNR by layer) by name. Errors are
 * those of all float outputs that both have; classes are the first output's.
 *
 *   SQNR = 10 log10( sum ref^2 / sum (ref - model)^2 )   dB
 */
import { randomInputs } from '../data/random-inputs.ts'
import { usageError } from '../errors.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { formatType } from '../graph/types.ts'
import type { LoadOptions, Session } from '../runtime/executor.ts'
import { ortExecutor } from '../runtime/ort.ts'

export interface CheckBatch {
  /** By the reference's input names. */
  readonly feeds: Readonly<Record<string, Tensor>>
  /** Class of each sample; without labels there is no accuracy. */
  readonly labels?: Int32Array
  /** Samples that count; a batch may be filled up behind them. */
  readonly count: number
}

export type Level = 'disabled' | 'all'

export interface LevelResult {
  /** Share of right answers, null without labels. */
  readonly top1: number | null
  /** reference.top1 - top1. */
  readonly drop: number | null
  /** Of all outputs. */
  readonly maxAbsError: number
  /** Of all outputs: largest error over the largest |value| that the reference gives there. */
  readonly maxRelError: number
  /** Where maxRelError is, by the reference's name; null where nothing differs. */
  readonly worstOutput: string | null
  /** Share of samples with the same best class in both. */
  readonly agreement: number
  /** Share of samples whose every output is within 1e-4 of the reference, relative to that output's largest |value|. */
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
     * batch: what float rounding alone does where quantisers turn it into whole steps. null where it does not load.
     */
    readonly noise: { readonly maxRelError: number; readonly equal: number } | null
  }
  /** At ORT_ENABLE_ALL, which is what a stock session does. */
  readonly model: { readonly top1: number | null }
  /** The larger of both levels. */
  readonly drop: number | null
  readonly maxAbsError: number
  readonly maxRelError: number
  readonly byOptimisation: Readonly<Record<Level, LevelResult>>
}

export interface CheckOptions {
  /** Without batches: random inputs. */
  readonly batches?: AsyncIterable<CheckBatch>
  readonly seed?: number
  readonly onProgress?: (samples: number) => void
  readonly signal?: AbortSignal
}

const levels: readonly Level[] = ['disabled', 'all']

/** Usage error where the two models do not take the same inputs; model error where onnxruntime refuses one. */
export async function checkModels(reference: Model, model: Model, options: CheckOptions = {}): Promise<CheckResult> {
  const rename = matchInputs(reference, model)
  const outputs = matchOutputs(reference, model)
  const [ours, theirs] = [outputs.map(([a]) => a), outputs.map(([, b]) => b)]
  const ref = await load(reference, 'disabled')
  const sessions = { disabled: await load(model, 'disabled'), all: await load(model, 'all') }
  try {
    const tally = { disabled: new Tally(ours), all: new Tally(ours) }
    let noise: LevelResult | null | undefined
    let right = 0
    let samples = 0
    let labelled = true
    for await (const batch of options.batches ?? randomBatches(reference, options.seed ?? 0)) {
      options.signal?.throwIfAborted()
      const want = await outputsOf(ref, batch.feeds, ours)
      const feeds = Object.fromEntries(Object.entries(batch.feeds).map(([name, t]) => [rename.get(name) ?? name, t]))
      for (const level of levels) tally[level].add(want, await outputsOf(sessions[level], feeds, theirs), batch)
      if (noise === undefined) noise = await noiseOf(reference, ours, want, batch)
      if (batch.labels) right += countRight(want[0]!, batch)
      else labelled = false
      samples += batch.count
      options.onProgress?.(samples)
    }
    if (samples === 0) throw usageError('there is no sample to check')
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

const load = (model: Model, optimization: Level, more: LoadOptions = {}): Promise<Session> => {
  const folder = model.folder === undefined ? {} : { folder: model.folder }
  return ortExecutor().load(model, { optimization, ...folder, ...more })
}

async function noiseOf(
  reference: Model,
  names: readonly string[],
  want: readonly Tensor[],
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
    tally.add(want, await outputsOf(session, batch.feeds, names), batch)
  } finally {
    await session.dispose()
  }
  return tally.result(null)
}

async function outputsOf(
  session: Session,
  feeds: Readonly<Record<string, Tensor>>,
  names: readonly string[],
): Promise<Tensor[]> {
  const all = await session.run(feeds, names)
  return names.map((name) => all[name]!)
}

/** The first output, and the other float ones that both have: names in the reference and in the model. */
function matchOutputs(reference: Model, model: Model): (readonly [string, string])[] {
  const isFloat = (v: Value): boolean => /^float(16|32|64)$/.test(v.type?.elem ?? '')
  return reference.graph.outputs.flatMap((v, i) => {
    const twin = model.graph.outputs[i]
    return twin && (i === 0 || (isFloat(v) && isFloat(twin))) ? [[v.name, twin.name] as const] : []
  })
}

const fedInputs = (model: Model): Value[] => model.graph.inputs.filter((v) => !v.constant)

/** Input names of the model by those of the reference. */
function matchInputs(reference: Model, model: Model): Map<string, string> {
  const [a, b] = [fedInputs(reference), fedInputs(model)]
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

/** A sample counts as equal up to this share of the largest output: a hundred times float rounding of a network. */
const EQUAL = 1e-4

/** What one optimisation level gives, batch by batch. */
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

  add(want: readonly Tensor[], got: readonly Tensor[], batch: CheckBatch): void {
    const samples = want[0]!.dims[0] ?? 1
    for (const k of this.#names.keys()) this.#addOutput(k, want[k]!, got[k]!, samples, batch.count)
    const [a, b] = [want[0]!.toNumbers(), got[0]!.toNumbers()]
    const row = want[0]!.size / samples
    for (let i = 0; i < batch.count; i++) if (best(a, i * row, row) === best(b, i * row, row)) this.#agree++
    if (batch.labels) this.#right += countRight(got[0]!, batch)
    this.#samples += batch.count
  }

  #addOutput(k: number, want: Tensor, got: Tensor, samples: number, count: number): void {
    if (want.size !== got.size)
      throw usageError(
        `the models' outputs '${this.#names[k]}' differ in shape: [${want.dims.join(',')}] and [${got.dims.join(',')}]`,
      )
    const [a, b] = [want.toNumbers(), got.toNumbers()]
    // what has no batch axis belongs to every sample
    const isBatched = want.dims[0] === samples
    const row = isBatched ? want.size / samples : want.size
    for (let i = 0; i < count; i++) this.#errors[k]!.push(rowError(a, b, isBatched ? i * row : 0, row))
    const seen = isBatched ? count * row : row
    for (let i = 0; i < seen; i++) this.#largest[k] = Math.max(this.#largest[k]!, Math.abs(a[i]!) || 0)
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
function rowError(a: ArrayLike<number>, b: ArrayLike<number>, at: number, count: number): number {
  let error = 0
  for (let i = at; i < at + count; i++) {
    const e = Math.abs(a[i]! - b[i]!)
    if (!Number.isNaN(e)) error = Math.max(error, e)
    else if (Number.isNaN(a[i]!) !== Number.isNaN(b[i]!)) return Number.POSITIVE_INFINITY
  }
  return error
}

function countRight(scores: Tensor, batch: CheckBatch): number {
  const values = scores.toNumbers()
  const row = scores.size / (scores.dims[0] ?? 1)
  let right = 0
  for (let i = 0; i < batch.count; i++) if (best(values, i * row, row) === batch.labels![i]) right++
  return right
}

/** Index of the largest of `count` values; the first of equals. */
function best(values: ArrayLike<number>, at: number, count: number): number {
  let top = 0
  for (let i = 1; i < count; i++) if (values[at + i]! > values[at + top]!) top = i
  return top
}

/** Samples of a random check, where the batch dimension is open. */
const RANDOM_SAMPLES = 16

/** One batch of random inputs of the graph's own types. */
export async function* randomBatches(model: Model, seed: number): AsyncGenerator<CheckBatch, void, undefined> {
  const { batch, feeds } = await randomInputs(model, RANDOM_SAMPLES)
  yield { feeds: feeds(seed, 0), count: batch }
}
