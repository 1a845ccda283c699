/**
 * A model in the form that onnxruntime is given: it has no kernels for many forms of opsets 1 to 6, so a copy of such a
 * model is brought to 7. What cannot be brought there goes out as it is, for the engine to say what it makes of it. Without
 * optimisations it goes out without integers of less than a byte that it would compute wrongly (lowerings/nibble-bytes.ts).
 */
import { encodeModel } from '../../codec/codec.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { hasNibbles, nibblesToBytes } from '../../lowerings/nibble-bytes.ts'
import { leaveEarlyOpsets, OLDEST_TARGET } from '../../ops/raise-opset.ts'
import type { LoadOptions } from '../executor.ts'

export function engineBytes(model: Model, { optimization, asWritten }: LoadOptions = {}): Uint8Array {
  const early = (model.opsets.get('') ?? OLDEST_TARGET) < OLDEST_TARGET
  const nibbles = optimization === 'disabled' && !asWritten && hasNibbles(model)
  if (!early && !nibbles) return encodeModel(model)
  const copy = cloneModel(model)
  if (early) leaveEarlyOpsets(copy, () => {})
  if (nibbles) nibblesToBytes(copy)
  return encodeModel(copy)
}
