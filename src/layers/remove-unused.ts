/** Removes what an edit left unused: nodes, and the constants that only they read. */

import type { Node, Value } from '../graph/graph.ts'
import { isConstantNode } from '../ops/facts.ts'

/** Removes those of `nodes` (users before producers) that nothing reads, and the constants that only they read. */
export function removeUnused(nodes: Iterable<Node>): void {
  for (const n of nodes) {
    if (!n.attached || n.outputs.some((v) => v?.isUsed)) continue
    const inputs = new Set(n.inputs)
    n.graph.remove(n)
    for (const v of inputs) if (v) dropConstant(v)
  }
}

/** Removes an initializer or Constant node that nothing reads. */
export function dropConstant(v: Value): void {
  if (v.isUsed) return
  if (v.constant) v.graph.removeInitializer(v)
  else if (v.producer && isConstantNode(v.producer)) v.graph.remove(v.producer)
}
