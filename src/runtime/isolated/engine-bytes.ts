/**
 * A model in the form that onnxruntime is given: it has no kernels for many forms of opsets 1 to 6, so a copy of such a
 * model is brought to 7. What cannot be brought there goes out as it is, for the engine to say what it makes of it.
 */
import { encodeModel } from '../../codec/codec.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { leaveEarlyOpsets, OLDEST_TARGET } from '../../ops/raise-opset.ts'

export function engineBytes(model: Model): Uint8Array {
  if ((model.opsets.get('') ?? OLDEST_TARGET) >= OLDEST_TARGET) return encodeModel(model)
  const copy = cloneModel(model)
  leaveEarlyOpsets(copy, () => {})
  return encodeModel(copy)
}
