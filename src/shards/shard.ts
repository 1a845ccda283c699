/**
 * A job in equal shares, for as many processes or machines. Its work is a list of items that every process numbers alike; share
 * k of n are the items from floor((k - 1) items / n) up to floor(k items / n).
 */
import { usageError } from '../base/errors.ts'

export interface Shard {
  /** From 1. */
  readonly index: number
  readonly of: number
}

/** Items from `from` up to, not including, `to`. */
export interface Range {
  readonly from: number
  readonly to: number
}

/** More only make errors: every share reads the model and the data. */
const MOST_SHARDS = 9999

/** `2/8`. */
export function parseShard(text: string): Shard {
  const [, index = 0, of = 0] = /^(\d+)\/(\d+)$/.exec(text)?.map(Number) ?? []
  if (of >= 1 && of <= MOST_SHARDS && index >= 1 && index <= of) return { index, of }
  const next = index === 0 && of > 0 ? 'shares are numbered from 1' : 'e.g. --shard 2/8'
  throw usageError(`--shard must be I/N with I from 1 to N, not '${text}'`, next)
}

export const shardName = ({ index, of }: Shard): string => `${index}/${of}`

export function rangeOf({ index, of }: Shard, items: number): Range {
  return { from: Math.floor(((index - 1) * items) / of), to: Math.floor((index * items) / of) }
}
