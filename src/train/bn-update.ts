/**
 * Estimates BatchNormalization's running statistics anew: forward passes in training form over the data, means and
 * (unbiased) variances averaged over all batches with equal weight, what PyTorch does with momentum = None. Weights stay.
 */

import type { Dataset } from '../data/dataset.ts'
import { batchDims } from '../data/eval-batches.ts'
import { createLoader } from '../data/loader.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { modelError } from '../errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { WORKING_OPSET } from '../ops/define-op.ts'
import { removeDead } from '../passes/eliminate-dead.ts'
import { lowerFakeQuant } from '../passes/lower-fake-quant.ts'
import { runPass } from '../passes/manager.ts'
import { upgradeModelTo } from '../passes/upgrade-opset.ts'
import { widenFloats } from '../passes/widen-floats.ts'
import type { Executor, Fallback } from '../runtime/executor.ts'
import { inferTypes } from '../runtime/infer-types.ts'
import { ortExecutor } from '../runtime/ort.ts'
import { normNodes, separateStatistics, useBatchStatistics } from './batch-statistics.ts'
import type { FlatLayout } from './flat-layout.ts'
import { batchStatistics, fixBatch, runningStatistics, soleInput } from './step-graph.ts'

export interface BnUpdateOptions {
  readonly data: Dataset
  readonly preprocess: Preprocess
  readonly epochs?: number
  readonly batch?: number
  readonly augment?: string
  readonly seed?: number
  readonly workers?: number
  /** onnxruntime's CPU by default. */
  readonly executor?: Executor
  /** Told what runs on the CPU, though the executor's device is another. */
  readonly onFallbacks?: (fallbacks: readonly Fallback[]) => void
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: (done: number, total: number) => void
}

/** Updates `model` in place; returns how many BatchNormalization nodes it found. A model error where there is none. */
export async function updateBatchNorm(model: Model, options: BnUpdateOptions): Promise<number> {
  const { data, preprocess, epochs = 1, batch = 64, augment = 'standard', seed = 0, workers = 1 } = options
  separateStatistics(model.graph)
  const { forward, layout, layers } = await statisticsGraph(model, batch)
  const loader = createLoader(data, { batchSize: batch, preprocess, augment, seed, workers })
  const steps = Math.max(1, Math.round(loader.stepsPerEpoch * epochs))
  const session = await (options.executor ?? ortExecutor()).load(forward)
  options.onFallbacks?.(session.fallbacks)
  const sum = new Float64Array(layout.size)
  try {
    const input = soleInput(model.graph).name
    for await (const { step, images, count } of loader.batches(0, steps)) {
      options.signal?.throwIfAborted()
      const out = await session.run({ [input]: Tensor.float32(batchDims(preprocess, count), images) })
      const values = out.batch_statistics!.view('float32')
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
  return layers
}

interface StatisticsGraph {
  readonly forward: Model
  readonly layout: FlatLayout
  readonly layers: number
}

async function statisticsGraph(model: Model, batch: number): Promise<StatisticsGraph> {
  const forward = cloneModel(model)
  const { graph } = forward
  widenFloats(forward)
  if (forward.opset < WORKING_OPSET) upgradeModelTo(forward, WORKING_OPSET)
  fixBatch(soleInput(graph), batch)
  await inferTypes(forward, { dims: { '*': batch } })
  await runPass(forward, lowerFakeQuant, {})
  const norms = useBatchStatistics(normNodes(graph))
  graph.sort()
  if (norms.length === 0)
    throw modelError('no-batch-norm', 'the model has no BatchNormalization to update', {
      next: 'update before folding: fold-bn and export take them away',
    })
  const layout = runningStatistics(norms)
  await inferTypes(forward)
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  graph.addOutput(batchStatistics(graph, norms, layout))
  removeDead(graph)
  return { forward, layout, layers: norms.length }
}
