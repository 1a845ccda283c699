/** What training writes into a model's history: the options that differ from their defaults, data and seed. */
import type { Model } from '../graph/model.ts'
import { recordHistory } from '../passes/manager.ts'
import { type TrainOptionsInput, trainOptions } from './train-options.ts'

export function recordTraining(model: Model, options: TrainOptionsInput, data: string, seed: number): void {
  recordHistory(model, 'train', { ...changedOptions(options), data, seed })
}

/** What the weights do not depend on: a run is the same with any number of threads. */
const RUN_ONLY: ReadonlySet<string> = new Set(['threads', 'workers'])

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
