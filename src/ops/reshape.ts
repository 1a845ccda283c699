/**
 * Ops that rename positions: Reshape, Flatten, Squeeze, Unsqueeze and Transpose.
 *
 *   dX = dY in the shape of X;  Transpose: dX = dY with the inverse permutation.
 *
 * Forms: Squeeze and Unsqueeze take their axes as an attribute below opset 13 and as an input since.
 */
import type { Node, Value } from '../graph/graph.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, type GradientContext, noCost, type OpDef, type OpSample } from './support/define-op.ts'
import { product, range, reshape } from './support/emit.ts'
import { axesToInput, axisFromFront } from './support/rules.ts'

const reshaped = ({ node, dy, b }: GradientContext): (Value | null)[] => {
  const g = dy[0]
  return g ? [reshape(b, g, node.input(0).dims)] : []
}

const renaming = (op: string, since: readonly number[], samples: readonly OpSample[], rest: Partial<OpDef> = {}) =>
  defineOp({
    op,
    since,
    gradient: reshaped,
    carries: 'shape',
    half: true,
    cost: () => noCost,
    nonNegative: (_node, input) => input(0),
    samples,
    ...rest,
  })

const sizeOf = (node: Node, dims: readonly number[]): readonly number[] | null => {
  const given = constantOf(node.inputs[1])
  if (!given) return null
  const list = Array.from(given.toNumbers(), (d, i) => (d === 0 ? (dims[i] ?? 0) : d))
  const known = product(list.filter((d) => d >= 0))
  return list.map((d) => (d < 0 ? product(dims) / known : d))
}

/** Axes of Squeeze and Unsqueeze, in either form; none where they are not given. */
const axesOf = (node: Node): readonly number[] | null => {
  if (!node.inputs[1]) return node.ints('axes', [])
  const given = constantOf(node.inputs[1])
  return given && Array.from(given.toNumbers())
}

const ints = (values: readonly number[]) => ({ dims: [values.length], type: 'int64' as const, values })
const axesInput = { upgrades: [axesToInput(13)] }

export const reshapeOp = renaming(
  'Reshape',
  [5, 13, 14, 19, 21, 23, 24, 25],
  [
    { name: 'to a matrix', inputs: [{ dims: [2, 3, 4] }, ints([2, 12])] },
    { name: 'zero copies, -1 is worked out', inputs: [{ dims: [2, 3, 4] }, ints([0, -1, 2])] },
    { name: 'opset 7', inputs: [{ dims: [2, 3, 4] }, ints([6, 4])], opset: 7 },
  ],
  {
    channels: (node) => (node.output.type?.dims?.length === 2 ? 'flattened' : null),
    homogeneous: () => 'channel',
    reshapes: sizeOf,
  },
)

export const flatten = renaming(
  'Flatten',
  [1, 9, 11, 13, 21, 23, 24, 25],
  [
    { name: 'axis 1', inputs: [{ dims: [2, 3, 2, 2] }] },
    { name: 'axis 0', inputs: [{ dims: [2, 3] }], attributes: { axis: 0 } },
    { name: 'negative axis', inputs: [{ dims: [2, 3, 4] }], attributes: { axis: -1 } },
    { name: 'opset 7', inputs: [{ dims: [2, 3, 4] }], attributes: { axis: 2 }, opset: 7 },
  ],
  {
    channels: (node) => (node.int('axis', 1) === 1 ? 'flattened' : null),
    homogeneous: () => 'channel',
    reshapes(node, dims) {
      const axis = axisFromFront(node.int('axis', 1), dims.length)
      return [product(dims.slice(0, axis)), product(dims.slice(axis))]
    },
  },
)

/** Whether only axes after the channels go. */
function behindChannels(node: Node): boolean {
  const axes = constantOf(node.inputs[1])?.toNumbers()
  const rank = node.input(0).type?.dims?.length
  return rank !== undefined && axes !== undefined && Array.from(axes).every((a) => axisFromFront(a, rank) >= 2)
}

export const squeeze = renaming(
  'Squeeze',
  [1, 11, 13, 21, 23, 24, 25],
  [
    { name: 'given axes', inputs: [{ dims: [2, 1, 3, 1] }, ints([1, -1])] },
    { name: 'all axes of size 1', inputs: [{ dims: [1, 3, 1] }] },
    { name: 'opset 7', inputs: [{ dims: [2, 1, 3] }], attributes: { axes: [1] }, opset: 7 },
    { name: 'opset 11', inputs: [{ dims: [2, 1, 3] }], attributes: { axes: [-2] }, opset: 11 },
  ],
  {
    ...axesInput,
    channels: (node) => (behindChannels(node) ? 'same' : null),
    homogeneous: () => 'channel',
    reshapes(node, dims) {
      const axes = axesOf(node)?.map((a) => axisFromFront(a, dims.length))
      return axes ? dims.filter((d, i) => (axes.length === 0 ? d !== 1 : !axes.includes(i))) : null
    },
  },
)

export const unsqueeze = renaming(
  'Unsqueeze',
  [1, 11, 13, 21, 23, 24, 25],
  [
    { name: 'two axes', inputs: [{ dims: [2, 3] }, ints([0, -1])] },
    { name: 'opset 7', inputs: [{ dims: [2, 3] }], attributes: { axes: [1, 3] }, opset: 7 },
  ],
  {
    ...axesInput,
    reshapes(node, dims) {
      const axes = axesOf(node)
      if (!axes) return null
      const rank = dims.length + axes.length
      const ones = new Set(axes.map((a) => axisFromFront(a, rank)))
      const rest = [...dims]
      return range(rank).map((i) => (ones.has(i) ? 1 : rest.shift()!))
    },
  },
)

export const transposeOp = renaming(
  'Transpose',
  [1, 13, 21, 23, 24, 25],
  [
    { name: 'permutation', inputs: [{ dims: [2, 3, 4] }], attributes: { perm: [2, 0, 1] } },
    { name: 'reversed by default', inputs: [{ dims: [2, 3, 4] }] },
    { name: 'opset 7', inputs: [{ dims: [2, 3] }], attributes: { perm: [1, 0] }, opset: 7 },
  ],
  {
    carries: 'order',
    permutes: permOf,
    gradient({ node, dy, b }) {
      const g = dy[0]
      if (!g) return []
      const perm = permOf(node, node.input(0).dims.length)
      return [b.op('Transpose', [g], { perm: range(perm.length).map((i) => perm.indexOf(i)) })]
    },
  },
)

function permOf(node: Node, rank: number): readonly number[] {
  return node.ints('perm', range(rank).reverse())
}

/**
 * Where axis `axis` of the input of an op that carries elements is in the output: the axis of the same size with as many
 * elements after it. null where the output does not have it as one axis. Types are known.
 */
export function carriedAxis(node: Node, axis: number): number | null {
  const [from, to] = [node.input(0).dims, node.output.dims]
  if (node.is('Transpose')) return permOf(node, from.length).indexOf(axis)
  const behind = product(from.slice(axis + 1))
  const at = to.findIndex((d, i) => d === from[axis] && product(to.slice(i + 1)) === behind)
  return at < 0 ? null : at
}
