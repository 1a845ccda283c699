/**
 * Ops that write at indices: ScatterElements (and its old name Scatter) and ScatterND.
 *
 *   reduction none: dX = dY with zeros where updates were written, dU = dY read at the indices
 *   reduction add:  dX = dY,                                      dU = dY read at the indices
 *
 * Without a reduction the standard leaves indices that repeat undefined. Does not apply to mul, max and min.
 */
import type { Node, Value } from '../graph/graph.ts'
import { defineOp, type GradientContext, noCost, unsupportedNode } from './support/define-op.ts'
import { zeros } from './support/emit.ts'
import { replaceNode } from './support/rewrite.ts'
import { elemOf } from './support/rules.ts'

/** `read`: the op that reads at the indices. */
const gradientOf =
  (op: string, read: string) =>
  ({ node, dy, needs, b }: GradientContext): (Value | null)[] => {
    const g = dy[0]
    if (!g) return []
    const [indices, updates] = [node.input(1), node.input(2)]
    const axis = op === 'ScatterElements' ? { axis: node.int('axis', 0) } : {}
    const reduction = node.string('reduction', 'none')
    if (reduction !== 'none' && reduction !== 'add')
      throw unsupportedNode(node, `no gradient: reduction '${reduction}'`)
    const kept = (): Value =>
      reduction === 'add' ? g : b.op(op, [g, indices, zeros(b, updates.dims, elemOf(updates))], axis)
    return [needs[0] ? kept() : null, null, needs[2] ? b.op(read, [g, indices], axis) : null]
  }

const adds = (node: Node): number =>
  node.string('reduction', 'none') === 'add' ? node.input(2).dims.reduce((p, d) => p * d, 1) : 0

const ints = (dims: readonly number[], values: readonly number[]) => ({ dims, type: 'int64' as const, values })

export const scatterElements = defineOp({
  op: 'ScatterElements',
  since: [11, 13, 16, 18],
  gradient: gradientOf('ScatterElements', 'GatherElements'),
  cost: (node) => ({ ...noCost, adds: adds(node) }),
  nonNegative: (node, input) => node.string('reduction', 'none') !== 'mul' && input(0) && input(2),
  samples: [
    {
      name: 'axis 1',
      inputs: [{ dims: [2, 5] }, ints([2, 2], [1, 3, 0, 4]), { dims: [2, 2] }],
      attributes: { axis: 1 },
    },
    {
      name: 'add at repeated indices',
      inputs: [{ dims: [3, 3] }, ints([2, 3], [0, 1, 1, 0, -1, 1]), { dims: [2, 3] }],
      attributes: { reduction: 'add' },
    },
    { name: 'opset 11', inputs: [{ dims: [3] }, ints([2], [2, 0]), { dims: [2] }], opset: 11 },
  ],
})

export const scatter = defineOp({
  op: 'Scatter',
  since: [9],
  gradient: { unsupported: 'Scatter was replaced by ScatterElements in opset 11; run upgrade-opset' },
  cost: () => noCost,
  upgrades: [{ to: 11, apply: (node) => void replaceNode(node, { op: 'ScatterElements', inputs: node.inputs }) }],
  samples: [
    {
      name: 'opset 9',
      inputs: [{ dims: [2, 3] }, ints([2, 1], [1, 2]), { dims: [2, 1] }],
      attributes: { axis: 1 },
      opset: 9,
    },
  ],
})

export const scatterND = defineOp({
  op: 'ScatterND',
  since: [11, 13, 16, 18],
  gradient: gradientOf('ScatterND', 'GatherND'),
  cost: (node) => ({ ...noCost, adds: adds(node) }),
  nonNegative: (node, input) => node.string('reduction', 'none') !== 'mul' && input(0) && input(2),
  samples: [
    { name: 'rows', inputs: [{ dims: [4, 3] }, ints([2, 1], [2, 0]), { dims: [2, 3] }] },
    {
      name: 'elements, add, repeated',
      inputs: [{ dims: [3, 3] }, ints([3, 2], [0, 1, 2, 2, 0, 1]), { dims: [3] }],
      attributes: { reduction: 'add' },
    },
    { name: 'opset 11', inputs: [{ dims: [4] }, ints([2, 1], [3, 1]), { dims: [2] }], opset: 11 },
  ],
})
