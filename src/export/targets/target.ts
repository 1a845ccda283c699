/**
 * Where a file is to run, and which files fit there. A target is a declaration: the forms that may be written for it, how one of
 * them is picked, and the readers that take it.
 */
import type { ReaderName } from '../../analysis/readers.ts'
import type { ExportOptions } from '../export-options.ts'

/** One way to write a file for a target: a format and its options. */
export interface Form {
  readonly options: ExportOptions
  /** Why it may be the one, for people: `it is ...`. */
  readonly because: string
}

/** A target of exports: the forms to try for it, and what decides between them. */
export interface TargetDef {
  readonly name: string
  /** What the file is for, as help and documents say it. */
  readonly summary: string
  /** From the likeliest on. */
  readonly forms: readonly Form[]
  /** Of the forms that its readers take: the first, the smallest file, or the fastest here. */
  readonly pick: 'first' | 'smallest' | 'fastest'
  /** What a search for such files makes small. */
  readonly aim: 'bytes' | 'latency'
  /** Every one of them takes the file, from this version on. */
  readonly readers: readonly `${ReaderName}>=${string}`[]
  /** Whether it is for quantised networks; else a float one will do. */
  readonly quantised: boolean
}

/** Declares a target, which `--target NAME` then takes. */
export const defineTarget = (def: TargetDef): TargetDef => def
