/** ReverseSequence: the first elements of each sequence backwards. dX = dY turned the same way. */
import { defineOp, noCost } from './support/define-op.ts'

export const reverseSequence = defineOp({
  op: 'ReverseSequence',
  since: [10],
  gradient: ({ node, dy: [dy], b }) =>
    dy ? [b.op('ReverseSequence', [dy, node.input(1)], Object.fromEntries(node.attributes))] : [],
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'time first', inputs: [{ dims: [4, 3] }, { dims: [3], type: 'int64', values: [4, 2, 3] }] },
    {
      name: 'batch first',
      inputs: [{ dims: [2, 3, 2] }, { dims: [2], type: 'int64', values: [1, 3] }],
      attributes: { batch_axis: 0, time_axis: 1 },
    },
  ],
})
