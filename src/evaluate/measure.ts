/**
 * Metrics of a model over a data set, in onnxruntime, all in one pass. A metric of labels reads the output with the scores of
 * classes; a metric of values every output that a reference gives, too, or else every one for which the data hold an array.
 */
import { type MncError, modelError, usageError } from '../base/errors.ts'
import { type LongRun, stopIfAborted } from '../base/long-run.ts'
import { ArraySet, type Column, type SampleSet } from '../data/array-set.ts'
import { bind } from '../data/bind.ts'
import { checkClasses, type Preprocess, statedClasses } from '../data/preprocess.ts'
import { type SampleBatch, sampleBatches, samplePlan } from '../data/sample-set.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { findOp } from '../ops/index.ts'
import type { Executor, Fallback, LoadOptions, Session } from '../runtime/executor.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import type { BatchPlan } from '../samples/batch-plan.ts'
import { runSamples, type SampleOutputs } from '../samples/run-samples.ts'
import { liftedFor } from '../train/step/lift.ts'
import { isFloatOutput, keepsOrder, labelsOutput, pairByName } from '../train/step/outputs.ts'
import { accuracy } from './metrics/accuracy.ts'
import { metricsNamed } from './metrics/chosen.ts'
import type { Measured, MeasuredOutput, Measuring, MetricDef, MetricSample } from './metrics/define-metric.ts'

/** Progress counts samples. */
export interface MeasureOptions extends LongRun {
  /** Samples in a batch; 100 by default. A model that runs at one batch only takes its own. */
  readonly batch?: number
  /** How the model takes samples, where that is known; found by running it otherwise. */
  readonly plan?: BatchPlan
  readonly load?: LoadOptions
  /** onnxruntime's CPU by default. */
  readonly executor?: Executor
  /** What metrics of values compare with, in place of arrays of the data; takes the same inputs. */
  readonly reference?: Model | undefined
  /** Called with what runs on the CPU although the executor's device is another. */
  readonly onFallbacks?: (fallbacks: readonly Fallback[]) => void
}

/** Value of a metric, by output where there are several. */
export interface MetricResult extends Measured {
  /** By output, where several are measured; the value is their mean. */
  readonly outputs?: Readonly<Record<string, Measured>>
}

/** Metrics of a model over a data set. */
export interface Measurement {
  readonly samples: number
  readonly samplesPerSecond: number
  /** By name. */
  readonly metrics: Readonly<Record<string, MetricResult>>
}

/**
 * Folds every Q/DQ pair of constant weights at load. Without it onnxruntime dequantises 4-bit weights on every run;
 * results are the same bits.
 */
const FAST_EVALUATION: LoadOptions = { config: { 'session.disable_quant_qdq': '1' } }

const BATCH = 100

/** Usage errors for metrics that the data cannot answer; a model error for outputs that a metric cannot read. */
export async function measure(
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
  metrics: readonly MetricDef[],
  options: MeasureOptions = {},
): Promise<Measurement> {
  const gauges = gaugesOf(model, set, metrics, options.reference)
  const tally = new Tally(metrics, gauges)
  for await (const read of readings(model, set, preprocess, gauges, options)) tally.add(read)
  return tally.result()
}

/** What the metrics of a run read of some samples. */
export interface Reading {
  readonly count: number
  /** That running them took. */
  readonly seconds: number
  /** Of each gauge, in their order. */
  readonly samples: readonly (readonly MetricSample[])[]
}

/** Runs the samples of `set`, a batch at a time. */
export async function* readings(
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
  gauges: readonly Gauge[],
  options: MeasureOptions = {},
): AsyncGenerator<Reading, void, undefined> {
  const { executor = ortExecutor(), reference } = options
  const size = options.batch ?? BATCH
  // in a separate process, before the model is run here
  const plan = options.plan ?? (await samplePlan(model, set, preprocess, Math.min(size, set.size)))
  const sessions: Session[] = []
  const open = async (m: Model): Promise<Session> => {
    const session = await executor.load(await liftedFor(executor, m), { ...FAST_EVALUATION, ...options.load })
    sessions.push(session)
    return session
  }
  try {
    const own = await open(model)
    options.onFallbacks?.(own.fallbacks)
    const second = reference && gauges.some((g) => g.partner) ? await referenceRun(reference, model, plan, open) : null
    const names = [...new Set(gauges.map((g) => g.output.name))]
    let done = 0
    for await (const batch of sampleBatches(model, set, preprocess, size)) {
      stopIfAborted(options.signal, `interrupted after ${done} of ${set.size} samples`)
      const start = performance.now()
      const got = await runSamples(own, plan, batch.feeds, batch.count, names)
      const seconds = (performance.now() - start) / 1000
      const wanted = await second?.(batch, [...new Set(gauges.flatMap((g) => g.partner ?? []))])
      const { count } = batch
      yield { count, seconds, samples: gauges.map((gauge) => samplesOf(gauge, got, batch, wanted)) }
      done += count
      options.onProgress?.(done, set.size)
    }
  } finally {
    for (const session of sessions) await session.dispose()
  }
}

/** Metrics by name; without names accuracy, or mse where the data have arrays for outputs and no labels. */
export function chosenMetrics(
  model: Model,
  set: SampleSet,
  names: readonly string[] | undefined,
  hasReference = false,
): readonly MetricDef[] {
  const isTargeted = !set.isLabelled && set instanceof ArraySet && (hasReference || bind(model, set).targets.size > 0)
  return metricsNamed(names, isTargeted)
}

/** One metric of one output. */
export interface Gauge {
  /** Its name. */
  readonly metric: string
  readonly against: MetricDef['against']
  readonly output: MeasuredOutput
  /** The reference's output of which it is measured; null: data are. */
  readonly partner: string | null
  /** What holds the data, for messages. */
  readonly file?: string | undefined
}

/** What is measured of which output. */
export function gaugesOf(model: Model, set: SampleSet, metrics: readonly MetricDef[], reference?: Model): Gauge[] {
  const { outputs } = model.graph
  const targets = set instanceof ArraySet ? bind(model, set).targets : new Map<string, Column>()
  const partners = new Map(
    reference ? [...pairByName(outputs.filter(isFloatOutput), reference.graph.outputs.filter(isFloatOutput))] : [],
  )
  return metrics.flatMap((metric): Gauge[] => {
    const { name, against } = metric
    const gauge = (v: Value, partner: string | null): Gauge => ({
      ...{ metric: name, against, output: measuredOutput(v, set), partner },
    })
    if (metric.against === 'labels') {
      if (!set.isLabelled)
        throw usageError(`${set.name} has no labels to measure accuracy with`, noLabels(targets.size))
      const scores = labelsOutput(outputs, targets) ?? outputs[0]!
      // a single score tells two classes apart
      if (!(statedClasses(model, scores) === 1 && set.classes <= 2)) checkClasses(model, set, scores)
      return [gauge(scores, null)]
    }
    const paired = [...partners].flatMap(([v, partner]) => (partner ? [gauge(v, partner.name)] : []))
    if (paired.length > 0) return paired
    const known = outputs.filter((v) => targets.has(v.name))
    if (known.length > 0) return known.map((v) => ({ ...gauge(v, null), file: targets.get(v.name)!.file }))
    throw usageError(
      `--metric ${metric.name} compares outputs with numbers, and ${set.name} has none for them`,
      `give arrays called ${outputs.map((v) => v.name).join(', ')} (--map OUTPUT=ARRAY), or --reference FILE`,
    )
  })
}

const noLabels = (targets: number): string =>
  targets > 0 ? 'it has arrays for outputs: measure --metric mse' : 'measure --metric cosine --reference FILE'

function measuredOutput(v: Value, set: SampleSet): MeasuredOutput {
  const last = v.type?.dims?.at(-1)
  return {
    ...{ name: v.name, elem: v.type?.elem ?? 'float32', lastDim: typeof last === 'number' ? last : null },
    ...{ isProbability: isProbability(v), classes: set.classes, classNames: set.classNames ?? null },
  }
}

/** Whether the scores are probabilities already; logarithms of them are as good as logits. */
function isProbability(output: Value): boolean {
  const n = output.producer
  if (n && keepsOrder(n)) return isProbability(n.input(0))
  return n !== null && findOp(n)?.distribution === 'linear'
}

/** Runs the reference on what the model is fed; inputs are matched by position. */
async function referenceRun(reference: Model, model: Model, plan: BatchPlan, open: (m: Model) => Promise<Session>) {
  const theirs = reference.graph.fed.map((v) => v.name)
  const ours = model.graph.fed.map((v) => v.name)
  if (theirs.length !== ours.length)
    throw usageError(`the reference has ${theirs.length} inputs, and the model ${ours.length}`)
  const session = await open(reference)
  const outputs = new Map(
    [...pairByName(model.graph.outputs, reference.graph.outputs)].flatMap(([own, other]) => {
      const layout = plan.outputs.get(own.name)
      return other && layout !== undefined ? [[other.name, layout] as const] : []
    }),
  )
  const inputs = new Map(ours.map((name, i) => [theirs[i]!, plan.inputs.get(name)!]))
  return ({ feeds, count }: SampleBatch, names: readonly string[]): Promise<SampleOutputs> =>
    runSamples(
      session,
      { ...plan, inputs, outputs },
      Object.fromEntries(ours.map((n, i) => [theirs[i]!, feeds[n]!])),
      count,
      names,
    )
}

function samplesOf(
  { against, output, partner }: Gauge,
  got: SampleOutputs,
  { labels, targets }: SampleBatch,
  wanted: SampleOutputs | undefined,
): MetricSample[] {
  const rows = against === 'labels' ? null : partner ? wanted![partner]! : rowsOf(targets[output.name]!)
  return got[output.name]!.map((own, i) => ({ got: own, want: rows?.[i] ?? [], label: rows ? -1 : labels![i]! }))
}

function rowsOf(t: Tensor): readonly ArrayLike<number>[] {
  const values = t.toNumbers()
  const width = t.size / Math.max(1, t.dims[0]!)
  return Array.from({ length: t.dims[0]! }, (_, i) =>
    Float64Array.from({ length: width }, (_, k) => values[i * width + k]!),
  )
}

/** Metrics under way, sample by sample in the order of the set. */
export class Tally {
  readonly #metrics: readonly MetricDef[]
  readonly #gauges: readonly { readonly gauge: Gauge; readonly measuring: Measuring }[]
  #samples = 0
  #seconds = 0

  constructor(metrics: readonly MetricDef[], gauges: readonly Gauge[]) {
    this.#metrics = metrics
    this.#gauges = gauges.map((gauge) => {
      const metric = metrics.find((m) => m.name === gauge.metric)!
      return { gauge, measuring: metric.start(gauge.output) }
    })
  }

  add({ count, seconds, samples }: Reading): void {
    for (const [k, { gauge, measuring }] of this.#gauges.entries())
      for (const [i, sample] of samples[k]!.entries()) {
        const fault = measuring.add(sample)
        if (fault !== undefined) throw notMeasurable(gauge, this.#samples + i, fault)
      }
    this.#samples += count
    this.#seconds += seconds
  }

  result(): Measurement {
    const metrics = Object.fromEntries(this.#metrics.map((m): [string, MetricResult] => [m.name, this.#resultOf(m)]))
    return { samples: this.#samples, samplesPerSecond: this.#samples / Math.max(this.#seconds, 1e-9), metrics }
  }

  /** Of several outputs the mean. */
  #resultOf({ name }: MetricDef): MetricResult {
    const own = this.#gauges.filter(({ gauge }) => gauge.metric === name)
    const results = own.map(({ measuring }) => measuring.result())
    if (results.length === 1) return results[0]!
    const value = results.reduce((sum, r) => sum + r.value, 0) / results.length
    return { value, outputs: Object.fromEntries(own.map(({ gauge }, i) => [gauge.output.name, results[i]!])) }
  }
}

function notMeasurable({ metric, against, output, file }: Gauge, sample: number, fault: string): MncError {
  const where = against === 'labels' ? '' : `output '${output.name}', sample ${sample}: ${metric}: `
  return modelError(
    metric === accuracy.name ? 'class-count' : 'not-measurable',
    `${where}${fault}`,
    file === undefined ? {} : { file },
  )
}
