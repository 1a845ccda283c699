/** Options for opening a data set of any kind. */
import type { StoreOptions } from './picture-store.ts'

/** `memory`: bytes that images may take. */
export type ReadOptions = StoreOptions
