/**
 * Metrics of a model beside those of its reference, on the same samples, fed as the reference is. Where the data have nothing for
 * metrics of values to compare with, the reference's outputs are what is wanted, and its own value is that of a perfect model.
 */
import { usageError } from '../base/errors.ts'
import { ArraySet, type SampleSet } from '../data/array-set.ts'
import { bind } from '../data/bind.ts'
import { inItems, inStep } from '../data/items.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { samplePlan } from '../data/sample-set.ts'
import {
  chosenMetrics,
  type Gauge,
  gaugesOf,
  type Measurement,
  type MeasureOptions,
  type Reading,
  readings,
  Tally,
} from '../evaluate/measure.ts'
import { metricNamed } from '../evaluate/metrics/chosen.ts'
import { type PackedReading, packReadings } from '../evaluate/packed-readings.ts'
import type { Model } from '../graph/model.ts'
import type { MetricChange } from './check-result.ts'

/** Something of the reference, and of the model. */
export interface Pair<T> {
  readonly reference: T
  readonly model: T
}

/** What is measured of both models. */
export interface ComparedMetrics {
  readonly names: readonly string[]
  readonly gauges: Pair<readonly Gauge[]>
  /** Of all of the data, or of some. */
  readings(which: keyof Pair<unknown>, samples?: SampleSet): AsyncGenerator<Reading, void, undefined>
}

type CompareOptions = Pick<MeasureOptions, 'batch' | 'load' | 'signal' | 'onProgress'>

/** Usage errors for metrics that there are none of, and for those that the data cannot answer. */
export async function comparedMetrics(
  reference: Model,
  model: Model,
  data: SampleSet,
  preprocess: Preprocess | undefined,
  names: readonly string[],
  options: CompareOptions & { readonly batch: number },
): Promise<ComparedMetrics> {
  const metrics = chosenMetrics(reference, data, names, true)
  const hasTargets = data instanceof ArraySet && bind(reference, data).targets.size > 0
  const needsReference = !hasTargets && metrics.some((m) => m.against === 'values')
  const wanted = needsReference ? reference : undefined
  const size = Math.min(options.batch, data.size)
  const sideOf = async (own: Model, config?: Readonly<Record<string, string>>) => {
    const plan = await samplePlan(own, data, preprocess, size)
    const gauges = gaugesOf(own, data, metrics, wanted)
    const load = { ...options.load, ...(config && { config }) }
    const run = { ...options, plan, reference: wanted, load }
    return { gauges, readings: (samples: SampleSet) => readings(own, samples, preprocess, gauges, run) }
  }
  // the model as a stock session computes it
  const sides = { reference: await sideOf(reference), model: await sideOf(model, {}) }
  return {
    names: metrics.map((m) => m.name),
    gauges: { reference: sides.reference.gauges, model: sides.model.gauges },
    readings: (which, samples = data) => sides[which].readings(samples),
  }
}

/** What is read of both models, for the file of a share: item by item of `size` samples. */
export async function* packedItems(
  { gauges, readings }: ComparedMetrics,
  samples: SampleSet,
  size: number,
): AsyncGenerator<Pair<PackedReading>, void, undefined> {
  const itemsOf = (which: keyof Pair<unknown>) => inItems(readings(which, samples), size)
  for await (const [reference, model] of inStep(itemsOf('reference'), itemsOf('model')))
    yield { reference: packReadings(reference, gauges.reference), model: packReadings(model, gauges.model) }
}

/** Both models' values, and how much worse the model's are; a usage error where the reference's is none to compare with. */
export async function metricChanges(
  { names, gauges }: Pick<ComparedMetrics, 'names' | 'gauges'>,
  readingsOf: (which: keyof Pair<unknown>) => AsyncIterable<Reading> | Iterable<Reading>,
): Promise<Readonly<Record<string, MetricChange>>> {
  const metrics = names.map(metricNamed)
  const measured = async (which: keyof Pair<unknown>): Promise<Measurement> => {
    const tally = new Tally(metrics, gauges[which])
    for await (const reading of readingsOf(which)) tally.add(reading)
    return tally.result()
  }
  const ours = await measured('reference')
  for (const { name } of metrics) {
    const { value } = ours.metrics[name]!
    if (!Number.isFinite(value))
      throw usageError(`--metric ${name}: the reference's is ${value}, which nothing can be compared with`)
  }
  const theirs = await measured('model')
  return Object.fromEntries(
    metrics.map(({ name, better }) => {
      const [own, other] = [ours.metrics[name]!.value, theirs.metrics[name]!.value]
      return [name, { reference: own, model: other, worse: better === 'higher' ? own - other : other - own }]
    }),
  )
}
