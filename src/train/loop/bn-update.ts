/**
 * Re-estimates BatchNormalization's running statistics: forward passes in training form over the data, means and
 * (unbiased) variances averaged over all batches with equal weight, what PyTorch does with momentum = None. Weights stay.
 *
 * Where the model runs only at a smaller batch than the one asked for, the statistics of a batch are combined from those
 * of its K runs, of M elements each:
 *   mean = average of m_k,  variance = (average of v_k + m_k^2 - mean^2) KM / (KM - 1),  v_k the population variances
 */
import { modelError } from '../../base/errors.ts'
import { type LongRun, stopIfAborted } from '../../base/long-run.ts'
import type { SampleSet } from '../../data/array-set.ts'
import type { Preprocess } from '../../data/preprocess.ts'
import { samplePlan } from '../../data/sample-set.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { inferenceForm, trainingWarning, useRunningStatistics } from '../../layers/training-mode.ts'
import { leaveEarlyOpsets, toWorkingOpset } from '../../ops/raise-opset.ts'
import { applyPass } from '../../pass-manager/manager.ts'
import { fixOverridable } from '../../pass-manager/overridable.ts'
import { removeDead } from '../../passes/eliminate-dead.ts'
import { lowerFakeQuant } from '../../passes/lower-fake-quant.ts'
import { widenFloats } from '../../passes/widen-floats.ts'
import type { Executor, Fallback } from '../../runtime/executor.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../runtime/ort/ort.ts'
import { type NormLayer, normNodes, separateStatistics, useBatchStatistics } from '../step/batch-statistics.ts'
import type { FlatLayout } from '../step/flat-layout.ts'
import { batchStatistics, runningStatistics } from '../step/running-statistics.ts'
import { nameOf } from '../step/step-names.ts'
import { sourceOf } from './batch-source.ts'

/** Progress counts batches. */
export interface BnUpdateOptions extends LongRun {
  readonly data: SampleSet
  readonly preprocess: Preprocess | undefined
  readonly epochs?: number
  readonly batch?: number
  readonly augment?: string
  readonly seed?: number
  readonly workers?: number
  /** onnxruntime's CPU by default. */
  readonly executor?: Executor
  /** Called with what runs on the CPU although the executor's device is another. */
  readonly onFallbacks?: (fallbacks: readonly Fallback[]) => void
  /** Called with what was done to the model that its user should know. */
  readonly onWarning?: (warning: string) => void
}

/** Updates `model` in place; returns how many BatchNormalization nodes it found. A model error where there is none. */
export async function updateBatchNorm(model: Model, options: BnUpdateOptions): Promise<number> {
  const { data, preprocess, epochs = 1, batch = 64, augment = 'standard', seed = 0, workers = 1 } = options
  for (const warning of [fixOverridable(model), trainingWarning(model)]) if (warning) options.onWarning?.(warning)
  leaveEarlyOpsets(model, (message) => options.onWarning?.(message))
  separateStatistics(model.graph)
  const plan = await samplePlan(inferenceForm(model), data, preprocess, batch, { reopen: true })
  const source = sourceOf(model, data, preprocess, { batch, parts: 1, seed, augment, workers }, plan)
  const { forward, layout, norms } = await statisticsGraph(model, source.dims)
  const steps = Math.max(1, Math.round(source.stepsPerEpoch * epochs))
  const session = await (options.executor ?? ortExecutor()).load(forward)
  options.onFallbacks?.(session.fallbacks)
  const sum = new Float64Array(layout.size)
  try {
    const input = model.graph.fed[0]!.name
    for await (const { step, parts } of source.batches(0, steps)) {
      stopIfAborted(options.signal, `interrupted after ${step} of ${steps} batches`)
      const seen: Float32Array[] = []
      for (const { images, others } of parts) {
        const out = await session.run({ [input]: images, ...others })
        seen.push(out.batch_statistics!.view('float32'))
      }
      const values = parts.length === 1 ? seen[0]! : together(seen, layout, norms)
      for (let i = 0; i < sum.length; i++) sum[i]! += values[i]!
      options.onProgress?.(step + 1, steps)
    }
  } finally {
    await session.dispose()
  }
  for (const e of layout.entries) {
    const mean = Float32Array.from(sum.subarray(e.offset, e.offset + e.size), (s) => s / steps)
    const v = model.graph.find(e.name)!
    v.setConstant(Tensor.from(v.constant!.type, e.dims, mean))
  }
  return norms.length
}

/** The statistics of a batch from those of its runs. */
function together(seen: readonly Float32Array[], layout: FlatLayout, norms: readonly NormLayer[]): Float64Array {
  const out = new Float64Array(layout.size)
  const at = new Map(layout.entries.map((e) => [e.name, e]))
  const K = seen.length
  for (const n of norms) {
    const [means, variances] = [at.get(nameOf(n.runningMean))!, at.get(nameOf(n.runningVariance))!]
    const biased = (n.count - 1) / n.count // 0 where a run has one element only: its variance is 0
    for (let c = 0; c < means.size; c++) {
      let [mean, square] = [0, 0]
      for (const s of seen) {
        const m = s[means.offset + c]!
        mean += m / K
        square += (s[variances.offset + c]! * biased + m * m) / K
      }
      const M = K * n.count
      out[means.offset + c] = mean
      out[variances.offset + c] = (Math.max(0, square - mean * mean) * M) / (M - 1)
    }
  }
  return out
}

interface StatisticsGraph {
  readonly forward: Model
  readonly layout: FlatLayout
  readonly norms: readonly NormLayer[]
}

async function statisticsGraph(
  model: Model,
  dims: Readonly<Record<string, readonly number[]>>,
): Promise<StatisticsGraph> {
  const forward = cloneModel(model)
  const { graph } = forward
  widenFloats(forward)
  toWorkingOpset(forward)
  useRunningStatistics(forward)
  for (const v of graph.fed) v.setType({ elem: v.type?.elem ?? 'float32', dims: dims[v.name]! })
  await inferTypes(forward)
  await applyPass(forward, lowerFakeQuant, {})
  const norms = useBatchStatistics(normNodes(graph))
  graph.sort()
  if (norms.length === 0)
    throw modelError('no-batch-norm', 'the model has no BatchNormalization to update', {
      next: 'update before folding: fold-bn and export remove them',
    })
  const layout = runningStatistics(norms)
  await inferTypes(forward)
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  graph.addOutput(batchStatistics(graph, norms, layout))
  removeDead(graph)
  return { forward, layout, norms }
}
