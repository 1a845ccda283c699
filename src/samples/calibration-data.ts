/** The data that passes calibrate on. */
import type { Tensor } from '../graph/tensor.ts'

/** Real inputs for passes that calibrate: preprocessed batches, one entry per graph input. */
export interface CalibrationData {
  /** Samples in all batches together, where rows of the last one only fill it up and do not count. */
  readonly samples?: number
  /** Batches must not be cut: the model runs at this size only, or first dims are not the batch. Known with the first one. */
  readonly isWhole?: boolean
  batches(): AsyncIterable<Readonly<Record<string, Tensor>>>
}
