/** Ranks of values, by onnxruntime's shape inference where the file does not declare them. */
import { cloneModel } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'

/** A look-up that gives null where the rank is unknown. Works on a copy: the model's own types stay as they are. */
export async function rankLookup(model: Model): Promise<(v: Value) => number | null> {
  const typed = cloneModel(model)
  await inferTypes(typed)
  return (v) => (v.constant?.dims ?? v.type?.dims ?? typed.graph.find(v.name)?.type?.dims)?.length ?? null
}
