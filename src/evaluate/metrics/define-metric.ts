/**
 * What a metric is: one declaration. `mnc eval --metric`, help and messages derive from it. Declarations import each other
 * and types only, so that `mnc --help` stays fast.
 */
import type { ElementType } from '../../graph/types.ts'

/** The output that is measured. */
export interface MeasuredOutput {
  readonly name: string
  readonly elem: ElementType
  /** As the graph declares it; null where it is open. */
  readonly lastDim: number | null
  /** Its scores are probabilities already. */
  readonly isProbability: boolean
  /** Of the labels; 0 where there are none. */
  readonly classes: number
  readonly classNames: readonly string[] | null
}

/** One output for one sample, and what it should be. */
export interface MetricSample {
  /** What the model returns, row-major. */
  readonly got: ArrayLike<number>
  /** What it should be: the data's array for this output, or what the reference returns. Empty for metrics of labels. */
  readonly want: ArrayLike<number>
  /** -1 for metrics of values. */
  readonly label: number
}

/** What a metric says of one output. */
export interface Measured {
  readonly value: number
  /** Further figures, for --json. */
  readonly details?: Readonly<Record<string, unknown>>
  /** What people see besides the value: rows of a table, the first one its heads. */
  readonly table?: readonly (readonly string[])[]
}

/** One measurement under way. */
export interface Measuring {
  /** A string says what about the sample cannot be measured, and ends the run. */
  add(sample: MetricSample): string | undefined
  result(): Measured
}

/** A metric: what it is compared with, and how it is computed, sample by sample. */
export interface MetricDef {
  readonly name: string
  readonly summary: string
  readonly better: 'higher' | 'lower'
  /** The class of each sample, or numbers to compare each output with. */
  readonly against: 'labels' | 'values'
  start(output: MeasuredOutput): Measuring
}

/** Declares a metric, which `--metric NAME` then measures. */
export const defineMetric = (metric: MetricDef): MetricDef => metric
