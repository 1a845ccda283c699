/**
 * BatchNormalization in training form, for engines without such a kernel:
 *
 *   m = mean(x), d = x - m, v = mean(d d)      over all axes but the channels'
 *   y = d / sqrt(v + eps) * scale + bias
 *   running mean and variance = momentum * old + (1 - momentum) * (m, v)
 */
import type { Node, Value } from '../graph/graph.ts'

export function lowerBatchNorm(node: Node): boolean {
  const x = node.input(0)
  const rank = x.type?.dims?.length
  if (rank === undefined || node.int('training_mode', 0) !== 1) return false
  const { graph } = node
  const b = graph.before(node)
  const axes = b.ints([0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2)])
  const wide = (v: Value): Value => b.op('Reshape', [v, b.ints([-1, ...Array<number>(rank - 2).fill(1)])])
  const mean = b.op('ReduceMean', [x, axes], { keepdims: 1 })
  const d = b.op('Sub', [x, mean])
  const variance = b.op('ReduceMean', [b.op('Mul', [d, d]), axes], { keepdims: 1 })
  const [y, runningMean, runningVariance] = node.outputs
  if (y?.isUsed) {
    const root = b.op('Sqrt', [b.op('Add', [variance, b.scalar(node.float('epsilon', 1e-5))])])
    const factor = b.op('Div', [wide(node.input(1)), root])
    const normal = b.op('Add', [b.op('Mul', [d, factor]), wide(node.input(2))], {}, { type: y.type })
    graph.replaceUses(y, normal)
  }
  const momentum = node.float('momentum', 0.9)
  const moved = (now: Value, old: Value, out: Value | null | undefined): void => {
    if (!out?.isUsed) return
    const flat = b.op('Reshape', [now, b.ints([-1])])
    const mixed =
      momentum === 0
        ? flat
        : b.op('Add', [b.op('Mul', [old, b.scalar(momentum)]), b.op('Mul', [flat, b.scalar(1 - momentum)])])
    mixed.setType(out.type)
    graph.replaceUses(out, mixed)
  }
  moved(mean, node.input(3), runningMean)
  moved(variance, node.input(4), runningVariance)
  graph.remove(node)
  return true
}
