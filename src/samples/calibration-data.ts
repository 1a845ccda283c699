/** The data that passes calibrate on. */
import { stopIfAborted } from '../base/long-run.ts'
import type { Tensor } from '../graph/tensor.ts'

/** Real inputs for passes that calibrate: preprocessed batches, one entry per graph input. */
export interface CalibrationData {
  /** Samples in all batches together, where rows of the last one only fill it up and do not count. */
  readonly samples?: number | undefined
  /** Batches must not be cut: the model runs at this size only, or first dims are not the batch. Known with the first one. */
  readonly isWhole?: boolean | undefined
  /** Whoever asked for the work may stop it: `stopIfAborted`. */
  readonly signal?: AbortSignal | undefined
  batches(): AsyncIterable<Readonly<Record<string, Tensor>>>
}

/** The same data, whose batches end with an `interrupt` error once the signal says so. */
export function stoppable(data: CalibrationData, signal: AbortSignal | undefined): CalibrationData {
  if (!signal) return data
  return {
    // both may be known with the first batch only
    get samples(): number | undefined {
      return data.samples
    },
    get isWhole(): boolean | undefined {
      return data.isWhole
    },
    signal,
    async *batches() {
      for await (const batch of data.batches()) {
        stopIfAborted(signal)
        yield batch
      }
    },
  }
}
