/**
 * The processes that train together, as the training loop sees them: numbers 0 to size - 1, and what they exchange between
 * the graph that computes gradients and the graph that applies them. MPI stands behind it (mpi.ts); another transport,
 * such as NCCL for gradients on GPUs, needs these methods only. All ranks call the same methods in the same order.
 */
export interface Group {
  readonly rank: number
  readonly size: number
  /**
   * The sum in the order of the ranks, whatever the number of processes that it is computed by:
   *   total[i] = keep[i] * total[i] + (values[i] of rank r), for r = 0, 1, ...
   * each product and each sum rounded to float32. `total` is the same on all ranks before and after.
   */
  foldInOrder(total: Float32Array, values: Float32Array, keep: Float32Array): void
  /** Replaces `values` by their sum over all ranks, in an order that the transport chooses, the same result everywhere. */
  sum(values: Float32Array | Float64Array): void
  /** The numbers of each rank, in the order of ranks; as many from each. */
  gather(values: readonly number[]): number[][]
}

/** One process by itself. */
export const alone: Group = {
  rank: 0,
  size: 1,
  foldInOrder: (total, values, keep) => fold(total, values, keep, 0, total.length),
  sum: () => {},
  gather: (values) => [[...values]],
}

/** total = keep * total + values, for `count` elements of `total` and `keep` from `from` on, and the first of `values`. */
export function fold(total: Float32Array, values: Float32Array, keep: Float32Array, from: number, count: number): void {
  for (let i = 0; i < count; i++) total[from + i] = Math.fround(keep[from + i]! * total[from + i]!) + values[i]!
}
