/**
 * What a file declares for its outputs (type, shape, doc string, metadata) is part of its interface. Passes replace
 * outputs and infer types, often less precise than those declared (a Reshape to a computed shape has dynamic dims): what
 * was declared is put back, with sizes in place of the names of dims that a pass fixed in the inputs. An output of another
 * element type, or of unknown rank in the file, keeps what was found.
 */
import type { Model } from '../graph/model.ts'
import type { Dim, TensorType } from '../graph/types.ts'

/** Remembers what is declared; the function returned restores it, by name. */
export function declaredOutputs({ graph }: Model): () => void {
  const inputs = new Map(graph.inputs.map((v) => [v.name, v.type]))
  const outputs = new Map(
    graph.outputs.map((v) => [v.name, { type: v.type, extra: v.extra, metadata: [...v.metadata] }]),
  )
  return () => {
    const sizes = new Map<Dim, number>()
    for (const v of graph.inputs)
      inputs.get(v.name)?.dims?.forEach((before, i) => {
        const now = v.type?.dims?.[i]
        if (typeof before === 'string' && typeof now === 'number') sizes.set(before, now)
      })
    for (const v of graph.outputs) {
      const declared = outputs.get(v.name)
      if (!declared) continue
      const { type, extra, metadata } = declared
      if (type?.dims && (!v.type || v.type.elem === type.elem)) v.setType(sizes.size === 0 ? type : sized(type, sizes))
      v.extra ??= extra
      for (const [key, text] of metadata) if (!v.metadata.has(key)) v.metadata.set(key, text)
    }
  }
}

const sized = ({ elem, dims }: TensorType, sizes: ReadonlyMap<Dim, number>): TensorType => ({
  elem,
  dims: dims?.map((d) => sizes.get(d) ?? d) ?? null,
})
