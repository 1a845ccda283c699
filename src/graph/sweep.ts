/** Removes one node that nothing reads any more, and then what only it read. For the whole graph: eliminate-dead. */
import type { Node } from './graph.ts'

export function sweepNode(node: Node): void {
  if (!node.attached || node.outputs.some((v) => v?.isUsed)) return
  const inputs = new Set(node.inputs)
  node.graph.remove(node)
  for (const v of inputs) {
    if (!v || v.isUsed || v.isInput) continue
    if (v.producer) sweepNode(v.producer)
    else if (v.constant) v.graph.removeInitializer(v)
  }
}
