/** A deployed file needs no marks: weights are taken out before they are rewritten, and what only training needed is dropped. */
import type { Graph } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { removeDead } from '../passes/eliminate-dead.ts'
import type { Weight } from './weights/weights.ts'

/** Puts a placeholder input where each weight was, so that everything after it falls away. */
export function detach(model: Model, weights: readonly Weight[]): Weight[] {
  const { graph } = model
  const kept: Weight[] = []
  for (const w of weights) {
    if (!w.value.isUsed) continue
    const placeholder = graph.addInput(graph.freshName('_'), null)
    graph.replaceUses(w.value, placeholder)
    w.value = placeholder
    kept.push(w)
  }
  removeDead(graph)
  return kept
}

/** What only training needed, and labels: types of inner values, node names and metadata, doc strings. */
export function strip(model: Model): void {
  const { graph } = model
  removeDead(graph)
  for (const v of graph.values()) {
    if (v.isInput || v.isOutput) continue
    v.metadata.clear()
    v.extra = undefined
    if (!v.constant) v.setType(null)
  }
  for (const n of graph.nodes()) {
    n.rename('')
    n.metadata.clear()
    n.extra = undefined
  }
}

/** Values inside the graph get the shortest names that are free, here and in bodies of If, Loop and Scan. */
export function shorten(graph: Graph): void {
  const bodies = [...graph.allNodes()].flatMap((n) => n.subgraphs)
  const inner = new Set(bodies.flatMap((body) => Array.from(body.values(), (v) => v.name)))
  let next = 0
  for (const v of [...graph.values()]) {
    if (v.isInput || v.isOutput) continue
    let name: string
    do name = (next++).toString(36)
    while (graph.find(name) || inner.has(name))
    if (name.length < v.name.length) graph.rename(v, name)
  }
}
