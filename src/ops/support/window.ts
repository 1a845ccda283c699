/**
 * Sliding windows: the geometry that pools share, and the transpose of a window sum, which is their gradient.
 *
 * spread(v)[i] = sum of v[o] over the windows o that position i lies in.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { type SlidingWindow, slidingWindow } from '../../graph/sliding-window.ts'
import { Tensor } from '../../graph/tensor.ts'
import { expand, product, reshape } from './emit.ts'
import { elemOf } from './rules.ts'

/** Geometry of a pooling node. */
export function windowOf(node: Node): SlidingWindow {
  const inSize = node.input(0).dims.slice(2)
  const kernel = node.ints(
    'kernel_shape',
    inSize.map(() => 1),
  )
  return slidingWindow(node, kernel, inSize, node.output.dims.slice(2))
}

/** The transpose of the window sum, times `factor`: `v` has the pool's output dims, the result its input dims `x`. */
export function spread(b: Builder, v: Value, w: SlidingWindow, x: readonly number[], factor = 1): Value {
  const elem = elemOf(v)
  if (w.outSize.every((o, i) => o === 1 && w.kernel[i] === w.inSize[i] && w.begin[i] === 0))
    return fill(b, v, x, factor)
  const apart = w.kernel.every((k, i) => k === w.stride[i] && w.dilation[i] === 1 && w.begin[i] === 0)
  if (apart && w.outSize.every((o, i) => o * w.kernel[i]! <= w.inSize[i]!)) return repeated(b, v, w, x, factor)
  const planes = reshape(b, v, [x[0]! * x[1]!, 1, ...w.outSize])
  const kernel = Tensor.from(elem, [1, 1, ...w.kernel], Array(product(w.kernel)).fill(factor))
  const reached = w.outSize.map((o, i) => (o - 1) * w.stride[i]! + (w.kernel[i]! - 1) * w.dilation[i]! + 1)
  const missing = w.inSize.map((s, i) => s + w.begin[i]! - reached[i]!)
  const sum = b.op('ConvTranspose', [planes, b.initializer('window', kernel)], {
    kernel_shape: w.kernel,
    strides: w.stride,
    dilations: w.dilation,
    pads: [...w.begin, ...missing.map((m) => Math.max(0, -m))],
    // positions after the last window
    output_padding: missing.map((m) => Math.max(0, m)),
  })
  return reshape(b, sum, x)
}

/** Planes of more elements are not constants of the file. */
const LARGE_PLANE = 2 ** 18

/**
 * `v` [n, c, 1, ..] times `factor` at every position of `x`: a product with a constant plane, which in onnxruntime takes
 * a quarter of the time of Mul and Expand (64x342x8x8).
 */
export function fill(b: Builder, v: Value, x: readonly number[], factor: number): Value {
  const elem = elemOf(v)
  const dims = [1, 1, ...x.slice(2)]
  if (product(dims) > LARGE_PLANE) return expand(b, b.op('Mul', [v, b.scalar(factor, elem)], {}, { type: v.type }), x)
  const plane = b.initializer('plane', Tensor.from(elem, dims, Array(product(dims)).fill(factor)))
  return b.op('Mul', [v, plane], {}, { type: { elem, dims: x } })
}

/**
 * Windows side by side: every element repeated over its window. Resize by nearest takes a tenth of the time of an Expand
 * over inner axes (64x48x16x16 to 32x32), but has no kernel for double.
 */
function repeated(b: Builder, v: Value, w: SlidingWindow, x: readonly number[], factor: number): Value {
  const elem = elemOf(v)
  const scaled = factor === 1 ? v : b.op('Mul', [v, b.scalar(factor, elem)])
  const covered = w.outSize.map((o, i) => o * w.kernel[i]!)
  const dims = [x[0]!, x[1]!, ...covered]
  let out: Value
  if (elem === 'float32') {
    const scales = b.initializer('scales', Tensor.float32([x.length], [1, 1, ...w.kernel]))
    const mode = { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' }
    out = b.op('Resize', [scaled, null, scales], mode, { type: { elem, dims } })
  } else {
    const open = [x[0]!, x[1]!, ...w.outSize.flatMap((o) => [o, 1])]
    const filled = [x[0]!, x[1]!, ...w.outSize.flatMap((o, i) => [o, w.kernel[i]!])]
    out = reshape(b, expand(b, reshape(b, scaled, open), filled), dims)
  }
  const rest = covered.map((c, i) => w.inSize[i]! - c)
  if (rest.every((r) => r === 0)) return out
  return b.op('Pad', [out, b.ints([0, 0, ...rest.map(() => 0), 0, 0, ...rest])], {}, { type: { elem, dims: x } })
}
