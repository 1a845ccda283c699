/** What is measured on the part of the data that is held out, and chooses the epoch whose weights are kept. */
import { usageError } from '../../base/errors.ts'
import type { SampleSet } from '../../data/array-set.ts'
import type { Preprocess } from '../../data/preprocess.ts'
import { accuracyOf } from '../../evaluate/evaluate.ts'
import { chosenMetrics, gaugesOf, type MeasureOptions, measure } from '../../evaluate/measure.ts'
import { accuracy } from '../../evaluate/metrics/accuracy.ts'
import type { MetricDef } from '../../evaluate/metrics/define-metric.ts'
import type { Model } from '../../graph/model.ts'
import type { TrainOptions } from '../train-options.ts'
import type { DataPlan } from './step-plan.ts'
import type { EpochEvent } from './train-run.ts'

/** null where nothing is held out. A usage error for a metric that the data cannot answer. */
export function validationMetric(model: Model, { metric }: TrainOptions, { validation }: DataPlan): MetricDef | null {
  if (!validation) {
    if (metric === undefined) return null
    throw usageError(`--metric ${metric} is measured on a part of the data that is held out`, 'add --val-fraction 0.1')
  }
  const chosen = chosenMetrics(model, validation, metric === undefined ? undefined : [metric])
  // what it cannot answer is an error now
  gaugesOf(model, validation, chosen)
  return chosen[0]!
}

/** Its value, and the cross entropy where that comes with it. */
export async function measureValidation(
  metric: MetricDef,
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
  options: MeasureOptions,
): Promise<{ readonly value: number; readonly loss: number | null }> {
  const measured = await measure(model, set, preprocess, [metric], options)
  return { value: measured.metrics[metric.name]!.value, loss: accuracyOf(measured)?.loss ?? null }
}

export const isBetter = (metric: MetricDef, value: number, best: { readonly value: number; readonly epoch: number }) =>
  best.epoch < 0 || (metric.better === 'higher' ? value > best.value : value < best.value)

/** A value of the metric, as events and the summary have it. */
export function namedValue(
  metric: MetricDef | null,
  value: number | undefined,
): Pick<EpochEvent, 'valTop1' | 'valMetric'> {
  if (value === undefined || !metric) return { valTop1: null }
  const { name } = metric
  return name === accuracy.name ? { valTop1: value } : { valTop1: null, valMetric: { name, value } }
}
