/**
 * LpNormalization and MeanVarianceNormalization: x divided by a statistic over axes. A row of zeros has no direction:
 * LpNormalization's gradient there is that of a norm of 1.
 */
import type { Value } from '../graph/graph.ts'
import { defineOp, type OpDef, outputSize } from './support/define-op.ts'
import { substitute } from './support/rewrite.ts'
import { axisFromFront, expressions } from './support/rules.ts'

/**
 * y = x / n, n = sum |x| or sqrt(sum x^2):
 *   p = 1: dx = (dy - sign(x) sum(dy y)) / n
 *   p = 2: dx = (dy - y sum(dy y)) / n
 */
const lpNormalization = defineOp({
  op: 'LpNormalization',
  bounded: true,
  since: [1, 22],
  gradient({ node, dy: [dy], b }) {
    if (!dy) return []
    const [x, y] = [node.input(0), node.output]
    const f = expressions(b, y)
    const first = node.int('p', 2) === 1
    const axes = b.ints([axisFromFront(node.int('axis', -1), x.dims.length)])
    const norm = b.op(first ? 'ReduceL1' : 'ReduceL2', [x, axes], { keepdims: 1 })
    const along = b.op('ReduceSum', [f('Mul', dy, y), axes], { keepdims: 1 })
    const rest = f('Sub', dy, f('Mul', first ? f('Sign', x) : y, along))
    return [f('Div', rest, f('Where', f('Equal', norm, 0), 1, norm))]
  },
  cost(node) {
    const n = outputSize(node)
    const row = node.output.dims[axisFromFront(node.int('axis', -1), node.output.dims.length)] ?? 1
    return { macs: 0, mults: 2 * n, adds: n - n / Math.max(1, row), comparisons: 0 }
  },
  nonNegative: (_, input) => input(0),
  samples: [
    { name: 'p 2, last axis', inputs: [{ dims: [2, 3] }] },
    { name: 'p 1, axis 1', inputs: [{ dims: [2, 3, 2], range: [0.2, 1] }], attributes: { p: 1, axis: 1 } },
  ],
})

const meanVarianceNormalization = defineOp({
  op: 'MeanVarianceNormalization',
  since: [9, 13],
  gradient: 'decompose',
  // (x - mean) / (sqrt(mean of squares - mean^2) + 1e-9), as the standard writes it; onnxruntime infers no shape for it
  decompose(node) {
    const b = node.graph.before(node)
    const x = node.input(0)
    const axes = b.ints(node.ints('axes', [0, 2, 3]))
    const over = (v: Value): Value => b.op('ReduceMean', [v, axes], { keepdims: 1 })
    const f = expressions(b, x)
    const mean = over(x)
    const variance = f('Sub', over(f('Mul', x, x)), f('Mul', mean, mean))
    substitute(node, [f('Div', f('Sub', x, mean), f('Add', f('Sqrt', variance), 1e-9))])
  },
  cost(node) {
    const n = node.input(0).dims.reduce((p, d) => p * d, 1)
    return { macs: 0, mults: 2 * n, adds: 3 * n, comparisons: 0 }
  },
  samples: [
    { name: 'default axes', inputs: [{ dims: [2, 3, 2, 3] }] },
    { name: 'one axis', inputs: [{ dims: [2, 4] }], attributes: { axes: [1] } },
  ],
})

export const axisNormalizations: readonly OpDef[] = [lpNormalization, meanVarianceNormalization]
