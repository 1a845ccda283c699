/** CumSum: y_i = sum of x_j, j <= i along an axis (or <, or from the end): dx is the CumSum of dy from the other end. */
import { defineOp } from './support/define-op.ts'
import { perElement } from './support/rules.ts'

const x = { dims: [2, 4] }
const axis = { dims: [], type: 'int64', values: [1] } as const

export const cumSum = defineOp({
  op: 'CumSum',
  since: [11, 14],
  gradient({ node, dy: [dy], b }) {
    if (!dy) return []
    const exclusive = node.int('exclusive', 0)
    return [b.op('CumSum', [dy, node.input(1)], { exclusive, reverse: 1 - node.int('reverse', 0) })]
  },
  cost: perElement({ adds: 1 }),
  nonNegative: (_, input) => input(0),
  samples: [
    { name: 'forward', inputs: [x, axis] },
    { name: 'exclusive, reverse', inputs: [x, { ...axis, values: [0] }], attributes: { exclusive: 1, reverse: 1 } },
  ],
})
