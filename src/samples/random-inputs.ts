/**
 * Random inputs of the graph's own types, for models without data: enough to calibrate on, to check with, and to distil a
 * model into a smaller one. They say nothing about accuracy, and every command that uses them prints a warning.
 *
 * Values are those of random-feeds.ts, sizes ones that run (batch-plan.ts).
 */
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { type BatchPlan, batchPlan, dimsAt, type PlanOptions } from './batch-plan.ts'
import { randomFeeds } from './random-feeds.ts'

export interface RandomInputs {
  /** Dims of each input, batch included. */
  readonly dims: Readonly<Record<string, readonly number[]>>
  /** Samples in one set of inputs: the batch asked for, or the one that works. */
  readonly batch: number
  /** How the model takes samples. */
  readonly plan: BatchPlan
  /** One set of inputs; the same keys give the same numbers. */
  feeds(...keys: readonly number[]): Record<string, Tensor>
}

/** Model error for inputs that have no random values, and where no size of the dynamic dims makes the model run. */
export async function randomInputs(model: Model, batch: number, options: PlanOptions = {}): Promise<RandomInputs> {
  const plan = await batchPlan(model, batch, options)
  const dims = dimsAt(plan, plan.batch)
  const make = randomFeeds(model)
  return { dims, batch: plan.batch, plan, feeds: (...keys) => make(dims, keys) }
}
