/**
 * Pools: one strided slice of the padded input per kernel offset, combined element by element. Covers any number of
 * axes, pads, dilation and rounding, on every backend.
 *
 * MaxPool's Indices are made before a graph comes here (lower-max-pool.ts).
 */
import { slidingWindow } from '../../graph/sliding-window.ts'
import {
  type KernelCall,
  type KernelTable,
  NotCovered,
  outputSizes,
  range,
  spatialAxes,
  type Tf,
  type TfTensor,
} from './kernel.ts'
import { padded } from './shapes.ts'

interface Axis {
  readonly size: number
  readonly out: number
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  readonly begin: number
  /** Padding that counts as a part of the window where pads are included. */
  readonly end: number
}

function axesOf({ node, x: [x] }: KernelCall): Axis[] {
  const w = slidingWindow(node, node.ints('kernel_shape', []), x!.shape.slice(2), outputSizes(node, 2))
  return w.kernel.map((kernel, i) => ({
    ...{ size: w.inSize[i]!, out: w.outSize[i]!, kernel, stride: w.stride[i]!, dilation: w.dilation[i]! },
    ...{ begin: w.begin[i]!, end: w.end[i]! },
  }))
}

/** The element of every window at each kernel offset; beyond the input stands `fill`. */
function windows(tf: Tf, x: TfTensor, axes: readonly Axis[], fill: number): TfTensor[] {
  const reach = axes.map((a) =>
    Math.max(0, (a.out - 1) * a.stride + (a.kernel - 1) * a.dilation + 1 - a.size - a.begin),
  )
  const wide = padded(tf, x, [0, 0, ...axes.map((a) => a.begin)], [0, 0, ...reach], fill)
  const offsets = axes.reduce<number[][]>((all, a) => all.flatMap((o) => range(a.kernel).map((k) => [...o, k])), [[]])
  return offsets.map((at) => {
    const start = at.map((k, i) => k * axes[i]!.dilation)
    const end = start.map((s, i) => s + (axes[i]!.out - 1) * axes[i]!.stride + 1)
    return tf.stridedSlice(
      wide,
      [0, 0, ...start],
      [x.shape[0]!, x.shape[1]!, ...end],
      [1, 1, ...axes.map((a) => a.stride)],
    )
  })
}

/** Positions of each window that count. */
function counts(tf: Tf, axes: readonly Axis[], includePads: boolean): TfTensor {
  const per = axes.map((a) =>
    range(a.out).map((o) => {
      const at = range(a.kernel).map((k) => o * a.stride + k * a.dilation - a.begin)
      return at.filter((p) => (includePads ? p < a.size + a.end : p >= 0 && p < a.size)).length
    }),
  )
  const all = per.reduce<number[]>((list, axis) => list.flatMap((v) => axis.map((w) => v * w)), [1])
  return tf.tensor(all, [1, 1, ...axes.map((a) => a.out)])
}

const sum = (tf: Tf, list: readonly TfTensor[]): TfTensor => list.reduce((a, b) => tf.add(a, b))

/** (sum |x|^p)^(1/p) of terms. */
const norm = (tf: Tf, x: TfTensor, p: number): TfTensor => tf.pow(tf.abs(x), p)

export const pools: KernelTable = {
  MaxPool(c) {
    if (c.node.outputs.length > 1) throw new NotCovered('Indices')
    return windows(c.tf, c.x[0]!, axesOf(c), Number.NEGATIVE_INFINITY).reduce((a, b) => c.tf.maximum(a, b))
  },
  AveragePool(c) {
    const axes = axesOf(c)
    const total = sum(c.tf, windows(c.tf, c.x[0]!, axes, 0))
    const include = c.node.int('count_include_pad', 0) === 1
    return c.tf.div(total, counts(c.tf, axes, include))
  },
  LpPool(c) {
    const p = c.node.int('p', 2)
    const terms = windows(c.tf, c.x[0]!, axesOf(c), 0).map((w) => norm(c.tf, w, p))
    return c.tf.pow(sum(c.tf, terms), 1 / p)
  },
  GlobalAveragePool: ({ tf, x: [x] }) => tf.mean(x!, spatialAxes(x!.rank), true),
  GlobalMaxPool: ({ tf, x: [x] }) => tf.max(x!, spatialAxes(x!.rank), true),
  GlobalLpPool({ tf, node, x: [x] }) {
    const p = node.int('p', 2)
    return tf.pow(tf.sum(norm(tf, x!, p), spatialAxes(x!.rank), true), 1 / p)
  },
  LRN({ tf, node, x: [x] }) {
    const size = node.int('size', 1)
    const [n, channels, ...rest] = x!.shape as [number, number, ...number[]]
    const before = Math.floor((size - 1) / 2)
    const none = rest.map(() => 0)
    const squares = padded(tf, tf.square(x!), [0, before, ...none], [0, size - 1 - before, ...none])
    const total = sum(
      tf,
      range(size).map((k) => tf.slice(squares, [0, k, ...none], [n, channels, ...rest])),
    )
    const scale = tf.add(node.float('bias', 1), tf.mul(total, node.float('alpha', 0.0001) / size))
    return tf.div(x!, tf.pow(scale, node.float('beta', 0.75)))
  },
}
