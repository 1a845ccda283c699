/**
 * The order in which onnxruntime (1.30) executes a graph: depth first from the nodes that nothing reads, the last in the file
 * first, and of what a node waits for the last in the file first. So a node that stands early is executed as late as possible:
 * right before the first of those that read it.
 *
 * Nodes that the engine's optimiser puts in the place of others stand behind all, which is not seen here.
 */
import type { Graph, Node } from '../../graph/graph.ts'

export function executionOrder(graph: Graph): Node[] {
  const place = new Map<Node, number>()
  for (const n of graph.nodes()) place.set(n, place.size)
  const nodes = [...place.keys()]
  const order: Node[] = []
  const seen = new Set<Node>()
  const stack = nodes
    .filter((n) => n.outputs.every((v) => !v || v.uses.size === 0))
    .map((node) => ({ node, done: false }))
  for (let top = stack.pop(); top; top = stack.pop()) {
    const { node, done } = top
    if (done) order.push(node)
    if (done || seen.has(node)) continue
    seen.add(node)
    stack.push({ node, done: true })
    const waitsFor = new Set(node.inputs.flatMap((v) => v?.producer ?? []))
    const inOrder = [...waitsFor].sort((a, b) => place.get(a)! - place.get(b)!)
    for (const n of inOrder) if (!seen.has(n)) stack.push({ node: n, done: false })
  }
  return order
}
