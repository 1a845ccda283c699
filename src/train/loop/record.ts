/** What training writes into a model's history: the options that differ from their defaults, data, seed, results. */
import type { Model } from '../../graph/model.ts'
import { recordHistory } from '../../pass-manager/history.ts'
import { type TrainOptionsInput, trainOptions } from '../train-options.ts'
import type { TrainSummary } from './train-run.ts'

export interface TrainingFacts {
  readonly options: TrainOptionsInput
  readonly data: string
  readonly seed: number
  /** Fingerprint of the model before. */
  readonly input: string
  readonly summary: TrainSummary
}

export function recordTraining(model: Model, { options, data, seed, input, summary }: TrainingFacts): void {
  const { steps, loss, bestEpoch, valTop1, valMetric, divided } = summary
  recordHistory(model, {
    ...{ pass: 'train', options: { ...changedOptions({ ...options, ...divided }), data, seed }, input },
    metrics: { steps, loss, bestEpoch, valTop1, ...(valMetric && { [valMetric.name]: valMetric.value }) },
  })
}

/** Options that do not affect the weights beyond rounding: threads, and the device. */
const RUN_ONLY: ReadonlySet<string> = new Set(['threads', 'workers', 'device', 'memory'])

/** In the order of their declaration, so that equal runs give equal bytes. */
function changedOptions(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const isDefault = (spec: object, value: unknown): boolean =>
    JSON.stringify('default' in spec ? spec.default : undefined) === JSON.stringify(value)
  return Object.fromEntries(
    Object.entries(trainOptions).flatMap(([name, spec]) => {
      const value = options[name]
      return value === undefined || RUN_ONLY.has(name) || isDefault(spec, value) ? [] : [[name, value]]
    }),
  )
}
