/** Metrics by name, and those that are measured where none is named. */
import { usageError } from '../../base/errors.ts'
import { nearest } from '../../base/options.ts'
import { accuracy } from './accuracy.ts'
import type { MetricDef } from './define-metric.ts'
import { metrics } from './index.ts'
import { mse } from './mse.ts'

/** A usage error for a name that is none. */
export function metricNamed(name: string): MetricDef {
  const metric = metrics.find((m) => m.name === name)
  if (metric) return metric
  const all = metrics.map((m) => m.name)
  const near = nearest(name, all)
  throw usageError(
    `--metric: there is no metric '${name}'`,
    near ? `did you mean '${near}'?` : `there are ${all.join(', ')}`,
  )
}

/** `targets`: the data have no labels, but arrays of what outputs should give. */
export const metricsNamed = (names: readonly string[] | undefined, targets: boolean): readonly MetricDef[] =>
  names ? [...new Set(names)].map(metricNamed) : [targets ? mse : accuracy]
