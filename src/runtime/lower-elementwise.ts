/**
 * Sum and LogSoftmax, for engines that lack them:
 *
 *   Sum(a, b, c, ...) = ((a + b) + c) + ...
 *   LogSoftmax(x) = d - log(sum(exp(d))),  d = x - max(x)
 */
import type { Node, Value } from '../graph/graph.ts'

export function lowerSum(node: Node): boolean {
  const { graph, output } = node
  const b = graph.before(node)
  const [first, ...rest] = node.inputs as readonly Value[]
  const sum = rest.reduce((a, v) => b.op('Add', [a, v]), first!)
  graph.replaceUses(output, rest.length > 0 ? sum : b.op('Identity', [first!]))
  graph.remove(node)
  return true
}

export function lowerLogSoftmax(node: Node): boolean {
  const { graph, output } = node
  const b = graph.before(node)
  const axes = b.ints([node.int('axis', -1)])
  const x = node.input(0)
  const d = b.op('Sub', [x, b.op('ReduceMax', [x, axes], { keepdims: 1 })])
  const sum = b.op('ReduceSum', [b.op('Exp', [d]), axes], { keepdims: 1 })
  graph.replaceUses(output, b.op('Sub', [d, b.op('Log', [sum])], {}, { type: output.type }))
  graph.remove(node)
  return true
}
