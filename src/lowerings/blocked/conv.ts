/**
 * Convolutions whose weights change between runs, on onnxruntime's blocked (NCHWc) kernels.
 *
 * onnxruntime lays constant weights out in blocks of 16 or 8 channels at load and convolves directly; weights that are
 * inputs, as in a training step, go through im2col and GEMM instead, which takes 1.1 to 1.8 times as long for 3x3
 * kernels of few channels (23 against 14 ms for 48 -> 12 channels, 64 images of 32x32, one thread, reordering included;
 * bench/kernels.ts). The kernels are operators of the engine's own domain, so the layout can be made in the graph:
 *
 *   W [O,I,h,w] -> filled up to whole blocks and put in order (weights.ts)
 *   x -> ReorderInput -> Conv -> ReorderOutput
 *
 * Inputs of few channels (images) are read as they are.
 *
 * Applies to 2-D convolutions of one group with kernels larger than 1x1, at least 8 channels out and either at least 8
 * in, a multiple of 4 (ReorderInput refuses others), or at most 4; to 1x1 kernels whose input is blocked already; and to
 * convolutions of each channel (depthwise) of at least 8 channels, which take a quarter of the time there with the
 * reordering included.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { type BlockedLayout, DOMAIN, reorderable } from './layout.ts'
import { blockedWeights, type Dims4, isDims4 } from './weights.ts'

const MIN_CHANNELS = 8
/** Up to this many input channels are read from the plain layout. */
export const FEW = 4

export function blockConv(node: Node, layout: BlockedLayout): boolean {
  if (isDepthwise(node)) return blockDepthwise(node, layout)
  const dims = blockable(node) ?? pointwise(node, layout)
  if (!dims) return false
  const b = layout.graph.before(node)
  const { block } = layout
  const plainInput = dims[1] <= FEW
  const weights = layout.kernel(node.input(1), () =>
    blockedWeights(b, { value: node.input(1), dims }, { dims, source: null }, { block, plainInput }),
  )
  const x = node.input(0)
  const inputs = [plainInput ? x : layout.blocked(b, x), weights]
  if (node.inputs[2]) inputs.push(layout.filledUp(b, node.inputs[2], 1, dims[0]))
  const conv = b.op('Conv', inputs, Object.fromEntries(node.attributes), { domain: DOMAIN })
  layout.replace(node, conv, dims[0])
  return true
}

function blockDepthwise(node: Node, layout: BlockedLayout): boolean {
  const channels = node.int('group', 1)
  const b = layout.graph.before(node)
  const inputs = [layout.blocked(b, node.input(0)), depthwiseKernel(b, node.input(1), null, layout)]
  if (node.inputs[2]) inputs.push(layout.filledUp(b, node.inputs[2], 1, channels))
  const attributes = { ...Object.fromEntries(node.attributes), group: layout.filled(channels) }
  layout.replace(node, b.op('Conv', inputs, attributes, { domain: DOMAIN }), channels)
  return true
}

/** The blocked kernel of a convolution of each channel; `taps`: its size and where in `w` its elements are. */
export function depthwiseKernel(
  b: Builder,
  w: Value,
  taps: { readonly dims: Dims4; readonly source: Int32Array } | null,
  layout: BlockedLayout,
): Value {
  const dims = w.type?.dims as Dims4
  const make = (): Value => {
    const kernel = taps ?? { dims, source: null }
    return blockedWeights(b, { value: w, dims }, kernel, { block: layout.block, plainInput: true })
  }
  return taps ? make() : layout.kernel(w, make)
}

/** Whether a convolution, or a transposed one, is 2-D and of each channel with changing weights, of channels enough to fill blocks. */
export function isDepthwise(node: Node): boolean {
  const dims = node.inputs[1]?.type?.dims ?? null
  const group = node.int('group', 1)
  if (!isDims4(dims) || node.input(1).constant) return false
  const known = reorderable(group) || isDims4(node.input(0).type?.dims ?? null)
  return group >= MIN_CHANNELS && dims[0] === group && dims[1] === 1 && known
}

/** In any domain. */
export const isConv = (node: Node): boolean => node.op === 'Conv'

/** The weight's dims where the node is a 2-D convolution of one group with changing weights. */
function kernelOf(node: Node): Dims4 | null {
  if (!isConv(node) || node.int('group', 1) !== 1) return null
  const w = node.input(1)
  const dims = w.type?.dims ?? null
  return !w.constant && isDims4(dims) ? dims : null
}

/** A 1x1 convolution is as fast in the plain layout: it stays in the one that its input is in. */
function pointwise(node: Node, layout: BlockedLayout): Dims4 | null {
  const dims = kernelOf(node)
  return dims && layout.twin(node.input(0)) && dims[0] >= MIN_CHANNELS ? dims : null
}

/** Whether the rewrite applies whatever layout the input is in. */
export const isBlockable = (node: Node): boolean => isConv(node) && (blockable(node) !== null || isDepthwise(node))

/** The weight's dims where it does so to a convolution of one group. */
function blockable(node: Node): Dims4 | null {
  const dims = kernelOf(node)
  if (!dims) return null
  const [o, i, kh, kw] = dims
  const fits = o >= MIN_CHANNELS && (i <= FEW || (i >= MIN_CHANNELS && reorderable(i)))
  return kh * kw > 1 && fits ? dims : null
}
