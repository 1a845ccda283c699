/**
 * TopK: the k largest (smallest) along an axis, and where they stand.
 *
 *   dX = zeros, with dY at Indices
 *
 * Forms: k is an attribute below opset 10 and an input since.
 */
import { Tensor } from '../graph/tensor.ts'
import { defineOp, noCost } from './support/define-op.ts'
import { product, typed, zeros } from './support/emit.ts'
import { elemOf } from './support/rules.ts'

const k = (n: number) => ({ dims: [1], type: 'int64' as const, values: [n] })

export const topK = defineOp({
  op: 'TopK',
  since: [1, 10, 11, 24],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const x = node.input(0)
    const added = () =>
      typed(node.addOutput(node.graph.freshName(`${node.output.name}_indices`)), node.output.dims, 'int64')
    const indices = node.outputs[1] ?? added()
    return [b.op('ScatterElements', [zeros(b, x.dims, elemOf(x)), indices, g], { axis: node.int('axis', -1) })]
  },
  cost: (node) => ({ ...noCost, comparisons: product(node.input(0).dims) }),
  nonNegative: (_node, input) => input(0),
  upgrades: [
    {
      to: 10,
      apply(node) {
        const count = node.int('k', 1)
        node.setAttribute('k', null)
        node.setInput(1, node.graph.before(node).initializer('k', Tensor.int64([1], [count])))
      },
    },
  ],
  samples: [
    { name: 'last axis', inputs: [{ dims: [3, 6] }, k(2)], outputs: 2 },
    { name: 'smallest of axis 0', inputs: [{ dims: [5, 2] }, k(3)], attributes: { axis: 0, largest: 0 }, outputs: 2 },
    { name: 'opset 7', inputs: [{ dims: [2, 5] }], attributes: { k: 2 }, outputs: 2, opset: 7 },
  ],
})
