/** TensorScatter: a cache with an update written from a position on, differentiated as a ScatterElements. */
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { defineOp, noCost } from './support/define-op.ts'
import { expand, range, reshape } from './support/emit.ts'
import { substitute } from './support/rewrite.ts'
import { axisFromFront } from './support/rules.ts'

function decompose(node: Node): void {
  const b = node.graph.before(node)
  const [cache, update, starts] = [node.input(0), node.input(1), node.inputs[2]]
  const axis = axisFromFront(node.int('axis', -2), cache.dims.length)
  const length = update.dims[axis]!
  const along = update.dims.map((_, i) => (i === axis ? length : 1))
  const steps: Value = b.initializer('steps', Tensor.int64(along, range(length)))
  const first = starts && reshape(b, starts, [update.dims[0]!, ...along.slice(1).map(() => 1)])
  const open = first ? b.op('Add', [first, steps]) : steps
  const circular = node.string('mode', 'linear') === 'circular'
  const at = circular ? b.op('Mod', [open, b.scalar(cache.dims[axis]!, 'int64')]) : open
  substitute(node, [b.op('ScatterElements', [cache, expand(b, at, update.dims), update], { axis })])
}

export const tensorScatter = defineOp({
  op: 'TensorScatter',
  since: [24],
  gradient: 'decompose',
  decompose,
  cost: () => noCost,
  nonNegative: (_node, input) => input(0) && input(1),
  samples: [
    {
      name: 'from two positions',
      opset: 24,
      inputs: [{ dims: [2, 2, 4, 3] }, { dims: [2, 2, 1, 3] }, { dims: [2], type: 'int64', values: [1, 2] }],
    },
    {
      name: 'circular',
      opset: 24,
      inputs: [{ dims: [1, 4, 3] }, { dims: [1, 2, 3] }, { dims: [1], type: 'int64', values: [3] }],
      attributes: { mode: 'circular' },
    },
  ],
})
