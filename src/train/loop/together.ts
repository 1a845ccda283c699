/**
 * What the processes of a run decide together, so that all take the same path: whether to stop, when a checkpoint is due,
 * how many inputs were right, whether their states agree. One process by itself decides at once.
 */
import type { BatchShare } from '../../data/batch-share.ts'
import { alone, type Group } from '../../ranks/group.ts'
import { average, SharedSum } from '../step/shared-sum.ts'
import type { StepGraph } from '../step/step-options.ts'
import { requireSameState } from './same-state.ts'
import type { TrainRun } from './train-run.ts'

export class Together {
  readonly group: Group
  readonly #ranks: TrainRun['ranks']

  constructor(ranks: TrainRun['ranks']) {
    this.#ranks = ranks
    this.group = ranks?.group ?? alone
  }

  /** Rank 0 alone writes files. */
  get writes(): boolean {
    return this.group.rank === 0
  }

  get size(): number {
    return this.group.size
  }

  /** Of each batch; undefined where it is all of it. */
  get share(): BatchShare | undefined {
    return this.size === 1 ? undefined : { rank: this.group.rank, of: this.size }
  }

  /** Processes whose batches are one to BatchNormalization. */
  get normalised(): number {
    return this.#ranks?.syncBn ? this.size : 1
  }

  /** The options of the run by one process that computes the same. */
  asOne<T extends { readonly batch: number; readonly accumulate: number }>(own: T): T {
    const { normalised } = this
    const { batch, accumulate } = own
    return { ...own, batch: batch * normalised, accumulate: accumulate * (this.size / normalised) }
  }

  /** null where gradients are this process's alone. */
  sumOf({ weights, statisticsKeep }: StepGraph): SharedSum | null {
    if (!this.#ranks || this.size === 1) return null
    const keep = this.normalised > 1 ? new Float32Array(0) : statisticsKeep
    return new SharedSum(this.group, this.#ranks.reduce, weights.size, keep)
  }

  /** What the step exchanges before it is done; undefined where nothing is. */
  get exchange(): ((values: Float64Array) => void) | undefined {
    const ranks = this.#ranks
    return ranks && this.normalised > 1 ? (values) => average(this.group, ranks.reduce, values) : undefined
  }

  /** Whether any rank was told to stop. */
  stops(signal: AbortSignal | undefined): boolean {
    return this.group.gather([signal?.aborted ? 1 : 0]).some(([told]) => told === 1)
  }

  /** What rank 0 finds. */
  agrees(isDue: boolean): boolean {
    return this.group.gather([isDue ? 1 : 0])[0]![0] === 1
  }

  /** Over all ranks; null where a rank has none. */
  total(count: number | null): number | null {
    const all = this.group.gather([count ?? Number.NaN]).map(([n]) => n!)
    return all.some(Number.isNaN) ? null : all.reduce((a, b) => a + b, 0)
  }

  /** After the first step of a run (`first` of them were done before), and after every so many steps. */
  compare(done: number, first: number, state: () => readonly Float32Array[]): void {
    if (!this.#ranks || this.size === 1) return
    if (done === first + 1 || done % this.#ranks.compareEvery === 0) requireSameState(this.group, done, state())
  }
}
