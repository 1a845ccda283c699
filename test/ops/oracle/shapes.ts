/** Operators that move elements. Most are one gather: output positions say which input position they read. */
import type { Tensor as Tf } from '@tensorflow/tfjs-core'
import { tf } from '../tfjs.ts'
import type { OracleOp } from '../tfjs-oracle.ts'

export const ints = (t: Tf | undefined): number[] | null => (t ? Array.from(t.dataSync()) : null)
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
export const wrapAxis = (a: number, rank: number): number => (a < 0 ? a + rank : a)
const product = (a: readonly number[]): number => a.reduce((p, d) => p * d, 1)

/** Takes `index` along an axis; -1 is a zero. */
export function pick(x: Tf, axis: number, index: readonly number[]): Tf {
  const zeros = tf.zeros(x.shape.map((d, i) => (i === axis ? 1 : d)))
  const extended = tf.concat([x, zeros], axis)
  const size = x.shape[axis]!
  return tf.gather(
    extended,
    tf.tensor1d(
      index.map((i) => (i < 0 || i >= size ? size : i)),
      'int32',
    ),
    axis,
  )
}

/** Elements of x by flat position; -1 is a zero. */
export const pickFlat = (x: Tf, index: readonly number[], dims: number[]): Tf =>
  tf.reshape(pick(tf.reshape(x, [x.size]), 0, index), dims)

/** Where position `at` outside [0, n) reads from, by Pad's mode. */
function padSource(at: number, n: number, mode: string): number {
  if (at >= 0 && at < n) return at
  if (mode === 'edge') return at < 0 ? 0 : n - 1
  if (mode === 'wrap') return ((at % n) + n) % n
  if (mode === 'reflect') {
    const period = 2 * (n - 1)
    const m = period === 0 ? 0 : ((at % period) + period) % period
    return m < n ? m : period - m
  }
  return -1
}

const shapeTensor = (dims: readonly number[]): Tf => tf.tensor1d([...dims], 'int32')

export const shapeOracle: Readonly<Record<string, OracleOp>> = {
  Reshape([x, shape], n) {
    const wanted = ints(shape)!.map((d, i) => (d === 0 && n.int('allowzero', 0) === 0 ? x!.shape[i]! : d))
    return tf.reshape(x!, wanted)
  },
  Flatten([x], n) {
    const axis = wrapAxis(n.int('axis', 1), x!.rank)
    return tf.reshape(x!, [product(x!.shape.slice(0, axis)), product(x!.shape.slice(axis))])
  },
  Squeeze([x, axes]) {
    const list = ints(axes)?.map((a) => wrapAxis(a, x!.rank))
    return tf.reshape(
      x!,
      x!.shape.filter((d, i) => (list ? !list.includes(i) : d !== 1)),
    )
  },
  Unsqueeze([x, axes]) {
    const list = ints(axes)!
    const rank = x!.rank + list.length
    const at = list.map((a) => wrapAxis(a, rank))
    const rest = [...x!.shape]
    return tf.reshape(
      x!,
      range(rank).map((i) => (at.includes(i) ? 1 : rest.shift()!)),
    )
  },
  Transpose: ([x], n) =>
    tf.transpose(x!, [
      ...n.ints(
        'perm',
        range(x!.rank).map((i) => x!.rank - 1 - i),
      ),
    ]),
  Expand: ([x, shape]) => tf.mul(x!, tf.ones(ints(shape)!)),
  Tile: ([x, repeats]) => tf.tile(x!, ints(repeats)!),
  Concat: (x, n) => tf.concat([...x], wrapAxis(n.int('axis', 0), x[0]!.rank)),
  Split([x, split], n) {
    const axis = wrapAxis(n.int('axis', 0), x!.rank)
    const size = x!.shape[axis]!
    const parts = n.outputs.length
    const chunk = Math.ceil(size / parts)
    const sizes = ints(split) ?? range(parts).map((i) => Math.min(chunk, size - i * chunk))
    let start = 0
    return sizes.map((length) => {
      const index = range(length).map((i) => start + i)
      start += length
      return pick(x!, axis, index)
    })
  },
  Slice([x, starts, ends, axes, steps]) {
    const from = ints(starts)!
    const to = ints(ends)!
    const along = ints(axes) ?? range(from.length)
    const by = ints(steps) ?? from.map(() => 1)
    return along.reduce((t, a, k) => {
      const axis = wrapAxis(a, t.rank)
      const n = t.shape[axis]!
      const step = by[k]!
      const clamp = (v: number, low: number, high: number): number => Math.min(Math.max(v < 0 ? v + n : v, low), high)
      const [low, high] = step > 0 ? [0, n] : [-1, n - 1]
      const start = clamp(from[k]!, Math.max(low, 0), high)
      const end = clamp(to[k]!, low, high)
      const index: number[] = []
      for (let i = start; step > 0 ? i < end : i > end; i += step) index.push(i)
      return pick(t, axis, index)
    }, x!)
  },
  Pad([x, pads, value, axes], n) {
    const mode = n.string('mode', 'constant')
    const list = ints(pads)!
    const along = (ints(axes) ?? range(x!.rank)).map((a) => wrapAxis(a, x!.rank))
    const indexOf = (axis: number): number[] => {
      const k = along.indexOf(axis)
      const size = x!.shape[axis]!
      if (k < 0) return range(size)
      const [before, after] = [list[k]!, list[k + along.length]!]
      return range(size + before + after).map((i) => padSource(i - before, size, mode))
    }
    const move = (t: Tf): Tf => range(x!.rank).reduce((u, axis) => pick(u, axis, indexOf(axis)), t)
    const moved = move(x!)
    return value ? tf.add(moved, tf.mul(value, tf.sub(1, move(tf.onesLike(x!))))) : moved
  },
  Trilu([x, k], n) {
    const shift = ints(k)?.[0] ?? 0
    const [rows, columns] = x!.shape.slice(-2) as [number, number]
    const keep = (i: number, j: number): boolean => (n.int('upper', 1) === 1 ? j >= i + shift : j <= i + shift)
    const mask = range(rows).map((i) => range(columns).map((j) => (keep(i, j) ? 1 : 0)))
    return tf.mul(x!, tf.tensor2d(mask))
  },
  Shape([x], n) {
    const rank = x!.rank
    return shapeTensor(x!.shape.slice(n.int('start', 0), n.int('end', rank)))
  },
  ConstantOfShape: ([shape], n) => tf.fill(ints(shape)!, n.tensor('value')?.item() ?? 0),
  Gather([x, index], n) {
    const axis = wrapAxis(n.int('axis', 0), x!.rank)
    const list = ints(index)!.map((i) => wrapAxis(i, x!.shape[axis]!))
    const dims = [...x!.shape.slice(0, axis), ...index!.shape, ...x!.shape.slice(axis + 1)]
    return tf.reshape(pick(x!, axis, list), dims)
  },
  DepthToSpace([x], n) {
    const block = n.int('blocksize', 1)
    const [batch, c, h, w] = x!.shape as [number, number, number, number]
    const out = c / (block * block)
    if (n.string('mode', 'DCR') === 'DCR') {
      const t = tf.transpose(tf.reshape(x!, [batch, block, block, out, h, w]), [0, 3, 4, 1, 5, 2])
      return tf.reshape(t, [batch, out, h * block, w * block])
    }
    const t = tf.transpose(tf.reshape(x!, [batch, out, block, block, h, w]), [0, 1, 4, 2, 5, 3])
    return tf.reshape(t, [batch, out, h * block, w * block])
  },
  SpaceToDepth([x], n) {
    const block = n.int('blocksize', 1)
    const [batch, c, h, w] = x!.shape as [number, number, number, number]
    const t = tf.transpose(tf.reshape(x!, [batch, c, h / block, block, w / block, block]), [0, 3, 5, 1, 2, 4])
    return tf.reshape(t, [batch, c * block * block, h / block, w / block])
  },
}
