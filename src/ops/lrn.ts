/**
 * LRN: Y = X D^-beta, D = bias + alpha/size * S, S_c = sum of X^2 over the channels near c.
 *
 *   dX = dY D^-beta - 2 alpha beta / size * X * (sum of dY X D^(-beta-1) over the channels whose window c lies in)
 */
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/graph.ts'
import { defineOp, noCost, outputSize } from './support/define-op.ts'
import { product, reshape } from './support/emit.ts'
import { expressions } from './support/rules.ts'

/** Sum over each channel, the `before` channels ahead of it and the `after` channels following it: an average pool over channels, times its size. */
function channelSum(b: Builder, v: Value, dims: readonly number[], before: number, after: number): Value {
  const lines = reshape(b, v, [dims[0]!, 1, dims[1]!, product(dims.slice(2))])
  const size = before + after + 1
  const mean = b.op('AveragePool', [lines], {
    kernel_shape: [size, 1],
    pads: [before, 0, after, 0],
    count_include_pad: 1,
  })
  return reshape(b, b.op('Mul', [mean, b.scalar(size)]), dims)
}

export const lrn = defineOp({
  op: 'LRN',
  since: [1, 13],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const x = node.input(0)
    const f = expressions(b, x)
    const size = node.int('size', 1)
    const [alpha, beta] = [node.float('alpha', 1e-4), node.float('beta', 0.75)]
    const [before, after] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)]
    const squares = channelSum(b, f('Mul', x, x), x.dims, before, after)
    const d = f('Add', f('Mul', squares, alpha / size), node.float('bias', 1))
    const scaled = f('Mul', g, f('Pow', d, -beta))
    const spread = channelSum(b, f('Div', f('Mul', scaled, x), d), x.dims, after, before)
    return [f('Sub', scaled, f('Mul', f('Mul', x, spread), (2 * alpha * beta) / size))]
  },
  cost(node) {
    const n = outputSize(node)
    return { ...noCost, mults: 4 * n, adds: n * node.int('size', 1) }
  },
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'defaults', inputs: [{ dims: [1, 5, 2, 3] }], attributes: { size: 3, alpha: 0.5 } },
    {
      name: 'five channels, opset 7',
      inputs: [{ dims: [2, 6, 2, 2] }],
      attributes: { size: 5, alpha: 0.9, beta: 0.5, bias: 1.5 },
      opset: 7,
    },
  ],
})
