/**
 * MaxPool with Indices, for engines whose kernel gives values only. With x padded by the lowest number and p_k its
 * strided Slice at kernel offset k:
 *
 *   y = MaxPool(x),  index = plane + r_k for the first k (in row-major order) with p_k = y
 *
 * plane: the flat position of image and channel; r_k: that of offset k of each window within the plane. Indices come as
 * int32, which what reads them (Reshape, ScatterElements, Gather) takes as well; GPU kernels rarely know int64.
 *
 * Does not apply to column-major indices, to more than 2^31 elements, nor where the indices are an output of the graph.
 */
import type { Node, Value } from '../graph/graph.ts'
import { type SlidingWindow, slidingWindow } from '../graph/sliding-window.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementCount, isStatic } from '../graph/types.ts'

const LOWEST = -3.4028234663852886e38
const LOWEST_HALF = -65504
const LARGEST_INDEX = 2 ** 31

export function lowerMaxPool(node: Node): boolean {
  const [y, indices] = node.outputs
  const x = node.input(0)
  const [xs, ys] = [x.type?.dims ?? null, y?.type?.dims ?? null]
  if (!y || !indices || indices.isOutput || node.int('storage_order', 0) === 1) return false
  if (!isStatic(xs) || !isStatic(ys) || elementCount(xs) > LARGEST_INDEX) return false
  const { graph } = node
  const b = graph.before(node)
  const attributes = Object.fromEntries(node.attributes)
  const values = b.op('MaxPool', [x], attributes, { type: y.type })
  const w = windowOf(node, xs, ys)
  const spatial = w.kernel.length
  const axes = b.ints(w.kernel.map((_, i) => i + 2))
  const pads = b.ints([0, 0, ...w.begin, 0, 0, ...w.end])
  const lowest = x.type!.elem === 'float16' ? b.scalar(LOWEST_HALF, 'float16') : b.scalar(LOWEST)
  const padded = [...w.begin, ...w.end].every((p) => p === 0) ? x : b.op('Pad', [x, pads, lowest])
  let found: Value | null = null
  for (const at of offsets(w.kernel).reverse()) {
    const starts = at.map((k, i) => k * w.dilation[i]!)
    const ends = starts.map((s, i) => s + (ys[i + 2]! - 1) * w.stride[i]! + 1)
    const positions = b.initializer('window_positions', positionsOf(at, w, xs.slice(2), ys.slice(2)))
    if (!found) {
      found = positions
      continue
    }
    const slice = b.op('Slice', [padded, b.ints(starts), b.ints(ends), axes, b.ints(w.stride)])
    found = b.op('Where', [b.op('Equal', [slice, values]), positions, found])
  }
  const [n, c] = xs as [number, number]
  const plane = elementCount(xs.slice(2))
  const starts = Int32Array.from({ length: n * c }, (_, i) => i * plane)
  const planes = b.initializer('planes', Tensor.from('int32', [n, c, ...Array<number>(spatial).fill(1)], starts))
  const flat = b.op('Add', [planes, found!])
  graph.replaceUses(y, values)
  graph.replaceUses(indices, flat)
  graph.remove(node)
  return true
}

function windowOf(node: Node, xs: readonly number[], ys: readonly number[]): SlidingWindow {
  const w = slidingWindow(node, node.ints('kernel_shape', []), xs.slice(2), ys.slice(2))
  // what the last window reads; beyond the input it is padding, whatever rounded the output's size
  const reach = (k: number, i: number): number => (w.outSize[i]! - 1) * w.stride[i]! + (k - 1) * w.dilation[i]! + 1
  return { ...w, end: w.kernel.map((k, i) => Math.max(0, reach(k, i) - w.inSize[i]! - w.begin[i]!)) }
}

/** Kernel offsets in row-major order. */
function offsets(kernel: readonly number[]): number[][] {
  return kernel.reduce<number[][]>(
    (all, k) => all.flatMap((at) => Array.from({ length: k }, (_, i) => [...at, i])),
    [[]],
  )
}

/** Position in the plane that each window reads at kernel offset `at`; those in the padding are never chosen. */
function positionsOf(at: readonly number[], w: SlidingWindow, size: readonly number[], out: readonly number[]): Tensor {
  const per = at.map((k, i) =>
    Array.from({ length: out[i]! }, (_, o) => o * w.stride[i]! + k * w.dilation[i]! - w.begin[i]!),
  )
  const flat = per.reduce<number[]>((all, axis, i) => all.flatMap((p) => axis.map((q) => p * size[i]! + q)), [0])
  return Tensor.from('int32', [1, 1, ...out], flat)
}
