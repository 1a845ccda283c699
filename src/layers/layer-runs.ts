/** Which layers can be handled together by passes that go through layers one after the other, each on the outputs of those before it. */
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { WeightLayer } from './layers.ts'

interface HasLayer {
  readonly layer: WeightLayer
}

/** Items that each stand for a layer, in graph order, in runs: no item depends on another of the same run. */
export function layerRuns<T extends HasLayer>(graph: Graph, all: readonly T[]): T[][] {
  const byNode = new Map<Node, T>(all.flatMap((m) => m.layer.users.map((n) => [n, m] as const)))
  const runs: T[][] = []
  let run = new Set<T>()
  let behind = new Set<Value>()
  for (const n of graph.nodes()) {
    const own = byNode.get(n)
    const depends = n.inputs.some((v) => v && behind.has(v)) || n.subgraphs.length > 0
    if (own && n === own.layer.node && depends && run.size > 0) {
      runs.push([...run])
      run = new Set()
      behind = new Set()
    }
    if (own && n === own.layer.node) run.add(own)
    if (own || (depends && behind.size > 0)) for (const v of n.outputs) if (v) behind.add(v)
  }
  return run.size > 0 ? [...runs, [...run]] : runs
}
