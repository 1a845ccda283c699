/** The layers at a network's two ends, which quantising often treats by rules of their own. */
import type { Node, Value } from '../graph/graph.ts'
import type { WeightLayer } from './layers.ts'

/** Layers that no other layer comes before. */
export function firstLayers(all: readonly WeightLayer[]): Set<WeightLayer> {
  const byNode = new Map(all.flatMap((l) => l.users.map((n) => [n, l] as const)))
  const after = new Set<Value>()
  const first = new Set(all)
  for (const n of all[0]?.node.graph.nodes() ?? []) {
    const layer = byNode.get(n)
    const behind = n.inputs.some((v) => v && after.has(v))
    if (layer && behind) first.delete(layer)
    if (layer || behind) for (const v of n.outputs) if (v) after.add(v)
  }
  return first
}

/** Layers that no other layer comes after. */
export function lastLayers(all: readonly WeightLayer[]): Set<WeightLayer> {
  const byNode = new Map<Node, WeightLayer>(all.flatMap((l) => l.users.map((n) => [n, l] as const)))
  const before = new Set<Value>()
  const last = new Set(all)
  for (const n of all[0]?.node.graph.nodesReversed() ?? []) {
    const layer = byNode.get(n)
    const ahead = n.outputs.some((v) => v && before.has(v))
    if (layer && ahead) last.delete(layer)
    if (layer || ahead) for (const v of n.inputs) if (v) before.add(v)
  }
  return last
}
