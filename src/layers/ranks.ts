/** Ranks and dims of values, by onnxruntime's shape inference where the file does not declare them. */
import { cloneModel } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Dim } from '../graph/types.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'

export type DimsLookup = (v: Value) => readonly Dim[] | null

/** A look-up that gives null where the rank is unknown. Works on a copy: the model's own types stay as they are. */
export async function dimsLookup(model: Model): Promise<DimsLookup> {
  const typed = cloneModel(model)
  await inferTypes(typed)
  return (v) => v.constant?.dims ?? v.type?.dims ?? typed.graph.find(v.name)?.type?.dims ?? null
}

/** Likewise of ranks. */
export async function rankLookup(model: Model): Promise<(v: Value) => number | null> {
  const dims = await dimsLookup(model)
  return (v) => dims(v)?.length ?? null
}
