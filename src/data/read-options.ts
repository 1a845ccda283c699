/** What every kind of data set is told when it is opened. */
import type { StoreOptions } from './picture-store.ts'

/** `memory`: bytes that images may take. */
export type ReadOptions = StoreOptions
