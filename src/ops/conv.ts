/**
 * Conv: y[n,o] = sum_c w[o,c] * x[n,c] (cross-correlation), NC(D)HW.
 *
 * Gradients, for stride s, dilation d, pads p, groups g:
 *   db      = sum over n and positions of dy
 *   dx      = Conv(dy, w transposed over channels and flipped)      stride 1, one group or one a channel, where the
 *                                                                   flipped pads are not negative
 *           = ConvTranspose(dy, w)                                  otherwise
 *   dw      = see conv-weight-gradient.ts
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { type Geometry, geometryOf } from './support/conv-geometry.ts'
import { convWeightGradient } from './support/conv-weight-gradient.ts'
import { defineOp, type GradientContext, noCost, unsupportedNode } from './support/define-op.ts'
import { product } from './support/emit.ts'

function gradient({ node, dy, needs, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const c = geometryOf(node)
  return [
    needs[0] ? inputGradient(node, g, c, b) : null,
    needs[1] ? convWeightGradient(node.input(0), g, c, b) : null,
    needs[2] ? biasGradient(g, c, b) : null,
  ]
}

const biasGradient = (dy: Value, c: Geometry, b: Builder): Value =>
  b.op('ReduceSum', [dy, b.ints([0, ...c.kernel.map((_, i) => i + 2)])], { keepdims: 0 })

// --- dx --------------------------------------------------------------------------------------------------------

function inputGradient(node: Node, dy: Value, c: Geometry, b: Builder): Value {
  const flippedBegin = c.kernel.map((k, i) => (k - 1) * c.dilation[i]! - c.begin[i]!)
  const flippedEnd = c.kernel.map((_, i) => c.inSize[i]! - c.outSize[i]! + c.begin[i]!)
  const apart = c.group === c.cin && c.group === c.cout
  const direct =
    (c.group === 1 || apart) && c.stride.every((s) => s === 1) && [...flippedBegin, ...flippedEnd].every((p) => p >= 0)
  if (direct) {
    const w = flipped(node.input(1), c, b)
    return b.op('Conv', [dy, w], {
      ...(apart && { group: c.group }),
      kernel_shape: c.kernel,
      dilations: c.dilation,
      pads: [...flippedBegin, ...flippedEnd],
    })
  }
  // rows that no window reached (floor in the output size) are made by output_padding
  const reached = c.outSize.map((o, i) => (o - 1) * c.stride[i]! + (c.kernel[i]! - 1) * c.dilation[i]! + 1)
  const missing = c.inSize.map((s, i) => s + c.begin[i]! - reached[i]!)
  const endPad = missing.map((m) => Math.max(0, -m))
  const extra = missing.map((m) => Math.max(0, m))
  const output = b.op('ConvTranspose', [dy, node.input(1)], {
    group: c.group,
    kernel_shape: c.kernel,
    strides: c.stride,
    dilations: c.dilation,
    pads: [...c.begin, ...endPad],
    // onnxruntime wants output_padding below the stride; what is left over is zero and padded on afterwards
    output_padding: extra.map((e, i) => Math.min(e, c.stride[i]! - 1)),
  })
  const rest = extra.map((e, i) => e - Math.min(e, c.stride[i]! - 1))
  if (rest.every((r) => r === 0)) return output
  return b.op('Pad', [output, b.ints([0, 0, ...rest.map(() => 0), 0, 0, ...rest])])
}

/** w with input and output channels of each group exchanged and every kernel axis reversed. */
function flipped(w: Value, c: Geometry, b: Builder): Value {
  const rank = c.kernel.length + 2
  const axes = c.kernel.flatMap((k, i) => (k > 1 ? [i + 2] : []))
  const one = c.group === 1
  const dims = one ? [c.cin, c.cout, ...c.kernel] : [c.cin, 1, ...c.kernel]
  const swapped = !one
    ? w
    : b.op(
        'Transpose',
        [w],
        { perm: [1, 0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2)] },
        { type: { elem: 'float32', dims } },
      )
  if (axes.length === 0) return swapped
  const starts = b.ints(axes.map(() => -1))
  const ends = b.ints(axes.map(() => -(2 ** 31)))
  const back = b.ints(axes.map(() => -1))
  return b.op('Slice', [swapped, starts, ends, b.ints(axes), back], {}, { type: { elem: 'float32', dims } })
}

export const conv = defineOp({
  op: 'Conv',
  half: true,
  since: [1, 11, 22],
  defaults: { group: 1, strides: 1, dilations: 1, pads: 0 },
  gradient,
  weights: [{ input: 1, data: 0, channels: 'window', bias: 2, outputAxis: () => 0, inputAxis: () => 1 }],
  parameters: [1, 2],
  cost(node) {
    if (node.input(1).dims.length < 3) throw unsupportedNode(node, 'its weight has no kernel axes')
    const w = node.input(1).dims
    const perOutput = product(w.slice(1))
    const outputs = product(node.output.dims)
    const bias = node.inputs[2] ? outputs : 0
    return {
      ...noCost,
      macs: outputs * perOutput,
      mults: outputs * perOutput,
      adds: outputs * (perOutput - 1) + bias,
    }
  },
  samples: [
    {
      name: '3x3 same',
      inputs: [{ dims: [2, 3, 5, 4] }, { dims: [2, 3, 3, 3] }, { dims: [2] }],
      attributes: { kernel_shape: [3, 3], pads: [1, 1, 1, 1] },
    },
    {
      name: '3x2, uneven pads and dilations, about equal channels',
      inputs: [{ dims: [2, 4, 6, 7] }, { dims: [3, 4, 3, 2] }],
      attributes: { pads: [2, 0, 1, 1], dilations: [1, 3] },
    },
    { name: '1x1', inputs: [{ dims: [2, 4, 3, 3] }, { dims: [3, 4, 1, 1] }] },
    { name: '1x1 of one position', inputs: [{ dims: [5, 4, 1, 1] }, { dims: [3, 4, 1, 1] }, { dims: [3] }] },
    { name: '1x1 stride 2', inputs: [{ dims: [2, 4, 5, 4] }, { dims: [3, 4, 1, 1] }], attributes: { strides: [2, 2] } },
    {
      name: '3x3 stride 2, more out than in',
      inputs: [{ dims: [2, 2, 6, 7] }, { dims: [4, 2, 3, 3] }],
      attributes: { strides: [2, 2], pads: [1, 1, 1, 1] },
    },
    {
      name: 'stride 3 leaves a rest',
      inputs: [{ dims: [1, 2, 9, 8] }, { dims: [3, 2, 2, 2] }],
      attributes: { strides: [3, 3] },
    },
    {
      name: 'uneven pads, dilation 2, few outputs',
      inputs: [{ dims: [2, 4, 7, 6] }, { dims: [2, 4, 3, 2] }],
      attributes: { dilations: [2, 2], pads: [1, 0, 2, 1] },
    },
    {
      name: 'pads beyond the kernel',
      inputs: [{ dims: [1, 3, 4, 4] }, { dims: [2, 3, 2, 2] }],
      attributes: { pads: [2, 2, 2, 2] },
    },
    {
      name: 'depthwise',
      inputs: [{ dims: [2, 4, 5, 5] }, { dims: [4, 1, 3, 3] }],
      attributes: { group: 4, pads: [1, 1, 1, 1] },
    },
    {
      name: 'groups of two, stride 2',
      inputs: [{ dims: [2, 4, 6, 6] }, { dims: [6, 2, 3, 3] }, { dims: [6] }],
      attributes: { group: 2, strides: [2, 2], pads: [1, 1, 1, 1] },
    },
    {
      name: 'auto_pad SAME_UPPER',
      inputs: [{ dims: [1, 2, 5, 6] }, { dims: [3, 2, 3, 3] }],
      attributes: { auto_pad: 'SAME_UPPER', strides: [2, 2] },
    },
    { name: '1-D', inputs: [{ dims: [2, 3, 8] }, { dims: [2, 3, 3] }], attributes: { pads: [1, 1] }, opset: 11 },
  ],
})
