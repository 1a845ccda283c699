/**
 * Sum, LogSoftmax and Round, for engines that lack them:
 *
 *   Sum(a, b, c, ...) = ((a + b) + c) + ...
 *   LogSoftmax(x) = d - log(sum(exp(d))),  d = x - max(x)
 *   Round(x) = (x + m) - m where |x| < 2^22, else x;  m = 1.5 2^23
 *
 * A float32 near m has no digits after the point, so the addition itself rounds, half to even. Between 2^22 and 2^23,
 * where only halves are left, they stay.
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

const NO_FRACTION = 1.5 * 2 ** 23
const ROUNDED_BELOW = 2 ** 22

export function lowerRound(node: Node): boolean {
  const x = node.input(0)
  if (x.type?.elem !== 'float32') return false
  const { graph, output } = node
  const b = graph.before(node)
  const m = b.scalar(NO_FRACTION)
  const rounded = b.op('Sub', [b.op('Add', [x, m]), m])
  const small = b.op('Less', [b.op('Abs', [x]), b.scalar(ROUNDED_BELOW)])
  graph.replaceUses(output, b.op('Where', [small, rounded, x], {}, { type: output.type }))
  graph.remove(node)
  return true
}
