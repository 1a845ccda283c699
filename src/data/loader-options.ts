/** `--workers`, `--batch` and `--augment`: the same wherever batches are prepared. */
import type { OptionSpec } from '../base/options.ts'

/** Each is a thread with two batches of its own; one makes about a thousand images per second. */
export const MOST_WORKERS = 64

export const workersOption = {
  type: 'integer',
  minimum: 0,
  maximum: MOST_WORKERS,
  default: 1,
  description: 'Threads that prepare batches',
} as const satisfies OptionSpec

export const batchOption = (images: number, description = 'Images per batch') =>
  ({ type: 'integer', minimum: 1, default: images, description }) as const

/** Policies of `--augment` that have a name; others are files. */
export const augmentNames = ['none', 'standard', 'micronet'] as const
