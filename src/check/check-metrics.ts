/**
 * Metrics of a model beside those of its reference, on the same samples, fed as the reference is. Where the data have nothing for
 * metrics of values to compare with, the reference's outputs are what is wanted, and its own value is that of a perfect model.
 */
import { usageError } from '../base/errors.ts'
import { ArraySet, type SampleSet } from '../data/array-set.ts'
import { bind } from '../data/bind.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { chosenMetrics, type MeasureOptions, measure } from '../evaluate/measure.ts'
import type { Model } from '../graph/model.ts'
import type { MetricChange } from './check-result.ts'

/** Usage errors for metrics that there are none of, and for those that the data or the reference cannot answer. */
export async function compareMetrics(
  reference: Model,
  model: Model,
  data: SampleSet,
  preprocess: Preprocess | undefined,
  names: readonly string[],
  options: Pick<MeasureOptions, 'batch' | 'load' | 'signal' | 'onProgress'> = {},
): Promise<Readonly<Record<string, MetricChange>>> {
  const metrics = chosenMetrics(reference, data, names, true)
  const hasTargets = data instanceof ArraySet && bind(reference, data).targets.size > 0
  const needsReference = !hasTargets && metrics.some((m) => m.against === 'values')
  const run = { ...options, ...(needsReference && { reference }) }
  const ours = (await measure(reference, data, preprocess, metrics, run)).metrics
  // as a stock session computes it
  const stock = { ...run, load: { ...options.load, config: {} } }
  const theirs = (await measure(model, data, preprocess, metrics, stock)).metrics
  return Object.fromEntries(
    metrics.map(({ name, better }) => {
      const [own, other] = [ours[name]!.value, theirs[name]!.value]
      if (!Number.isFinite(own))
        throw usageError(`--metric ${name}: the reference's is ${own}, which nothing can be compared with`)
      return [name, { reference: own, model: other, worse: better === 'higher' ? own - other : other - own }]
    }),
  )
}
