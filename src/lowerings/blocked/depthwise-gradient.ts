/**
 * The gradients of a convolution of each channel (depthwise), on blocked values.
 *
 * The weight's is a convolution itself. With x as one image of N C channels and the output's gradient as a kernel of each,
 * [N C, 1, rows, columns] (both are what lies in memory already),
 *
 *   dw[c, k] = sum over n of  Conv(x, dy, group N C, dilations = stride s, strides = dilation d)[n c, k]
 *
 * 0.4 ms for 13.5 by slices, products and sums with 64 images of 96 x 16 x 16 and a kernel of 3x3.
 *
 * The input's with a stride s (ConvTranspose): each of the s x s phases of the image is a convolution of each channel with
 * the taps that it has (strides.ts has the formula), and the phases are put together.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { isStatic } from '../../graph/types.ts'
import { depthwiseKernel, isDepthwise } from './conv.ts'
import { type BlockedLayout, DOMAIN, type Twin } from './layout.ts'
import { type Dims4, isDims4 } from './weights.ts'

export function blockDepthwiseGradient(node: Node, layout: BlockedLayout): boolean {
  const gradient = layout.weightGradient(node)
  if (!gradient || gradient.group === 1) return false
  const b = layout.graph.before(node)
  const [x, dy] = [operand(b, gradient.x, layout), operand(b, gradient.dy, layout)]
  if (!x || !dy) return false
  const { kernel, dilation, begin, stride } = gradient
  const [n, c, ...inSize] = x.dims
  const outSize = dy.dims.slice(2)
  const channels = n * layout.filled(c)
  const ends = kernel.map(
    (k, i) => (k - 1) * dilation[i]! + stride[i]! * (outSize[i]! - 1) + 1 - inSize[i]! - begin[i]!,
  )
  // rows that no window reached would be offsets beyond the kernel
  const found = kernel.map((k, i) => {
    const unread = Math.max(0, -ends[i]!)
    return k + Math.floor(unread / dilation[i]!)
  })
  const attributes = {
    ...{ group: channels, kernel_shape: outSize, dilations: stride, strides: dilation },
    pads: [...begin, ...ends.map((e) => Math.max(0, e))],
  }
  const image = b.op('Reshape', [x.value, b.ints([1, channels, ...inSize])])
  const taps = b.op('Reshape', [dy.value, b.ints([channels, 1, ...outSize])])
  const each = b.op('Conv', [image, taps], attributes, { domain: DOMAIN })
  const sum = b.op('ReduceSum', [b.op('Reshape', [each, b.ints([n, -1])]), b.ints([0])], { keepdims: 0 })
  const open = b.op('Reshape', [sum, b.ints([layout.filled(c) / layout.block, ...found, layout.block])])
  const plain = b.op('Transpose', [open], { perm: [0, 3, 1, 2] })
  const whole = b.op('Reshape', [plain, b.ints([layout.filled(c), 1, ...found])])
  const sizes = [c, 1, ...kernel]
  const exact = c % layout.block === 0 && found.every((f, i) => f === kernel[i])
  const cut = exact ? whole : b.op('Slice', [whole, b.ints([0, 0, 0, 0]), b.ints(sizes), b.ints([0, 1, 2, 3])])
  const dims = (node.output.type?.dims as readonly number[] | undefined) ?? [c, 1, kernel[0]! * kernel[1]!]
  layout.graph.replaceUses(node.output, b.op('Reshape', [cut, b.ints(dims)], {}, { type: node.output.type }))
  layout.graph.remove(node)
  return true
}

/** The twin of an operand, reordered where it has none. */
function operand(b: Builder, v: Value, layout: BlockedLayout): Twin | null {
  const dims = v.type?.dims ?? null
  return layout.twin(v) ?? (isDims4(dims) ? layout.twinOf(b, v, dims) : null)
}

/** Applies to no dilation, equal strides, and an image of exactly s times the size. */
export function blockDepthwiseTranspose(node: Node, layout: BlockedLayout): boolean {
  const [w, to] = [node.input(1).type?.dims ?? null, node.output.type?.dims ?? null]
  if (!isDepthwise(node) || node.inputs[2] || !isDims4(w) || !isStatic(to)) return false
  const b = layout.graph.before(node)
  const dy = operand(b, node.input(0), layout)
  const [s, other] = node.ints('strides', [1, 1]) as [number, number]
  const pads = node.ints('pads', [])
  const derived = node.attributes.has('output_shape') || node.string('auto_pad', 'NOTSET') !== 'NOTSET'
  if (!dy || s === 1 || s !== other || derived || pads.length !== 4) return false
  const [n, c, h, width] = dy.dims
  if (to[2] !== s * h || to[3] !== s * width || node.ints('dilations', [1, 1]).some((d) => d !== 1)) return false
  const [, , kh, kw] = w
  const [rows, columns] = [kh, kw].map((size, i) =>
    Array.from({ length: s }, (_, a) => tapsOf(a, pads[i]!, size, s)),
  ) as [Taps[], Taps[]]
  const phases = rows.flatMap((r) =>
    columns.map((k) => phase(b, dy, { value: node.input(1), kernel: [kh, kw] }, r, k, layout)),
  )
  const lanes = layout.block
  const blocks = layout.filled(c) / lanes
  const opened = phases.map((p) => b.op('Reshape', [p, b.ints([n * blocks, h, 1, width, 1, lanes])]))
  const lines = Array.from({ length: s }, (_, i) => b.op('Concat', opened.slice(i * s, (i + 1) * s), { axis: 4 }))
  const image = b.op('Concat', lines, { axis: 2 })
  const dims: Dims4 = [n, c, s * h, s * width]
  layout.replace(node, layout.closed(b, image, dims), c, dims)
  return true
}

interface Taps {
  /** The row of the output's gradient that the first one meets, from that of the phase. */
  readonly first: number
  /** Rows of the kernel; -1: zero. */
  readonly taps: readonly number[]
}

/** Of dx[s q + a] = sum over r of W[a + begin - s r] dy[q + r], with r = 0 among them, as the engine has no negative pads. */
function tapsOf(a: number, begin: number, size: number, s: number): Taps {
  const first = Math.min(0, Math.ceil((a + begin - size + 1) / s))
  const last = Math.max(0, Math.floor((a + begin) / s))
  const taps = Array.from({ length: last - first + 1 }, (_, i) => a + begin - s * (first + i))
  return { first, taps: taps.map((k) => (k >= 0 && k < size ? k : -1)) }
}

function phase(
  b: Builder,
  dy: Twin,
  { value, kernel }: { readonly value: Value; readonly kernel: readonly [number, number] },
  rows: Taps,
  columns: Taps,
  layout: BlockedLayout,
): Value {
  const [, c] = dy.dims
  const [kh, kw] = kernel
  const source: number[] = []
  for (let i = 0; i < c; i++)
    for (const row of rows.taps)
      for (const column of columns.taps) source.push(row < 0 || column < 0 ? -1 : (i * kh + row) * kw + column)
  const size = [rows.taps.length, columns.taps.length] as const
  const weights = depthwiseKernel(b, value, { dims: [c, 1, ...size], source: Int32Array.from(source) }, layout)
  const ends = [rows, columns].map((t) => t.first + t.taps.length - 1)
  const attributes = {
    ...{ group: layout.filled(c), kernel_shape: [...size] },
    pads: [-rows.first, -columns.first, ...ends],
  }
  return b.op('Conv', [dy.value, weights], attributes, { domain: DOMAIN })
}
