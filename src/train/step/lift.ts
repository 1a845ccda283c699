/** A model in the form that an executor supports. */
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { leaveEarlyOpsets, upgradeModelTo } from '../../ops/raise-opset.ts'
import { applyPass } from '../../pass-manager/manager.ts'
import { inlineFunctions } from '../../passes/inline-functions.ts'
import { lowerFakeQuant } from '../../passes/lower-fake-quant.ts'
import type { Executor } from '../../runtime/executor.ts'

/** The model itself, or a copy at an opset that the rules of passes and losses know. */
export function runnable(model: Model): Model {
  const copy = cloneModel(model)
  return leaveEarlyOpsets(copy, () => {}) ? copy : model
}

/** The model itself where the executor knows every opset; else a copy, upgraded, its quantisers in float arithmetic. */
export async function liftedFor(executor: Executor, model: Model): Promise<Model> {
  if (executor.opset === undefined) return model
  const copy = cloneModel(model)
  copy.graph.fixDefaults()
  inlineFunctions(copy)
  if (copy.opset < executor.opset) upgradeModelTo(copy, executor.opset)
  await applyPass(copy, lowerFakeQuant, {})
  return copy
}
