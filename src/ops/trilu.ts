/** Trilu: the upper or lower triangle of matrices, zeros elsewhere: dx is that triangle of dy. */
import { defineOp } from './support/define-op.ts'
import { free } from './support/rules.ts'

export const trilu = defineOp({
  op: 'Trilu',
  since: [14],
  gradient: ({ node, dy: [dy], b }) =>
    dy ? [b.op('Trilu', [dy, node.inputs[1] ?? null], { upper: node.int('upper', 1) })] : [],
  cost: free,
  nonNegative: (_, input) => input(0),
  samples: [
    { name: 'upper', inputs: [{ dims: [2, 3, 3] }] },
    {
      name: 'lower, offset',
      inputs: [{ dims: [3, 4] }, { dims: [], type: 'int64', values: [-1] }],
      attributes: { upper: 0 },
    },
  ],
})
