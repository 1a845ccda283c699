import type { CheckBatch } from '../check/check.ts'

/** Samples that a model can be run on again and again. */
export interface SampleSource {
  readonly count: number
  batches(): AsyncIterable<CheckBatch>
}
