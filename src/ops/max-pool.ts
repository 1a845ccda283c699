/**
 * MaxPool and GlobalMaxPool: Y_o = max of X over window o.
 *
 *   dX_i = sum of dY_o over the windows o whose maximum stands at i
 *
 * The node's own Indices output says where the maxima stand (flat positions in X), for every kernel, stride, pad,
 * dilation and rounding, and of equal elements names one, as frameworks do. A ScatterElements that adds puts dY there;
 * it adds, because overlapping windows may share a maximum. Does not apply to a gradient through Indices (integers).
 */
import type { Value } from '../graph/graph.ts'
import { defineOp, type GradientContext, noCost } from './support/define-op.ts'
import { product, reshape, typed, zeros } from './support/emit.ts'
import { elemOf } from './support/rules.ts'

function gradient({ node, dy, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const x = node.input(0)
  const given = node.outputs[1]
  // column-major positions would need converting: another pool is simpler, and no real model asks for them
  const usable = given && node.int('storage_order', 0) === 0
  if (!given) node.setAttribute('storage_order', null)
  const indices = usable
    ? given
    : given
      ? b.ops('MaxPool', [x], 2, { ...Object.fromEntries(node.attributes), storage_order: 0 })[1]!
      : typed(node.addOutput(node.graph.freshName(`${node.output.name}_indices`)), node.output.dims, 'int64')
  return [scatter({ node, dy, b, needs: [] }, g, indices)]
}

function scatter({ node, b }: GradientContext, g: Value, indices: Value): Value {
  const x = node.input(0)
  const count = product(node.output.dims)
  const flat = b.op(
    'ScatterElements',
    [zeros(b, [product(x.dims)], elemOf(x)), b.op('Reshape', [indices, b.ints([count])]), reshape(b, g, [count])],
    { axis: 0, reduction: 'add' },
  )
  return reshape(b, flat, x.dims)
}

export const maxPool = defineOp({
  op: 'MaxPool',
  homogeneous: () => 'channel',
  optionalOutputs: true,
  half: true,
  channels: () => 'same',
  since: [1, 8, 10, 11, 12, 22],
  defaults: { strides: 1, dilations: 1, pads: 0, ceil_mode: 0, storage_order: 0 },
  gradient,
  cost(node) {
    const window = product(node.ints('kernel_shape', []))
    return { ...noCost, comparisons: product(node.output.dims) * (window - 1) }
  },
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: '2x2', inputs: [{ dims: [2, 2, 4, 6] }], attributes: { kernel_shape: [2, 2], strides: [2, 2] } },
    {
      name: '3x3 stride 2, padded, overlapping',
      inputs: [{ dims: [1, 3, 7, 6] }],
      attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] },
    },
    { name: 'stride 1', inputs: [{ dims: [1, 2, 5, 5] }], attributes: { kernel_shape: [3, 3] } },
    {
      name: 'ceil_mode',
      inputs: [{ dims: [1, 2, 6, 5] }],
      attributes: { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 },
    },
    {
      name: 'dilated',
      inputs: [{ dims: [1, 2, 7, 7] }],
      attributes: { kernel_shape: [2, 2], dilations: [2, 3] },
    },
    { name: '1-D', inputs: [{ dims: [2, 3, 8] }], attributes: { kernel_shape: [3], strides: [2] } },
    {
      name: 'auto_pad',
      inputs: [{ dims: [1, 2, 5, 5] }],
      attributes: { kernel_shape: [2, 2], strides: [2, 2], auto_pad: 'SAME_UPPER' },
    },
    {
      name: 'opset 7',
      inputs: [{ dims: [1, 2, 4, 4] }],
      attributes: { kernel_shape: [2, 2], strides: [2, 2] },
      opset: 7,
    },
  ],
})

export const globalMaxPool = defineOp({
  op: 'GlobalMaxPool',
  homogeneous: () => 'channel',
  channels: () => 'same',
  since: [1, 22],
  gradient(c) {
    const g = c.dy[0]
    if (!g) return []
    const x = c.node.input(0)
    const [n, channels] = [x.dims[0]!, x.dims[1]!]
    const positions = product(x.dims.slice(2))
    const line = reshape(c.b, x, [n, channels, positions])
    return [scatter(c, g, c.b.ops('MaxPool', [line], 2, { kernel_shape: [positions] })[1]!)]
  },
  cost: (node) => ({ ...noCost, comparisons: product(node.input(0).dims) - product(node.output.dims) }),
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'images', inputs: [{ dims: [2, 3, 4, 5] }] },
    { name: '1-D, opset 7', inputs: [{ dims: [2, 3, 6] }], opset: 7 },
  ],
})
