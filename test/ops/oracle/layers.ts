/** Convolutions, pools, matrix products, normalisations, resizing. Output sizes are the engine's; values are not. */
import type { Tensor as Tf } from '@tensorflow/tfjs-core'
import type { Node } from '../../../src/graph/graph.ts'
import { tf } from '../tfjs.ts'
import type { OracleOp } from '../tfjs-oracle.ts'
import { einsum } from './einsum.ts'
import { resizeMatrix } from './resize.ts'
import { ints, pick, range, wrapAxis } from './shapes.ts'

interface Axis {
  readonly size: number
  readonly out: number
  readonly kernel: number
  readonly stride: number
  readonly dilation: number
  readonly begin: number
  readonly end: number
}

const product = (a: readonly number[]): number => a.reduce((p, d) => p * d, 1)

function axesOf(x: Tf, kernel: readonly number[], node: Node, outDims = node.output.dims): Axis[] {
  const rank = kernel.length
  const pads = node.ints('pads', Array<number>(2 * rank).fill(0))
  const mode = node.string('auto_pad', 'NOTSET')
  return kernel.map((k, i) => {
    const size = x.shape[i + 2]!
    const out = outDims[i + 2]!
    const stride = node.ints('strides', [])[i] ?? 1
    const dilation = node.ints('dilations', [])[i] ?? 1
    const total = Math.max(0, (out - 1) * stride + (k - 1) * dilation + 1 - size)
    const half = Math.floor(total / 2)
    const [begin, end] =
      mode === 'SAME_UPPER'
        ? [half, total - half]
        : mode === 'SAME_LOWER'
          ? [total - half, half]
          : mode === 'VALID'
            ? [0, 0]
            : [pads[i]!, pads[i + rank]!]
    return { size, out, kernel: k, stride, dilation, begin, end }
  })
}

/** Where output `o` reads at kernel offset `k`; negative or beyond the size is outside. */
type Position = (a: Axis, k: number, o: number) => number
const correlation: Position = (a, k, o) => o * a.stride + k * a.dilation - a.begin
/** The other way round: which input element reached output `o` at offset `k`, if any did. */
const transposed: Position = (a, k, o) => {
  const p = o + a.begin - k * a.dilation
  return p % a.stride === 0 ? p / a.stride : -1
}

/** [kernel offsets, ...x with its spatial axes at the outputs' positions]; outside is `fill`. */
function windows(x: Tf, axes: readonly Axis[], fill = 0, position = correlation): Tf {
  const read = (t: Tf): Tf =>
    axes.reduce((u, a, i) => {
      // positions (offset, output) along one axis, offsets first
      const index = range(a.kernel).flatMap((k) => range(a.out).map((o) => position(a, k, o)))
      return pick(u, i + 2, index)
    }, t)
  const split = (t: Tf): Tf => {
    const parts = tf.reshape(t, [t.shape[0]!, t.shape[1]!, ...axes.flatMap((a) => [a.kernel, a.out])])
    const offsets = axes.map((_, i) => 2 + 2 * i)
    const places = axes.map((_, i) => 3 + 2 * i)
    const front = tf.transpose(parts, [...offsets, 0, 1, ...places])
    return tf.reshape(front, [product(axes.map((a) => a.kernel)), t.shape[0]!, t.shape[1]!, ...axes.map((a) => a.out)])
  }
  const moved = split(read(x))
  return fill === 0 ? moved : tf.add(moved, tf.mul(fill, tf.sub(1, split(read(tf.onesLike(x))))))
}

function conv(x: Tf, w: Tf, bias: Tf | undefined, node: Node): Tf {
  const kernel = w.shape.slice(2)
  const axes = axesOf(x, kernel, node)
  const group = node.int('group', 1)
  const [n, cin] = [x.shape[0]!, x.shape[1]!]
  const [cout, perIn] = [w.shape[0]!, cin / group]
  const taps = product(kernel)
  const places = product(axes.map((a) => a.out))
  const columns = tf.transpose(tf.reshape(windows(x, axes), [taps, n, group, perIn, places]), [1, 2, 3, 0, 4])
  const right = tf.reshape(columns, [n, group, perIn * taps, places])
  const left = tf.tile(tf.reshape(w, [1, group, cout / group, perIn * taps]), [n, 1, 1, 1])
  const y = tf.reshape(tf.matMul(left, right), [n, cout, ...axes.map((a) => a.out)])
  return bias ? tf.add(y, tf.reshape(bias, [cout, ...kernel.map(() => 1)])) : y
}

function convTranspose(x: Tf, w: Tf, bias: Tf | undefined, node: Node): Tf {
  const kernel = w.shape.slice(2)
  const group = node.int('group', 1)
  const [n, cin] = [x.shape[0]!, x.shape[1]!]
  const [perIn, perOut] = [cin / group, w.shape[1]!]
  const mode = node.string('auto_pad', 'NOTSET')
  const computed = mode.startsWith('SAME') || node.attributes.has('output_shape')
  const axes = axesOf(x, kernel, node).map((a, i) => {
    if (!computed) return a
    const extra = node.ints('output_padding', [])[i] ?? 0
    const total = a.stride * (a.size - 1) + extra + (a.kernel - 1) * a.dilation + 1 - a.out
    const half = Math.floor(total / 2)
    return { ...a, begin: mode === 'SAME_UPPER' ? half : total - half }
  })
  const taps = product(kernel)
  const places = product(axes.map((a) => a.out))
  const read = tf.reshape(windows(x, axes, 0, transposed), [taps, n, group, perIn, places])
  const right = tf.reshape(tf.transpose(read, [1, 2, 3, 0, 4]), [n, group, perIn * taps, places])
  const turned = tf.transpose(tf.reshape(w, [group, perIn, perOut, taps]), [0, 2, 1, 3])
  const left = tf.tile(tf.reshape(turned, [1, group, perOut, perIn * taps]), [n, 1, 1, 1])
  const y = tf.reshape(tf.matMul(left, right), [n, group * perOut, ...axes.map((a) => a.out)])
  return bias ? tf.add(y, perChannel(bias, x.rank)) : y
}

/** How many positions of each window count, per output; separable over the axes. */
function counts(axes: readonly Axis[], includePads: boolean): Tf {
  return axes.reduce<Tf>((all, a, i) => {
    const per = range(a.out).map((o) => {
      const at = range(a.kernel).map((k) => o * a.stride + k * a.dilation - a.begin)
      return at.filter((p) => (includePads ? p < a.size + a.end : p >= 0 && p < a.size)).length
    })
    const dims = axes.map((_, j) => (i === j ? a.out : 1))
    return tf.mul(all, tf.tensor(per, dims))
  }, tf.scalar(1))
}

function pool(x: Tf, node: Node, f: (w: Tf, axes: readonly Axis[]) => Tf, fill = 0): Tf {
  const axes = axesOf(x, node.ints('kernel_shape', []), node)
  return f(windows(x, axes, fill), axes)
}

const spatial = (x: Tf): number[] => range(x.rank - 2).map((i) => i + 2)
const perChannel = (v: Tf, rank: number): Tf => tf.reshape(v, [v.size, ...Array<number>(rank - 2).fill(1)])

/** Sums, through a norm: (sum |x|^p)^(1/p). */
const norm = (x: Tf, p: number, axes: number[], keep: boolean): Tf =>
  tf.pow(tf.sum(tf.pow(tf.abs(x), p), axes, keep), 1 / p)

function matmul(a: Tf, b: Tf): Tf {
  const left = a.rank === 1 ? tf.reshape(a, [1, a.size]) : a
  const right = b.rank === 1 ? tf.reshape(b, [b.size, 1]) : b
  const batch = tf.backend_util.assertAndGetBroadcastShape(left.shape.slice(0, -2), right.shape.slice(0, -2))
  const spread = (t: Tf): Tf => tf.mul(t, tf.ones([...batch, ...t.shape.slice(-2)]))
  const y = batch.length > 0 ? tf.matMul(spread(left), spread(right)) : tf.matMul(left, right)
  const dims = [...batch]
  if (a.rank > 1) dims.push(a.shape.at(-2)!)
  if (b.rank > 1) dims.push(b.shape.at(-1)!)
  return tf.reshape(y, dims)
}

function normalise(x: Tf, axes: number[], epsilon: number): Tf {
  const { mean, variance } = tf.moments(x, axes, true)
  return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, epsilon)))
}

export const layerOracle: Readonly<Record<string, OracleOp>> = {
  Conv: ([x, w, b], n) => conv(x!, w!, b, n),
  ConvTranspose: ([x, w, b], n) => convTranspose(x!, w!, b, n),
  Einsum: einsum,
  LRN([x], n) {
    const size = n.int('size', 1)
    const channels = x!.shape[1]!
    const squares = range(size).map((k) => {
      const shift = k - Math.floor((size - 1) / 2)
      return pick(
        tf.square(x!),
        1,
        range(channels).map((c) => c + shift),
      )
    })
    const scale = tf.add(n.float('bias', 1), tf.mul(n.float('alpha', 0.0001) / size, tf.addN(squares)))
    return tf.div(x!, tf.pow(scale, n.float('beta', 0.75)))
  },
  MatMul: ([a, b]) => matmul(a!, b!),
  Gemm([a, b, c], n) {
    const y = tf.mul(n.float('alpha', 1), tf.matMul(a!, b!, n.int('transA', 0) === 1, n.int('transB', 0) === 1))
    return c ? tf.add(y, tf.mul(n.float('beta', 1), c)) : y
  },
  BatchNormalization([x, scale, bias, mean, variance], n) {
    const axes = [0, ...spatial(x!)]
    const batch = n.int('training_mode', 0) === 1
    const { mean: m, variance: v } = batch ? tf.moments(x!, axes) : { mean: mean!, variance: variance! }
    const wide = (t: Tf): Tf => perChannel(t, x!.rank)
    const xhat = tf.div(tf.sub(x!, wide(m)), tf.sqrt(tf.add(wide(v), n.float('epsilon', 1e-5))))
    return [tf.add(tf.mul(xhat, wide(scale!)), wide(bias!)), m, v]
  },
  InstanceNormalization: ([x, scale, bias], n) =>
    tf.add(
      tf.mul(normalise(x!, spatial(x!), n.float('epsilon', 1e-5)), perChannel(scale!, x!.rank)),
      perChannel(bias!, x!.rank),
    ),
  LayerNormalization([x, scale, bias], n) {
    const axis = wrapAxis(n.int('axis', -1), x!.rank)
    const axes = range(x!.rank - axis).map((i) => i + axis)
    const y = tf.mul(normalise(x!, axes, n.float('epsilon', 1e-5)), scale!)
    const { mean, variance } = tf.moments(x!, axes, true)
    return [bias ? tf.add(y, bias) : y, mean, tf.rsqrt(tf.add(variance, n.float('epsilon', 1e-5)))]
  },
  GroupNormalization([x, scale, bias], n) {
    const groups = n.int('num_groups', 1)
    const split = tf.reshape(x!, [x!.shape[0]!, groups, x!.size / (x!.shape[0]! * groups)])
    const xhat = tf.reshape(normalise(split, [2], n.float('epsilon', 1e-5)), x!.shape)
    return tf.add(tf.mul(xhat, perChannel(scale!, x!.rank)), perChannel(bias!, x!.rank))
  },
  MaxPool: ([x], n) => pool(x!, n, (w) => tf.max(w, 0), -1e6),
  AveragePool: ([x], n) =>
    pool(x!, n, (w, axes) => tf.div(tf.sum(w, 0), counts(axes, n.int('count_include_pad', 0) === 1))),
  LpPool: ([x], n) => pool(x!, n, (w) => norm(w, n.int('p', 2), [0], false)),
  GlobalAveragePool: ([x]) => tf.mean(x!, spatial(x!), true),
  GlobalMaxPool: ([x]) => tf.max(x!, spatial(x!), true),
  GlobalLpPool: ([x], n) => norm(x!, n.int('p', 2), spatial(x!), true),
  Resize([x, , scales, sizes], n) {
    const axes = n.ints('axes', range(x!.rank)).map((a) => wrapAxis(a, x!.rank))
    return axes.reduce((t, axis, k) => {
      const size = t.shape[axis]!
      const out = n.output.dims[axis]!
      const given = sizes ? null : ints(scales)![k]!
      if (out === size && (given === null || given === 1)) return t
      const m = tf.tensor2d(resizeMatrix(n, size, out, given ?? out / size), [size, out])
      const perm = [...range(t.rank).filter((i) => i !== axis), axis]
      const moved = tf.transpose(t, perm)
      const flat = tf.matMul(tf.reshape(moved, [t.size / size, size]), m)
      return tf.transpose(
        tf.reshape(flat, [...moved.shape.slice(0, -1), out]),
        range(t.rank).map((i) => perm.indexOf(i)),
      )
    }, x!)
  },
}
