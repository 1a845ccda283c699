/**
 * Whether onnxruntime can load a model at all: operators of a version that it has no kernel for, types that its kernels do
 * not take, shapes that do not fit. Large constants are left out first (inputs of their type stand for them), so that a
 * large file is not loaded to learn that it is fine; only if that is refused is the whole model tried.
 */
import { MncError } from '../../base/errors.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { loadIsolated } from './engine.ts'

/** Constants with more elements do not determine shapes. */
const SMALL = 1024

/** Its objection to the model; null if it loads it. */
export async function engineRefusal(model: Model): Promise<string | null> {
  let said: string | null = null
  for (const part of [withoutLarge(model), model])
    try {
      const session = await loadIsolated(part, { optimization: 'disabled', asWritten: true })
      await session.dispose()
      return null
    } catch (error) {
      if (!(error instanceof MncError)) throw error
      said = error.message
    }
  return said
}

/** Whether it loads the model without its large constants, which is quick and checks types, attributes and versions. */
export async function loadsInPart(model: Model): Promise<boolean> {
  try {
    const session = await loadIsolated(withoutLarge(model), { optimization: 'disabled', asWritten: true })
    await session.dispose()
    return true
  } catch (error) {
    if (error instanceof MncError) return false
    throw error
  }
}

function withoutLarge(model: Model): Model {
  const copy = cloneModel(model)
  for (const v of [...copy.graph.initializers()])
    if (v.constant!.size > SMALL && v.constant!.type !== 'string') copy.graph.initializerToInput(v)
  return copy
}

/** The warning for a model that was upgraded: not every operator has a kernel for its newest version. Null if it loads. */
export async function refusalWarning(model: Model): Promise<string | null> {
  const refusal = await engineRefusal(model)
  return refusal && `WARNING: at opset ${model.opset} ${refusal}`
}
