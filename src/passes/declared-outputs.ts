/**
 * What a file declares for its outputs (type, shape, doc string, metadata) is part of its interface. Passes make outputs
 * anew and infer types, often of less than was declared (a Reshape to a computed shape has open dims): what was
 * declared is put back. An output of another element type, or of unknown rank in the file, keeps what was found.
 */
import type { Model } from '../graph/model.ts'

/** Remembers what is declared; the function that is returned puts it back, by name. */
export function declaredOutputs({ graph }: Model): () => void {
  const declared = new Map(
    graph.outputs.map((v) => [v.name, { type: v.type, extra: v.extra, metadata: [...v.metadata] }]),
  )
  return () => {
    for (const v of graph.outputs) {
      const before = declared.get(v.name)
      if (!before) continue
      if (before.type?.dims && (!v.type || v.type.elem === before.type.elem)) v.setType(before.type)
      v.extra ??= before.extra
      for (const [key, text] of before.metadata) if (!v.metadata.has(key)) v.metadata.set(key, text)
    }
  }
}
