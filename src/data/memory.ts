/** How much memory data may take. */
import { totalmem } from 'node:os'
import { usageError } from '../base/errors.ts'
import { DEFAULT_MEMORY_MB } from './data-options.ts'
import type { Preprocess } from './preprocess.ts'

const MB = 2 ** 20

/** Half of what this process may use. */
const half = (): number => Math.min(totalmem(), process.constrainedMemory?.() || Number.POSITIVE_INFINITY) / 2

/** Bytes that the images of a set may take: what --data-memory says, or its default. */
export const memoryLimit = (megabytes?: number): number =>
  megabytes === undefined ? Math.min(DEFAULT_MEMORY_MB * MB, half()) : megabytes * MB

export const inMB = (bytes: number): string => `${Math.ceil(bytes / MB).toLocaleString('en')} MB`

/** A usage error where data would take more than the limit. `what`: what is large; infinite bytes: the number is unknown. */
export function checkMemory(bytes: number, limit: number, what: string): void {
  if (bytes <= limit) return
  const size = Number.isFinite(bytes) ? `takes ${inMB(bytes)} of memory, more` : 'takes more memory'
  throw usageError(`${what} ${size} than the ${inMB(limit)} for images`, 'see --data-memory')
}

/** Refuses impossible batches: large pictures, with a model that leaves its input's size open. */
export function checkBatchMemory(count: number, floats: number, { size: [height, width] }: Preprocess): void {
  if (floats * 4 <= half()) return
  throw usageError(
    `${count} images of ${height}x${width} in batches take ${inMB(floats * 4)} of memory, more than half of the machine's`,
    'use a smaller --batch, fewer --workers, or --input-size if the model takes any size',
  )
}
