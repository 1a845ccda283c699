/** Compress by a constant condition, differentiated as a Gather; a computed one leaves the shape of the output open. */
import type { Node } from '../graph/graph.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, noCost, unsupportedNode } from './support/define-op.ts'
import { product, reshape } from './support/emit.ts'
import { substitute } from './support/rewrite.ts'

function decompose(node: Node): void {
  const condition = constantOf(node.inputs[1])?.toNumbers()
  if (!condition) throw unsupportedNode(node, 'no gradient: the shape of its output depends on the data')
  const b = node.graph.before(node)
  const x = node.input(0)
  const at = Array.from(condition).flatMap((c, i) => (c ? [i] : []))
  const axis = node.attributes.get('axis')
  const from = axis ? x : reshape(b, x, [product(x.dims)])
  substitute(node, [b.op('Gather', [from, b.ints(at)], { axis: node.int('axis', 0) })])
}

const condition = (...values: number[]) => ({ dims: [values.length], type: 'bool' as const, values })

export const compress = defineOp({
  op: 'Compress',
  since: [9, 11],
  gradient: 'decompose',
  decompose,
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'rows', inputs: [{ dims: [3, 2] }, condition(0, 1, 1)], attributes: { axis: 0 } },
    { name: 'elements', inputs: [{ dims: [3, 2] }, condition(0, 1, 0, 0, 1)] },
  ],
})
