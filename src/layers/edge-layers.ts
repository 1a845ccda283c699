/** The layers at a network's two ends, which quantising often treats by rules of their own. */
import type { Node, Value } from '../graph/graph.ts'
import type { WeightLayer } from './layers.ts'

/** Layers that no other layer comes before. */
export function firstLayers(all: readonly WeightLayer[]): Set<WeightLayer> {
  const byNode = layersAt(all)
  const after = new Set<Value>()
  const first = new Set(all)
  for (const n of all[0]?.node.graph.nodes() ?? []) {
    const layers = byNode.get(n) ?? []
    const behind = n.inputs.some((v) => v && after.has(v))
    if (behind) for (const l of layers) first.delete(l)
    if (layers.length > 0 || behind) for (const v of n.outputs) if (v) after.add(v)
  }
  return first
}

/** Layers that no other layer comes after. */
export function lastLayers(all: readonly WeightLayer[]): Set<WeightLayer> {
  const byNode = layersAt(all)
  const before = new Set<Value>()
  const last = new Set(all)
  for (const n of all[0]?.node.graph.nodesReversed() ?? []) {
    const layers = byNode.get(n) ?? []
    const ahead = n.outputs.some((v) => v && before.has(v))
    if (ahead) for (const l of layers) last.delete(l)
    if (layers.length > 0 || ahead) for (const v of n.inputs) if (v) before.add(v)
  }
  return last
}

/** Layers by node; an LSTM is two. */
function layersAt(all: readonly WeightLayer[]): Map<Node, WeightLayer[]> {
  const byNode = new Map<Node, WeightLayer[]>()
  for (const l of all) for (const n of l.users) byNode.set(n, [...(byNode.get(n) ?? []), l])
  return byNode
}
