/** Operators that move elements by positions that follow from the shapes. */
import {
  constantInts,
  type KernelCall,
  type KernelTable,
  NotCovered,
  product,
  range,
  type Tf,
  type TfTensor,
  take,
  wrapAxis,
} from './kernel.ts'
import { toDevice } from './values.ts'

function reshape(c: KernelCall): TfTensor {
  const {
    tf,
    node,
    x: [x],
  } = c
  const keepZero = node.int('allowzero', 0) === 1
  return tf.reshape(
    x!,
    constantInts(c, 1)!.map((d, i) => (d === 0 && !keepZero ? x!.shape[i]! : d)),
  )
}

function slice(c: KernelCall): TfTensor {
  const {
    tf,
    x: [x],
  } = c
  const [starts, ends] = [constantInts(c, 1)!, constantInts(c, 2)!]
  const axes = (constantInts(c, 3) ?? range(starts.length)).map((a) => wrapAxis(a, x!.rank))
  const steps = constantInts(c, 4) ?? starts.map(() => 1)
  const at = (v: number, size: number): number => (v < 0 ? v + size : v)
  const begin = x!.shape.map(() => 0)
  const size = [...x!.shape]
  const rest: [number, number[]][] = []
  axes.forEach((axis, i) => {
    const n = x!.shape[axis]!
    const step = steps[i]!
    if (step > 0) {
      const first = Math.min(Math.max(at(starts[i]!, n), 0), n)
      const last = Math.min(Math.max(at(ends[i]!, n), 0), n)
      begin[axis] = first
      size[axis] = Math.max(0, last - first)
      if (step !== 1) rest.push([axis, range(Math.ceil(size[axis]! / step)).map((k) => k * step)])
      return
    }
    const first = Math.min(Math.max(at(starts[i]!, n), -1), n - 1)
    const last = Math.min(Math.max(at(ends[i]!, n), -1), n - 1)
    rest.push([axis, range(Math.max(0, Math.ceil((first - last) / -step))).map((k) => first + k * step)])
  })
  return rest.reduce((t, [axis, index]) => take(tf, t, axis, index), tf.slice(x!, begin, size))
}

/** Where position `at` outside [0, n) reads from. */
function padSource(at: number, n: number, mode: string): number {
  if (mode === 'edge') return Math.min(Math.max(at, 0), n - 1)
  if (mode === 'wrap') return ((at % n) + n) % n
  const period = Math.max(1, 2 * (n - 1))
  const m = ((at % period) + period) % period
  return m < n ? m : period - m
}

function pad(c: KernelCall): TfTensor {
  const {
    tf,
    node,
    x: [x],
  } = c
  const given = constantInts(c, 1)!
  const axes = (constantInts(c, 3) ?? range(x!.rank)).map((a) => wrapAxis(a, x!.rank))
  const before = x!.shape.map(() => 0)
  const after = x!.shape.map(() => 0)
  axes.forEach((axis, i) => {
    before[axis] = given[i]!
    after[axis] = given[i + axes.length]!
  })
  const mode = node.string('mode', 'constant')
  if (mode !== 'constant')
    return axes.reduce((t, axis) => {
      const n = x!.shape[axis]!
      const index = range(n + before[axis]! + after[axis]!).map((i) => padSource(i - before[axis]!, n, mode))
      return take(tf, t, axis, index)
    }, x!)
  const cropped = tf.slice(
    x!,
    before.map((p) => Math.max(0, -p)),
    x!.shape.map((d, i) => d + Math.min(0, before[i]!) + Math.min(0, after[i]!)),
  )
  const value = node.inputs[2] ? constantInts(c, 2)![0]! : 0
  return padded(tf, cropped, before, after, value)
}

/** Constant padding; negative pads count as none. */
export function padded(tf: Tf, x: TfTensor, before: readonly number[], after: readonly number[], value = 0): TfTensor {
  if ([...before, ...after].every((p) => p <= 0)) return x
  return tf.pad(
    x,
    before.map((p, i): [number, number] => [Math.max(0, p), Math.max(0, after[i]!)]),
    value,
  )
}

function split(c: KernelCall): TfTensor[] {
  const {
    tf,
    node,
    x: [x],
  } = c
  const axis = wrapAxis(node.int('axis', 0), x!.rank)
  const count = node.outputs.length
  const n = x!.shape[axis]!
  const each = Math.ceil(n / count)
  const sizes = constantInts(c, 1) ?? range(count).map((i) => Math.min(each, n - i * each))
  return tf.split(x!, sizes, axis)
}

function expand(c: KernelCall): TfTensor {
  const {
    tf,
    x: [x],
  } = c
  return tf.broadcastTo(x!, tf.backend_util.assertAndGetBroadcastShape(x!.shape, constantInts(c, 1)!))
}

function trilu(c: KernelCall): TfTensor {
  const {
    tf,
    node,
    x: [x],
  } = c
  const k = constantInts(c, 1)?.[0] ?? 0
  const [rows, columns] = x!.shape.slice(-2) as [number, number]
  const upper = node.int('upper', 1) === 1
  const keep = range(rows).flatMap((r) => range(columns).map((j) => ((upper ? j - r >= k : j - r <= k) ? 1 : 0)))
  return tf.mul(x!, tf.tensor2d(keep, [rows, columns], x!.dtype as 'float32'))
}

export const shapes: KernelTable = {
  Reshape: reshape,
  Flatten({ tf, node, x: [x] }) {
    const axis = wrapAxis(node.int('axis', 1), x!.rank)
    return tf.reshape(x!, [product(x!.shape.slice(0, axis)), product(x!.shape.slice(axis))])
  },
  Squeeze(c) {
    const {
      tf,
      x: [x],
    } = c
    const axes = constantInts(c, 1)?.map((a) => wrapAxis(a, x!.rank))
    return tf.reshape(
      x!,
      x!.shape.filter((d, i) => (axes ? !axes.includes(i) : d !== 1)),
    )
  },
  Unsqueeze(c) {
    const {
      tf,
      x: [x],
    } = c
    const axes = constantInts(c, 1)!
    const rank = x!.rank + axes.length
    const at = axes.map((a) => wrapAxis(a, rank))
    const rest = [...x!.shape]
    return tf.reshape(
      x!,
      range(rank).map((i) => (at.includes(i) ? 1 : rest.shift()!)),
    )
  },
  Transpose: ({ tf, node, x: [x] }) => tf.transpose(x!, [...node.ints('perm', range(x!.rank).reverse())]),
  Expand: expand,
  Tile: (c) => c.tf.tile(c.x[0]!, constantInts(c, 1)!),
  Concat: ({ tf, node, x }) => tf.concat(x as TfTensor[], wrapAxis(node.int('axis', 0), x[0]!.rank)),
  Split: split,
  Slice: slice,
  Pad: pad,
  Trilu: trilu,
  DepthToSpace({ tf, node, x: [x] }) {
    const block = node.int('blocksize', 1)
    const [n, c, h, w] = x!.shape as [number, number, number, number]
    const out = c / (block * block)
    const [dims, perm] =
      node.string('mode', 'DCR') === 'DCR'
        ? [
            [n, block, block, out, h, w],
            [0, 3, 4, 1, 5, 2],
          ]
        : [
            [n, out, block, block, h, w],
            [0, 1, 4, 2, 5, 3],
          ]
    return tf.reshape(tf.transpose(tf.reshape(x!, dims), perm), [n, out, h * block, w * block])
  },
  SpaceToDepth({ tf, node, x: [x] }) {
    const block = node.int('blocksize', 1)
    const [n, c, h, w] = x!.shape as [number, number, number, number]
    const parts = tf.reshape(x!, [n, c, h / block, block, w / block, block])
    return tf.reshape(tf.transpose(parts, [0, 3, 5, 1, 2, 4]), [n, c * block * block, h / block, w / block])
  },
  Shape({ tf, node, x: [x] }) {
    return tf.tensor1d(x!.shape.slice(node.int('start', 0), node.int('end', x!.rank)), 'int32')
  },
  Size: ({ tf, x: [x] }) => tf.scalar(x!.size, 'int32'),
  Constant({ tf, node }) {
    const value = node.tensor('value')
    if (!value) throw new NotCovered('not given as a tensor')
    return toDevice(tf, value, node.id)
  },
  ConstantOfShape(c) {
    const value = c.node.tensor('value')
    if (value && value.type !== 'float32') throw new NotCovered(`fills with ${value.type}`)
    return c.tf.fill(constantInts(c, 0)!, value?.item() ?? 0)
  },
}
