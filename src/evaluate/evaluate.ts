/** Accuracy of a classifier over a data set, in onnxruntime. */
import { modelError } from '../base/errors.ts'
import type { SampleSet } from '../data/array-set.ts'
import type { Preprocess } from '../data/preprocess.ts'
import type { Model } from '../graph/model.ts'
import { type Measurement, type MeasureOptions, measure } from './measure.ts'
import { accuracy } from './metrics/accuracy.ts'

/** Options of `evaluate`. */
export type EvaluateOptions = Omit<MeasureOptions, 'reference'>

/** Accuracy of a classifier. */
export interface Evaluation {
  readonly samples: number
  /** Fractions in [0, 1]. */
  readonly top1: number
  readonly top5: number
  /** Mean cross entropy, nats. */
  readonly loss: number
  readonly imagesPerSecond: number
}

/**
 * Labels are read in the order of classes that the model's metadata gives, if it does. Model error for outputs that are
 * not [N, classes] scores or whose class count is not the data set's.
 */
export async function evaluate(
  model: Model,
  dataset: SampleSet,
  preprocess: Preprocess | undefined,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  return accuracyOf(await measure(model, dataset, preprocess, [accuracy], options))!
}

/** What a measurement says about accuracy, if that was measured. */
export function accuracyOf({ samples, samplesPerSecond, metrics }: Measurement): Evaluation | null {
  const measured = metrics[accuracy.name]
  if (!measured) return null
  const { top5, loss } = measured.details as { readonly top5: number; readonly loss: number }
  return { samples, top1: measured.value, top5, loss, imagesPerSecond: samplesPerSecond }
}

/** A model error for a loss that is not a number: the accuracy means nothing then. */
export function checkMeasured(result: Evaluation, file?: string): void {
  if (Number.isNaN(result.loss))
    throw modelError(
      'nan-loss',
      `the loss is NaN: scores of some of the ${result.samples} images are NaN or infinite`,
      {
        file,
        next: 'check --mean, --std and --scale, and look for weights that are not finite',
      },
    )
}
