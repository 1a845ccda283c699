/** What a check finds out about some samples, batch by batch, and the figures of all of them together. */
import { usageError } from '../base/errors.ts'
import type { CheckBatch, CheckResult, Level, LevelResult } from './check-result.ts'

const levels: readonly Level[] = ['disabled', 'all']

/** A sample counts as equal up to this fraction of the largest output: a hundred times float rounding of a network. */
const EQUAL = 1e-4

/** The values of each sample in one output. */
export type Samples = readonly ArrayLike<number>[]

/** Of one optimisation level. */
export interface LevelTally {
  readonly agree: number
  readonly right: number
  /** By output: the reference's largest |value|. */
  readonly largest: readonly number[]
  /** By output: the largest error of each sample. */
  readonly errors: readonly (readonly number[])[]
}

/** Of some samples. */
export interface CheckTally {
  readonly count: number
  readonly isLabelled: boolean
  /** Answers of the reference. */
  readonly right: number
  /** Of the first batch of all; null elsewhere, and where there is none. */
  readonly noise: CheckResult['reference']['noise']
  readonly byLevel: Readonly<Record<Level, LevelTally>>
}

export function tallyLevel(
  names: readonly string[],
  want: readonly Samples[],
  got: readonly Samples[],
  batch: CheckBatch,
): LevelTally {
  const outputs = names.map((name, k) => tallyOutput(name, want[k]!, got[k]!))
  const agree = want[0]!.filter((scores, i) => best(scores) === best(got[0]![i]!)).length
  return {
    ...{ agree, right: batch.labels ? countRight(got[0]!, batch) : 0 },
    ...{ largest: outputs.map((o) => o.largest), errors: outputs.map((o) => o.errors) },
  }
}

function tallyOutput(name: string, want: Samples, got: Samples): { largest: number; errors: number[] } {
  const errors: number[] = []
  let most = 0
  for (const [i, a] of want.entries()) {
    const b = got[i]!
    if (a.length !== b.length)
      throw usageError(`the models' outputs '${name}' have ${a.length} and ${b.length} values per sample`)
    const isShared = i > 0 && a === want[i - 1] && b === got[i - 1]
    errors.push(isShared ? errors.at(-1)! : rowError(a, b))
    if (!isShared) most = largest(a, most)
  }
  return { largest: most, errors }
}

/** Of all samples that `tallies` are of, in order. */
export function joinTallies(tallies: readonly CheckTally[]): CheckTally {
  const sum = (of: (t: CheckTally) => number): number => tallies.reduce((n, t) => n + of(t), 0)
  const levelOf = (level: Level): LevelTally => joinLevels(tallies.map((t) => t.byLevel[level]))
  return {
    ...{ count: sum((t) => t.count), right: sum((t) => t.right), isLabelled: tallies.every((t) => t.isLabelled) },
    noise: tallies[0]?.noise ?? null,
    byLevel: { disabled: levelOf('disabled'), all: levelOf('all') },
  }
}

function joinLevels(tallies: readonly LevelTally[]): LevelTally {
  const sum = (of: (t: LevelTally) => number): number => tallies.reduce((n, t) => n + of(t), 0)
  const outputs = tallies[0]?.largest ?? []
  return {
    ...{ agree: sum((t) => t.agree), right: sum((t) => t.right) },
    largest: outputs.map((_, k) => tallies.reduce((m, t) => Math.max(m, t.largest[k]!), 0)),
    errors: outputs.map((_, k) => tallies.flatMap((t) => t.errors[k]!)),
  }
}

/** `outputs`: names in the reference. */
export function checkResult(outputs: readonly string[], isRandom: boolean, tally: CheckTally): CheckResult {
  const { count, isLabelled, right, noise, byLevel } = tally
  const top1 = isLabelled ? right / count : null
  const result = (level: Level): LevelResult => levelResult(outputs, byLevel[level], count, top1)
  const byOptimisation = { disabled: result('disabled'), all: result('all') }
  const larger = (of: (r: LevelResult) => number): number => Math.max(...levels.map((l) => of(byOptimisation[l])))
  return {
    ...{ samples: count, random: isRandom, outputs, reference: { top1, noise } },
    model: { top1: byOptimisation.all.top1 },
    drop: top1 === null ? null : larger((r) => r.drop ?? 0),
    maxAbsError: larger((r) => r.maxAbsError),
    maxRelError: larger((r) => r.maxRelError),
    byOptimisation,
  }
}

/** `reference`: its accuracy, if that is known. */
export function levelResult(
  names: readonly string[],
  tally: LevelTally,
  samples: number,
  reference: number | null,
): LevelResult {
  const top1 = reference === null ? null : tally.right / samples
  const errors = tally.errors.map((list) => list.reduce((m, e) => Math.max(m, e), 0))
  const relative = errors.map((e, k) => (e === 0 ? 0 : e / tally.largest[k]!))
  const maxRelError = Math.max(...relative)
  const equal = tally.errors[0]!.filter((_, i) =>
    tally.errors.every((list, k) => list[i]! <= EQUAL * tally.largest[k]!),
  )
  return {
    top1,
    drop: reference === null || top1 === null ? null : reference - top1,
    maxAbsError: Math.max(...errors),
    maxRelError,
    worstOutput: maxRelError === 0 ? null : names[relative.indexOf(maxRelError)]!,
    agreement: tally.agree / samples,
    equal: equal.length / samples,
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

export function countRight(scores: Samples, batch: CheckBatch): number {
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
