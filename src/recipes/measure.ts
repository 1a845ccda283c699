/** What a recipe says about each stage's model: accuracy, sparsity, bits, bytes, score, checks. */
import { fileBytes, type LayerInfo, modelInfo } from '../analysis/model-info.ts'
import { usageError } from '../base/errors.ts'
import { checkModels } from '../check/check.ts'
import { checkBatches } from '../check/check-data.ts'
import { comparedMetrics, metricChanges } from '../check/check-metrics.ts'
import { gatesOf } from '../check/check-options.ts'
import { readModel } from '../codec/codec.ts'
import type { SampleSet } from '../data/array-set.ts'
import { agreeOnOrder } from '../data/class-order.ts'

import { pixelsOf } from '../data/sample-set.ts'
import { accuracyOf, checkMeasured } from '../evaluate/evaluate.ts'
import { chosenMetrics, measure as measureMetrics } from '../evaluate/measure.ts'
import { accuracy } from '../evaluate/metrics/accuracy.ts'
import type { Model } from '../graph/model.ts'
import { trainingWarning } from '../layers/training-mode.ts'
import { announceDevice } from '../runtime/devices/device.ts'
import { score } from '../score/score.ts'
import { pathOf } from './key.ts'
import type { Stage, StageCheck } from './recipe.ts'
import type { StageMetrics } from './record.ts'
import type { WorkFolder } from './work-folder.ts'

export interface MeasureContext {
  readonly folder: WorkFolder
  readonly test: SampleSet | null
  readonly signal?: AbortSignal | undefined
  log(message: string): void
  progress(label: string, done: number, total: number): void
}

/** Measures the model in the stage's file. */
export async function measure(stage: Stage, c: MeasureContext): Promise<StageMetrics> {
  const path = c.folder.files(stage.name).model
  const model = await readModel(path)
  const warning = trainingWarning(model)
  if (warning) c.log(warning)
  const info = await modelInfo(model, { bytes: await fileBytes(model, path), warn: c.log })
  const checks: StageMetrics['checks'][number][] = []
  for (const check of stage.checks) checks.push(await runCheck(model, check, c))
  return {
    ...(await evaluated(model, stage.eval, c)),
    bytes: info.bytes,
    parameters: info.parameters,
    macs: info.macs,
    ...layerSummary(info.layers),
    score: stage.score && (await scoreTotals(model, stage.score)),
    checks,
  }
}

/** Over all layers: by weights, and for activations by multiply-accumulates. */
export function layerSummary(
  layers: readonly LayerInfo[],
): Pick<StageMetrics, 'sparsity' | 'weightBits' | 'activationBits'> {
  const mean = (value: (l: LayerInfo) => number, weight: (l: LayerInfo) => number): number => {
    const total = layers.reduce((n, l) => n + weight(l), 0)
    return total === 0 ? 0 : layers.reduce((n, l) => n + value(l) * weight(l), 0) / total
  }
  return {
    sparsity: mean(
      (l) => l.sparsity,
      (l) => l.weights,
    ),
    weightBits: mean(
      (l) => l.weightBits,
      (l) => l.weights,
    ),
    activationBits: mean(
      (l) => l.activationBits,
      (l) => l.macs ?? l.weights,
    ),
  }
}

async function evaluated(
  model: Model,
  options: Stage['eval'],
  c: MeasureContext,
): Promise<Pick<StageMetrics, 'eval' | 'metrics'>> {
  if (!options) return { eval: null }
  const { limit, batch, threads, device, metric, minAccuracy } = options
  const data = testSet(c, limit)
  const preprocess = await pixelsOf(model, data, {}, c.log)
  const chosen = chosenMetrics(model, data, metric)
  if (minAccuracy !== undefined && !chosen.includes(accuracy))
    throw usageError('min-accuracy needs the accuracy', 'add it to "metric"')
  const measured = await measureMetrics(model, data, preprocess, chosen, {
    ...{ batch, load: { threads } },
    ...(await announceDevice(device, c.log)),
    ...(c.signal && { signal: c.signal }),
    onProgress: (done, total) => c.progress('eval', done, total),
  })
  const result = accuracyOf(measured)
  if (result) checkMeasured(result)
  const { [accuracy.name]: _, ...others } = measured.metrics
  return { eval: result, ...(Object.keys(others).length > 0 && { metrics: others }) }
}

async function scoreTotals(model: Model, options: NonNullable<Stage['score']>) {
  const { layers: _, ...totals } = await score(model, options)
  return totals
}

async function runCheck(model: Model, { against, options }: StageCheck, c: MeasureContext) {
  const reference = await readModel(pathOf(against, c.folder))
  agreeOnOrder(reference, model)
  const data = testSet(c, options.limit)
  const preprocess = await pixelsOf(reference, data, {}, c.log)
  const result = await checkModels(reference, model, {
    batches: checkBatches(reference, data, preprocess, options.batch),
    onProgress: (done) => c.progress('check', done, data.size),
    ...(c.signal && { signal: c.signal }),
  })
  const { metric, batch } = options
  const compared =
    metric &&
    (await comparedMetrics(reference, model, data, preprocess, metric, {
      ...{ batch, ...(c.signal && { signal: c.signal }) },
      onProgress: (done, total) => c.progress('metrics', done, total),
    }))
  const metrics = compared && (await metricChanges(compared, (which) => compared.readings(which)))
  return {
    ...{ against: against.kind === 'file' ? against.path : against.name, gates: gatesOf(options) },
    result: { ...result, ...(metrics && { metrics }) },
  }
}

function testSet(c: MeasureContext, limit: number | undefined): SampleSet {
  if (!c.test) throw usageError('there are no data to measure on', 'name them in "data"')
  return limit === undefined ? c.test : c.test.take(limit)
}
