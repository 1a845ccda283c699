/**
 * AveragePool and GlobalAveragePool: Y_o = sum of X over window o / count_o.
 *
 *   dX_i = sum of dY_o / count_o over the windows o that i lies in
 *
 * count_o: the kernel's taps inside X, or with `count_include_pad` inside X and its declared pads (what `ceil_mode`
 * lets stick out beyond them is never counted). Windows side by side are repeated, others go through ConvTranspose.
 */
import type { Value } from '../graph/graph.ts'
import type { SlidingWindow } from '../graph/sliding-window.ts'
import { Tensor } from '../graph/tensor.ts'
import { defineOp, type GradientContext, noCost } from './support/define-op.ts'
import { product, range, typed } from './support/emit.ts'
import { elemOf } from './support/rules.ts'
import { fill, spread, windowOf } from './support/window.ts'

function gradient({ node, dy, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const x = node.input(0)
  const elem = elemOf(x)
  const type = { elem, dims: node.output.dims }
  const w = windowOf(node)
  const perAxis = range(w.kernel.length).map((i) => counts(w, i, node.int('count_include_pad', 0) === 1))
  if (perAxis.every((c) => c.every((n) => n === c[0])))
    return [spread(b, typed(g, node.output.dims, elem), w, x.dims, 1 / perAxis.reduce((p, c) => p * c[0]!, 1))]
  const weights = b.initializer(`${node.id}_weights`, Tensor.from(elem, [1, 1, ...w.outSize], reciprocals(perAxis)))
  return [spread(b, b.op('Mul', [g, weights], {}, { type }), w, x.dims)]
}

/** Taps that count, for each window along axis i. */
function counts(w: SlidingWindow, i: number, includePads: boolean): number[] {
  const [low, high] = includePads ? [-w.begin[i]!, w.inSize[i]! + w.end[i]!] : [0, w.inSize[i]!]
  return range(w.outSize[i]!).map((o) => {
    const first = o * w.stride[i]! - w.begin[i]!
    return range(w.kernel[i]!).filter((k) => {
      const at = first + k * w.dilation[i]!
      return at >= low && at < high
    }).length
  })
}

/** 1 / product of the counts, over all positions in row-major order. */
function reciprocals(perAxis: readonly number[][]): Float64Array {
  const sizes = perAxis.map((c) => c.length)
  const out = new Float64Array(product(sizes)).fill(1)
  perAxis.forEach((c, i) => {
    const inner = product(sizes.slice(i + 1))
    for (let p = 0; p < out.length; p++) out[p]! *= c[Math.floor(p / inner) % c.length]!
  })
  for (let p = 0; p < out.length; p++) out[p] = 1 / out[p]!
  return out
}

export const averagePool = defineOp({
  op: 'AveragePool',
  integerKernel: 'own',
  keepsMean: (node) => node.int('count_include_pad', 0) === 0,
  homogeneous: () => 'channel',
  half: true,
  channels: () => 'same',
  since: [7, 10, 11, 19, 22],
  defaults: { strides: 1, dilations: 1, pads: 0, ceil_mode: 0, count_include_pad: 0 },
  gradient,
  cost(node) {
    const window = product(node.ints('kernel_shape', []))
    const outputs = product(node.output.dims)
    return { ...noCost, adds: outputs * (window - 1), mults: outputs }
  },
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: '2x2', inputs: [{ dims: [2, 3, 4, 6] }], attributes: { kernel_shape: [2, 2], strides: [2, 2] } },
    {
      name: '2x2 leaves a rest',
      inputs: [{ dims: [1, 2, 5, 4] }],
      attributes: { kernel_shape: [2, 2], strides: [2, 2] },
    },
    { name: 'whole image', inputs: [{ dims: [2, 3, 4, 4] }], attributes: { kernel_shape: [4, 4] } },
    {
      name: '3x3 stride 2, pads not counted',
      inputs: [{ dims: [1, 2, 6, 7] }],
      attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] },
    },
    {
      name: '3x3 stride 1, pads counted',
      inputs: [{ dims: [1, 2, 4, 5] }],
      attributes: { kernel_shape: [3, 3], pads: [1, 0, 1, 2], count_include_pad: 1 },
    },
    {
      name: 'ceil_mode',
      inputs: [{ dims: [1, 2, 6, 5] }],
      attributes: { kernel_shape: [3, 2], strides: [2, 2], ceil_mode: 1 },
    },
    {
      name: 'ceil_mode, pads counted',
      inputs: [{ dims: [1, 2, 6, 6] }],
      attributes: { kernel_shape: [3, 3], strides: [2, 2], pads: [0, 1, 0, 0], ceil_mode: 1, count_include_pad: 1 },
    },
    { name: 'dilated', inputs: [{ dims: [1, 2, 6, 6] }], attributes: { kernel_shape: [2, 2], dilations: [2, 3] } },
    { name: '1-D', inputs: [{ dims: [2, 2, 7] }], attributes: { kernel_shape: [3], strides: [2] } },
    {
      name: 'auto_pad, opset 7',
      inputs: [{ dims: [1, 2, 5, 5] }],
      attributes: { kernel_shape: [3, 3], strides: [2, 2], auto_pad: 'SAME_LOWER' },
      opset: 7,
    },
  ],
})

export const globalAveragePool = defineOp({
  op: 'GlobalAveragePool',
  integerKernel: 'own',
  keepsMean: () => true,
  homogeneous: () => 'channel',
  channels: () => 'same',
  since: [1, 22],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const x = node.input(0)
    return [fill(b, typed(g, node.output.dims, elemOf(x)), x.dims, 1 / product(x.dims.slice(2)))]
  },
  cost(node) {
    const outputs = product(node.output.dims)
    return { ...noCost, adds: product(node.input(0).dims) - outputs, mults: outputs }
  },
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'images', inputs: [{ dims: [2, 3, 4, 5] }] },
    { name: '3-D, opset 7', inputs: [{ dims: [2, 2, 2, 3, 2] }], opset: 7 },
  ],
})
