/**
 * The weight gradient of a convolution whose operands are both blocked, as a convolution itself. Column v of a line of
 * dy, 16 channels o side by side, 16 columns a block: in memory that is a kernel whose input channels are the columns of
 * the block,
 *
 *   dy  [n, O/16, h, w/16, 16 columns, 16 o]  =  kernel [(n O/16), 1, h, w/16, 16, 16]     one group per image
 *   x   [n, h, (i, w/16), 16 columns]         =  an image [(n) channels, h, (i, w/16)]      stride [1, w/16]
 *
 * and the convolution's sum over the kernel is the sum over positions: output [(n O/16), kernel row, i, 16 o]. Kernel rows
 * are rows of its output. Columns do not fall on blocks; for each, dy is moved along its lines by a convolution of each
 * channel with one tap, which knows nothing of the next line. Nothing else is copied but x, once: 1.3 against 2.1 ms for
 * the plain form with 64 images of 16 x 32 x 32, 0.75 against 1.5 ms for 32 x 16 x 16 (two cores; whole steps are in
 * bench/kernels.ts).
 *
 * Applies to strides and dilations of 1, one group, and lines that are whole blocks and as long in x as in dy.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import type { WeightGradient } from '../../graph/hints.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type BlockedLayout, DOMAIN, type Twin } from './layout.ts'

/** The most elements that the gradients of single images may have before they are summed: beyond that, images share a kernel. */
const MOST_APART = 1 << 21

export function blockWeightGradient(node: Node, layout: BlockedLayout): boolean {
  const gradient = layout.weightGradient(node)
  const [x, dy] = [layout.twin(gradient?.x), layout.twin(gradient?.dy)]
  if (!gradient || !x || !dy || !layout.isWhole(x) || !layout.isWhole(dy)) return false
  if (!fits(gradient, x, dy, layout.block)) return false
  const b = layout.graph.before(node)
  const [kh, kw] = gradient.kernel as readonly [number, number]
  const [n, o, rows, width] = dy.dims
  const [, i, inRows] = x.dims
  const c = layout.block
  const groups = groupsFor(n, o * i * kh * kw)
  const image = linesOfChannels(b, x, c)
  const gradients = Array.from({ length: kw }, (_, k) => {
    const moved = along(b, dy, gradient.begin[1]! - k, c)
    const kernel = b.op('Reshape', [
      imagesInside(b, moved, dy, groups, c),
      b.ints([groups * o, (n / groups) * c, rows, width / c]),
    ])
    const above = gradient.begin[0]!
    const attributes = {
      ...{ group: groups, kernel_shape: [rows, width / c], strides: [1, width / c] },
      pads: [above, 0, kh - 1 - above + rows - inRows, 0],
    }
    const each = b.op('Conv', [image, kernel], attributes, { domain: DOMAIN })
    if (groups === 1) return b.op('Reshape', [each, b.ints([-1])])
    return b.op('ReduceSum', [b.op('Reshape', [each, b.ints([groups, -1])]), b.ints([0])], { keepdims: 0 })
  })
  const all = b.op('Concat', gradients, { axis: 0 })
  const indices = b.initializer(b.graph.freshName('order_of_gradient'), order(o, i, kh, kw, c))
  const flat = b.op('GatherElements', [all, indices])
  const dims = node.output.type?.dims as readonly number[] | undefined
  const ordered = b.op('Reshape', [flat, b.ints(dims ?? [o, i, kh, kw])], {}, { type: node.output.type })
  layout.graph.replaceUses(node.output, ordered)
  layout.graph.remove(node)
  return true
}

function fits({ group, stride, kernel, dilation, begin }: WeightGradient, x: Twin, dy: Twin, block: number): boolean {
  const width = dy.dims[3]
  const [kh, kw] = kernel as readonly [number, number]
  // pads at the end may be negative where the last rows are not read: the engine has no negative pads
  const below = kh - 1 - begin[0]! + dy.dims[2] - x.dims[2]
  const whole = width === x.dims[3] && width % block === 0 && begin[1]! < kw
  const one = group === 1 && [...stride, ...dilation].every((d) => d === 1)
  return kernel.length === 2 && kw > 1 && one && whole && below >= 0
}

/** How many groups of images have gradients of their own: a divisor of n. */
function groupsFor(n: number, elements: number): number {
  let groups = n
  while (groups * elements > MOST_APART && groups % 2 === 0) groups /= 2
  return groups
}

/** x as [1, (n columns), h, (i, w/c)], blocked: memory [n, h, i, w]. */
function linesOfChannels(b: Builder, x: Twin, c: number): Value {
  const [n, i, h, w] = x.dims
  const lines = b.op('Reshape', [x.value, b.ints([(n * i * h) / c, c, 1, w])])
  const plain = b.op('ReorderOutput', [lines], { channels: c }, { domain: DOMAIN })
  const perBlock = b.op('Reshape', [plain, b.ints([n, i / c, h, c * w])])
  const together = i === c ? plain : b.op('Transpose', [perBlock], { perm: [0, 2, 1, 3] })
  return b.op('Reshape', [together, b.ints([1, n * c, h, (i * w) / c])])
}

/** dy moved along its lines: column v holds what was in column v + by, zero where there is none. */
function along(b: Builder, dy: Twin, by: number, c: number): Value {
  if (by === 0) return dy.value
  const taps = Math.abs(by) + 1
  const channels = dy.dims[1]
  const tap = by > 0 ? by : 0
  const weights = Float32Array.from({ length: channels * taps }, (_, i) => (Math.floor(i / c) % taps === tap ? 1 : 0))
  const kernel = b.shared(`moving_${channels}_by_${by}`, Tensor.float32([channels, 1, 1, taps], weights))
  const pads = by > 0 ? [0, 0, 0, by] : [0, -by, 0, 0]
  const attributes = { kernel_shape: [1, taps], group: channels, pads }
  return b.op('Conv', [dy.value, kernel], attributes, { domain: DOMAIN })
}

/** [groups, O/c, images of the group, ...]: where a group has several images, they are input channels of one kernel. */
function imagesInside(b: Builder, v: Value, { dims }: Twin, groups: number, c: number): Value {
  const [n, o, h, w] = dims
  if (groups === n || o === c) return v
  const apart = b.op('Reshape', [v, b.ints([groups, n / groups, o / c, h * w * c])])
  return b.op('Transpose', [apart], { perm: [0, 2, 1, 3] })
}

/** Where element [o, i, kh, kw] is in [kw, O/c, kh, i, c]. */
function order(o: number, i: number, kh: number, kw: number, c: number): Tensor {
  const at = new Int32Array(o * i * kh * kw)
  let n = 0
  for (let O = 0; O < o; O++)
    for (let I = 0; I < i; I++)
      for (let k = 0; k < kh; k++)
        for (let l = 0; l < kw; l++) at[n++] = (((l * (o / c) + Math.floor(O / c)) * kh + k) * i + I) * c + (O % c)
  return Tensor.of('int32', [n], at)
}
