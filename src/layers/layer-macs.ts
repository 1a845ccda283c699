/** Multiply-accumulates of nodes, of one sample where dims are open. */
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Node } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { findOp } from '../ops/index.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'

/** A look-up that gives null where shapes are unknown. */
export async function macsOf(model: Model): Promise<(n: Node) => number | null> {
  const map: ValueMap = new Map()
  const typed = cloneModel(model, map)
  const dims: Record<string, number> = {}
  for (const v of typed.graph.inputs) for (const d of v.type?.dims ?? []) if (typeof d === 'string') dims[d] = 1
  await inferTypes(typed, { dims })
  return (n) => {
    const image = map.get(n.output)?.producer
    const known = [...(image?.inputs ?? []), ...(image?.outputs ?? [])].every(
      (v) => !v || (v.constant?.dims ?? v.type?.dims ?? [null]).every((d) => typeof d === 'number'),
    )
    return image && known ? (findOp(image)?.cost(image).macs ?? null) : null
  }
}
