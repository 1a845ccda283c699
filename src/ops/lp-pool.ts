/**
 * LpPool and GlobalLpPool: Y_o = (sum of |X_i|^p over window o)^(1/p).
 *
 *   dX_i = sign(X_i) |X_i|^(p-1) * sum of dY_o Y_o^(1-p) over the windows o that i lies in
 *
 * Where Y is zero the gradient is taken as zero (X is zero in the whole window: the norm has a kink there).
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { defineOp, noCost } from './support/define-op.ts'
import { product, typed } from './support/emit.ts'
import { elemOf } from './support/rules.ts'
import { fill, spread, windowOf } from './support/window.ts'

/** dY Y^(1-p), zero where Y is. */
function perWindow(b: Builder, g: Value, y: Value, p: number): Value {
  const elem = elemOf(y)
  const type = { elem, dims: y.dims }
  if (p === 1) return g
  const zero = b.scalar(0, elem)
  const power = p === 2 ? b.op('Reciprocal', [y]) : b.op('Pow', [y, b.scalar(1 - p, elem)])
  return b.op('Where', [b.op('Greater', [y, zero]), b.op('Mul', [g, power]), zero], {}, { type })
}

/** sign(X) |X|^(p-1) */
function perElement(b: Builder, x: Value, p: number): Value {
  if (p === 2) return x
  const sign = b.op('Sign', [x])
  if (p === 1) return sign
  return b.op('Mul', [sign, b.op('Pow', [b.op('Abs', [x]), b.scalar(p - 1, elemOf(x))])])
}

/** |x|^p, the sum and the root, as transcendental functions count one each. */
const costOf = (node: Node, taps: number) => {
  const outputs = product(node.output.dims)
  return { ...noCost, mults: taps + outputs, adds: taps - outputs }
}

export const lpPool = defineOp({
  op: 'LpPool',
  since: [2, 11, 18, 22],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const x = node.input(0)
    const p = node.int('p', 2)
    const back = spread(b, typed(perWindow(b, g, node.output, p), node.output.dims, elemOf(x)), windowOf(node), x.dims)
    return [b.op('Mul', [back, perElement(b, x, p)])]
  },
  cost: (node) => costOf(node, product(node.output.dims) * product(node.ints('kernel_shape', []))),
  nonNegative: () => true,
  samples: [
    { name: 'p 2', inputs: [{ dims: [1, 2, 4, 4] }], attributes: { kernel_shape: [2, 2], strides: [2, 2] } },
    {
      name: 'p 3, overlapping, padded',
      inputs: [{ dims: [1, 2, 5, 5] }],
      attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1], p: 3 },
    },
    {
      name: 'opset 7',
      inputs: [{ dims: [1, 2, 4, 4], range: [0.1, 1] }],
      attributes: { kernel_shape: [2, 2], p: 1 },
      opset: 7,
    },
  ],
})

export const globalLpPool = defineOp({
  op: 'GlobalLpPool',
  since: [2, 22],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const x = node.input(0)
    const p = node.int('p', 2)
    return [
      b.op('Mul', [
        fill(b, typed(perWindow(b, g, node.output, p), node.output.dims, elemOf(x)), x.dims, 1),
        perElement(b, x, p),
      ]),
    ]
  },
  cost: (node) => costOf(node, product(node.input(0).dims)),
  nonNegative: () => true,
  samples: [
    { name: 'p 2', inputs: [{ dims: [2, 3, 4, 3] }] },
    { name: 'p 3', inputs: [{ dims: [2, 3, 4] }], attributes: { p: 3 } },
  ],
})
