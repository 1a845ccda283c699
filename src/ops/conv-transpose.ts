/**
 * ConvTranspose: the transpose of a Conv with the same weight [Cin, Cout/group, kernel]; so, with the same strides,
 * dilations and pads,
 *
 *   dX = Conv(dY, W)
 *   dW = the weight gradient of a Conv whose input is dY and whose output gradient is X
 *   db = sum of dY over n and positions
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { croppedBefore } from '../graph/sliding-window.ts'
import type { Geometry } from './support/conv-geometry.ts'
import { convWeightGradient } from './support/conv-weight-gradient.ts'
import { defineOp, type GradientContext, noCost } from './support/define-op.ts'
import { product, range, sumAxes } from './support/emit.ts'

/** The Conv that this node transposes: its input has the dims of Y, its output those of X. */
function transposedConv(node: Node): Geometry {
  const [x, w, y] = [node.input(0).dims, node.input(1).dims, node.output.dims]
  const [kernel, inSize, outSize] = [w.slice(2), y.slice(2), x.slice(2)]
  const ones = kernel.map(() => 1)
  const [stride, dilation] = [node.ints('strides', ones), node.ints('dilations', ones)]
  const begin = croppedBefore(node, kernel, outSize, inSize)
  const end = kernel.map((k, i) => {
    const whole = (outSize[i]! - 1) * stride[i]! + (k - 1) * dilation[i]! + 1
    return Math.max(0, whole - inSize[i]! - begin[i]!)
  })
  const group = node.int('group', 1)
  return { n: x[0]!, cin: y[1]!, cout: x[1]!, group, kernel, stride, dilation, begin, end, inSize, outSize }
}

function inputGradient(node: Node, dy: Value, c: Geometry, b: Builder): Value {
  const out = b.op('Conv', [dy, node.input(1)], {
    group: c.group,
    kernel_shape: c.kernel,
    strides: c.stride,
    dilations: c.dilation,
    pads: [...c.begin, ...c.end],
  })
  // a large output_padding leaves room for windows that X has no position for
  const made = c.inSize.map((s, i) => {
    const span = (c.kernel[i]! - 1) * c.dilation[i]! + 1
    return Math.floor((s + c.begin[i]! + c.end[i]! - span) / c.stride[i]!) + 1
  })
  if (made.every((m, i) => m === c.outSize[i])) return out
  const axes = range(made.length)
  return b.op('Slice', [out, b.ints(axes.map(() => 0)), b.ints(c.outSize), b.ints(axes.map((i) => i + 2))])
}

function gradient({ node, dy, needs, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const c = transposedConv(node)
  const y = node.output.dims
  return [
    needs[0] ? inputGradient(node, g, c, b) : null,
    needs[1] ? convWeightGradient(g, node.input(0), c, b) : null,
    needs[2] ? sumAxes(b, g, y, [0, ...range(y.length).slice(2)], false) : null,
  ]
}

const image = { dims: [2, 3, 4, 3] } as const

export const convTranspose = defineOp({
  op: 'ConvTranspose',
  half: true,
  since: [1, 11, 22],
  defaults: { group: 1, strides: 1, dilations: 1, pads: 0, output_padding: 0 },
  gradient,
  weights: [
    { input: 1, data: 0, channels: 'window', transposed: true, bias: 2, outputAxis: () => 1, inputAxis: () => 0 },
  ],
  parameters: [1, 2],
  cost(node) {
    const macs = product(node.input(0).dims) * product(node.input(1).dims.slice(1))
    const outputs = product(node.output.dims)
    return { ...noCost, macs, mults: macs, adds: Math.max(0, macs - outputs) + (node.inputs[2] ? outputs : 0) }
  },
  samples: [
    { name: '3x3', inputs: [image, { dims: [3, 2, 3, 3] }, { dims: [2] }] },
    { name: '2x2 stride 2', inputs: [image, { dims: [3, 2, 2, 2] }], attributes: { strides: [2, 2] } },
    {
      name: '3x3 stride 2, padded, output_padding',
      inputs: [image, { dims: [3, 2, 3, 3] }],
      attributes: { strides: [2, 2], pads: [1, 1, 1, 1], output_padding: [1, 1] },
    },
    {
      name: 'uneven pads, dilated',
      inputs: [image, { dims: [3, 2, 2, 3] }],
      attributes: { dilations: [2, 1], pads: [1, 0, 0, 2] },
    },
    {
      name: 'groups',
      inputs: [{ dims: [2, 4, 3, 3] }, { dims: [4, 3, 3, 3] }, { dims: [6] }],
      attributes: { group: 2, strides: [2, 1], pads: [1, 1, 1, 1] },
    },
    {
      name: 'depthwise',
      inputs: [{ dims: [1, 3, 4, 4] }, { dims: [3, 1, 2, 2] }],
      attributes: { group: 3, strides: [2, 2] },
    },
    {
      name: 'output_shape',
      inputs: [image, { dims: [3, 2, 3, 3] }],
      attributes: { strides: [2, 2], output_shape: [8, 6] },
    },
    {
      name: 'auto_pad',
      inputs: [image, { dims: [3, 2, 3, 3] }],
      attributes: { strides: [2, 2], auto_pad: 'SAME_UPPER' },
    },
    {
      name: '1-D, opset 11',
      inputs: [{ dims: [1, 2, 5] }, { dims: [2, 3, 3] }],
      attributes: { strides: [2] },
      opset: 11,
    },
  ],
})
