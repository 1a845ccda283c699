/**
 * A rank's share of each batch, where several processes train together: of a batch that is made of parts of `part` inputs,
 * part p is rank p mod `of`'s. Order and augmentation are those of the whole batch.
 */
export interface BatchShare {
  readonly rank: number
  readonly of: number
}

/** The parts of a batch of `count` parts that are the share's. */
export const partsOfShare = (count: number, { rank, of }: BatchShare): number[] =>
  Array.from({ length: count / of }, (_, round) => round * of + rank)

/** Those of `indices` in parts of `part` that are the share's. */
export function inShare(indices: Uint32Array, part: number, { rank, of }: BatchShare): Uint32Array {
  return indices.filter((_, i) => Math.floor(i / part) % of === rank)
}
