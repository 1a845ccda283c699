/**
 * Quantises before what only changes a shape, not behind it: the bytes go through Flatten or Reshape, and the quantiser stands
 * where an integer kernel finds it. onnxruntime moves quantisers across Reshape and the like itself, not across Flatten (1.30).
 */
import type { Graph, Node } from '../../graph/graph.ts'
import { isQuantize } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'

export function quantiseBeforeShapes(graph: Graph): void {
  for (const q of [...graph.nodes()]) if (isQuantize(q) && q.inputs[1]?.constant?.size === 1) moveUp(q)
}

function moveUp(q: Node): void {
  for (let n = q.input(0).producer; n && findOp(n)?.carries === 'shape'; n = q.input(0).producer) {
    const y = n.output
    // bytes of what was there before: nothing to gain
    if (y.uses.size !== 1 || y.isOutput || !n.input(0).producer) return
    const { graph } = q
    const levels = q.output
    const x = n.input(0)
    graph.replaceUses(levels, y)
    n.setInput(0, levels)
    q.setInput(0, x)
    graph.move(q, n)
  }
}
