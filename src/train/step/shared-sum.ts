/**
 * What a step's runs gave, summed over the processes that train together: the flat gradient, and behind it how far the
 * running statistics have moved (running-statistics.ts), as one vector. Round j of rank r is micro-batch j N + r of the
 * step, N the number of ranks.
 *
 *   exact  after each round, in the order of micro-batches: the same bits as one process that accumulates over all
 *   fast   after the last round, each rank's own sum, in the order that the transport chooses; the statistics' factors
 *          keep^(N - 1 - r) are applied before. Differs from the above in rounding.
 *
 * Where all ranks normalise by the statistics of all their batches (`--sync-bn`), these move alike on all of them: there is
 * nothing to be summed then, `keep` is empty.
 */
import { fold, type Group } from '../../ranks/group.ts'
import type { RanksOptions } from '../ranks-options.ts'

export class SharedSum {
  readonly group: Group
  readonly #isExact: boolean
  readonly #gradients: number
  readonly #keep: Float32Array
  /** In `fast`: the factors of a rank's own sum from one round to the next, and of its share in a round. */
  readonly #between: Float32Array
  readonly #share: Float32Array
  readonly #total: Float32Array
  readonly #own: Float32Array

  /** `gradients`: elements of the flat gradient; `keep`: a factor for each statistic. */
  constructor(group: Group, reduce: RanksOptions['reduce'], gradients: number, keep: Float32Array) {
    const size = gradients + keep.length
    this.group = group
    this.#isExact = reduce === 'exact'
    this.#gradients = gradients
    this.#keep = new Float32Array(size).fill(1)
    this.#keep.set(keep, gradients)
    this.#between = this.#keep.map((k) => k ** group.size)
    this.#share = this.#keep.map((k) => k ** (group.size - 1 - group.rank))
    this.#total = new Float32Array(size)
    this.#own = new Float32Array(size)
  }

  /** Whether statistics are summed, too. */
  get hasStatistics(): boolean {
    return this.#keep.length > this.#gradients
  }

  begin(): void {
    this.#total.fill(0)
  }

  /** What this rank's run of a round gave, started from zeros. */
  add(gradient: Float32Array, moved: Float32Array | null): void {
    const own = this.#own
    own.set(gradient)
    if (moved) own.set(moved, this.#gradients)
    if (this.#isExact) {
      this.group.foldInOrder(this.#total, own, this.#keep)
      return
    }
    for (let i = this.#gradients; i < own.length; i++) own[i]! *= this.#share[i]!
    fold(this.#total, own, this.#between, 0, own.length)
  }

  /** A row of numbers for each micro-batch of the step, in order, out of those of this rank's rounds. */
  allRounds(rows: readonly (readonly number[])[]): number[][] {
    const width = rows[0]?.length ?? 0
    const ranks = this.group.gather(rows.flat())
    return rows.flatMap((_, round) => ranks.map((all) => all.slice(round * width, (round + 1) * width)))
  }

  /** The step's gradient and movement, the same on all ranks. */
  end(gradient: Float32Array, moved: Float32Array | null): void {
    if (!this.#isExact) this.group.sum(this.#total)
    gradient.set(this.#total.subarray(0, this.#gradients))
    moved?.set(this.#total.subarray(this.#gradients))
  }
}

/**
 * Replaces numbers by their means over all ranks, the same bits on each: `exact` adds them in the order of ranks, `fast` in the
 * order that the transport chooses.
 */
export function average(group: Group, reduce: RanksOptions['reduce'], values: Float64Array): void {
  if (reduce === 'fast') group.sum(values)
  else {
    const all = group.gather([...values])
    values.fill(0)
    for (const own of all) for (let i = 0; i < values.length; i++) values[i]! += own[i]!
  }
  for (let i = 0; i < values.length; i++) values[i]! /= group.size
}
