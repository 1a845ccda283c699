/** ArgMax and ArgMin: integers out, no gradient; k - 1 comparisons for k elements. */
import { defineOp, type OpDef, outputSize } from './support/define-op.ts'

const x = { dims: [2, 3], values: [0.9, -0.3, 0.1, 1.4, -1.1, 0.6] } as const

const argExtreme = (op: string): OpDef =>
  defineOp({
    op,
    since: [1, 11, 12, 13],
    gradient: 'zero',
    cost: (node) => {
      const n = node.input(0).dims.reduce((p, d) => p * d, 1)
      return { macs: 0, mults: 0, adds: 0, comparisons: n - outputSize(node) }
    },
    nonNegative: () => true,
    samples: [
      { name: 'axis 1, dropped', inputs: [x], attributes: { axis: 1, keepdims: 0 } },
      { name: 'opset 7, default', opset: 7, inputs: [x] },
    ],
  })

export const argExtremes: readonly OpDef[] = [argExtreme('ArgMax'), argExtreme('ArgMin')]
