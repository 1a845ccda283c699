/** How a model takes images: its batch is the first dim of its image input, the other dims are the preprocessing's. */
import type { Model } from '../graph/model.ts'
import { type BatchPlan, batchPlan, type PlanOptions } from '../samples/batch-plan.ts'
import { inputDims } from '../samples/input-shapes.ts'
import { batchDims } from './eval-batches.ts'
import { imageInput, type Preprocess } from './preprocess.ts'

/** `batch`: images wanted in one run. */
export async function imagePlan(
  model: Model,
  preprocess: Preprocess,
  batch: number,
  options: Pick<PlanOptions, 'reopen'> = {},
): Promise<BatchPlan> {
  const { name } = imageInput(model)
  const first = inputDims(model)[name]?.[0]
  const dims = batchDims(preprocess, 1).map((d, i) => (i === 0 ? (typeof first === 'number' ? first : null) : d))
  return batchPlan(model, batch, { ...options, dims: { [name]: dims } })
}
