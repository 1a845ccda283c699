/** Options for opening a data set of any kind. */
import type { ColumnMap } from './array-set.ts'
import type { StoreOptions } from './picture-store.ts'

/** `memory`: bytes that images may take. */
export interface ReadOptions extends StoreOptions {
  /** Arrays by input, by output, or by `labels`. */
  readonly map?: ColumnMap | undefined
  /** Samples a second to which sounds are resampled. */
  readonly sampleRate?: number | undefined
  /** Length of each sound. */
  readonly seconds?: number | undefined
}
