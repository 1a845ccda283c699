/**
 * MaxUnpool: every element at its index of the flat output, zeros elsewhere. dX = dY read at the indices. Does not apply
 * to a given output_shape, in which onnxruntime and the standard count positions differently.
 */
import { defineOp, noCost, unsupportedNode } from './support/define-op.ts'
import { reshape } from './support/emit.ts'

export const maxUnpool = defineOp({
  op: 'MaxUnpool',
  since: [9, 11, 22],
  gradient({ node, dy: [dy], b }) {
    if (!dy) return []
    if (node.inputs[2]) throw unsupportedNode(node, 'no gradient: a given output shape')
    const x = node.input(0)
    const flat = b.op('GatherElements', [reshape(b, dy, [-1]), reshape(b, node.input(1), [-1])], { axis: 0 })
    return [reshape(b, flat, x.dims)]
  },
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    {
      name: 'windows of two',
      inputs: [{ dims: [1, 1, 2, 2] }, { dims: [1, 1, 2, 2], type: 'int64', values: [5, 7, 13, 15] }],
      attributes: { kernel_shape: [2, 2], strides: [2, 2] },
    },
  ],
})
