/**
 * Ops that read at indices: Gather, GatherElements, GatherND.
 *
 *   dX = zeros, with dY added at the indices it was read from
 *
 * Gather of one index given as a constant pads instead. The adding is done by ScatterElements, whose indices must be as
 * many as the elements: ScatterND would take one per row, but onnxruntime's adds from several threads at once and loses
 * some sums where indices repeat (2 runs of 30 wrong: 40,000 rows into 4).
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, type GradientContext, noCost } from './support/define-op.ts'
import { expand, product, reshape, typed, zeros } from './support/emit.ts'
import { axisFromFront, elemOf } from './support/rules.ts'

function gatherGradient({ node, dy, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const [x, indices] = [node.input(0), node.input(1)]
  const elem = elemOf(x)
  const axis = axisFromFront(node.int('axis', 0), x.dims.length)
  const [before, after] = [x.dims.slice(0, axis), x.dims.slice(axis + 1)]
  const size = x.dims[axis]!
  const known = constantOf(indices)
  if (known?.size === 1) {
    const at = axisFromFront(known.item(), size)
    const pads = (n: number): number[] => x.dims.map((_, i) => (i === axis ? n : 0))
    return [b.op('Pad', [reshape(b, g, [...before, 1, ...after]), b.ints([...pads(at), ...pads(size - 1 - at)])])]
  }
  const count = product(indices.dims)
  const lines = [product(before), count, product(after)]
  const at = expand(b, reshape(b, indices, [1, count, 1]), lines)
  const into = zeros(b, [product(before), size, product(after)], elem)
  const sum = b.op('ScatterElements', [into, at, reshape(b, g, lines)], { axis: 1, reduction: 'add' })
  return [reshape(b, sum, x.dims)]
}

const ints = (dims: readonly number[], values: readonly number[]) => ({ dims, type: 'int64' as const, values })

/** Indices stay below the rows of a constant table. */
function rowsOf(node: Node): { readonly below: number } | undefined {
  const table = constantOf(node.inputs[0])
  return table ? { below: table.dims[axisFromFront(node.int('axis', 0), table.dims.length)]! } : undefined
}

export const gather = defineOp({
  op: 'Gather',
  since: [1, 11, 13],
  gradient: gatherGradient,
  weights: [
    {
      input: 0,
      lookup: true,
      outputAxis: () => 0,
      inputAxis: (node) => ((node.input(0).constant?.dims ?? node.input(0).type?.dims)?.length ?? 2) - 1,
    },
  ],
  cost: () => noCost,
  picks(node, length) {
    const indices = constantOf(node.inputs[1])?.toNumbers()
    return indices && node.int('axis', 0) === 0 ? Array.from(indices, (i) => axisFromFront(i, length)) : null
  },
  integers: (node, i) => (i === 1 ? rowsOf(node) : undefined),
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'rows, repeated', inputs: [{ dims: [4, 3] }, ints([2, 2], [0, 2, 2, -1])] },
    { name: 'columns', inputs: [{ dims: [2, 5, 3] }, ints([3], [4, 0, 4])], attributes: { axis: 1 } },
    { name: 'one index', inputs: [{ dims: [2, 5, 3] }, ints([], [-2])], attributes: { axis: -2 } },
    { name: 'fed indices', inputs: [{ dims: [4, 3] }, { ...ints([3], [1, -1, 1]), constant: false }] },
    { name: 'opset 7', inputs: [{ dims: [4, 3] }, ints([2], [3, 1])], attributes: { axis: 0 }, opset: 7 },
  ],
})

export const gatherElements = defineOp({
  op: 'GatherElements',
  since: [11, 13],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const x = node.input(0)
    const into = zeros(b, x.dims, elemOf(x))
    return [b.op('ScatterElements', [into, node.input(1), g], { axis: node.int('axis', 0), reduction: 'add' })]
  },
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'repeated', inputs: [{ dims: [3, 3] }, ints([2, 3], [0, 1, 2, 0, -1, 0])], attributes: { axis: 0 } },
    { name: 'last axis', inputs: [{ dims: [2, 4] }, ints([2, 2], [3, 1, 0, 0])], attributes: { axis: -1 }, opset: 11 },
  ],
})

export const gatherND = defineOp({
  op: 'GatherND',
  since: [11, 12, 13],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const [x, indices] = [node.input(0), node.input(1)]
    const elem = elemOf(x)
    const reached = node.int('batch_dims', 0) + indices.dims.at(-1)!
    const [positions, after] = [product(x.dims.slice(0, reached)), product(x.dims.slice(reached))]
    const lines = [product(indices.dims.slice(0, -1)), after]
    const at = expand(b, reshape(b, flatPositions(b, node), [lines[0]!, 1]), lines)
    const into = zeros(b, [positions, after], elem)
    const sum = b.op('ScatterElements', [into, at, reshape(b, g, lines)], { axis: 0, reduction: 'add' })
    return [reshape(b, sum, x.dims)]
  },
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'elements', inputs: [{ dims: [3, 4] }, ints([3, 2], [0, 1, 2, 3, 0, 1])] },
    { name: 'rows', inputs: [{ dims: [3, 2, 2] }, ints([2, 1], [1, 1])] },
    { name: 'batch', inputs: [{ dims: [2, 3, 2] }, ints([2, 1], [1, 0])], attributes: { batch_dims: 1 } },
    { name: 'opset 11', inputs: [{ dims: [3, 2] }, ints([1, 1], [2])], opset: 11 },
  ],
})

/** Index tuples as row-major positions in the axes of X that they and the batch cover. */
function flatPositions(b: Builder, node: Node): Value {
  const [x, indices] = [node.input(0).dims, node.input(1)]
  const batch = node.int('batch_dims', 0)
  const covered = x.slice(batch, batch + indices.dims.at(-1)!)
  const strides = covered.map((_, i) => product(covered.slice(i + 1)))
  const sizes = b.ints(covered)
  const fromFront = b.op('Mod', [b.op('Add', [indices, sizes]), sizes])
  const within = b.op('ReduceSum', [b.op('Mul', [fromFront, b.ints(strides)]), b.ints([-1])], { keepdims: 0 })
  const lead = indices.dims.slice(0, batch)
  const rest = indices.dims.slice(batch, -1)
  const type = { elem: 'int64', dims: indices.dims.slice(0, -1) } as const
  if (batch === 0) return typed(within, type.dims, type.elem)
  const starts = Array.from({ length: product(lead) }, (_, i) => i * product(covered))
  const offset = b.initializer('batch', Tensor.int64([...lead, ...rest.map(() => 1)], starts))
  return b.op('Add', [within, offset], {}, { type })
}
