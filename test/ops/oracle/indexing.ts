/** Operators that read or write by index: positions are computed in JavaScript, elements move by gathers. */
import type { Tensor as Tf } from '@tensorflow/tfjs-core'
import { tf } from '../tfjs.ts'
import type { OracleOp } from '../tfjs-oracle.ts'
import { ints, pickFlat, range, wrapAxis } from './shapes.ts'

const product = (a: readonly number[]): number => a.reduce((p, d) => p * d, 1)

/** Coordinates of flat position `at` in `dims`. */
function coordinates(at: number, dims: readonly number[]): number[] {
  const out: number[] = []
  for (let i = dims.length - 1, rest = at; i >= 0; i--) {
    out.unshift(rest % dims[i]!)
    rest = Math.floor(rest / dims[i]!)
  }
  return out
}
const flat = (at: readonly number[], dims: readonly number[]): number => dims.reduce((p, d, i) => p * d + at[i]!, 0)

/** For each element of `index`: the flat position in x whose coordinate along `axis` the element replaces. */
function alongAxis(x: Tf, index: Tf, axis: number): number[] {
  return ints(index)!.map((value, k) => {
    const at = coordinates(k, index.shape)
    at[axis] = wrapAxis(value, x.shape[axis]!)
    return flat(at, x.shape)
  })
}

/** For each index tuple: the flat positions of the slice of x that it names. */
function slicesAt(x: Tf, index: Tf, batch: number): number[] {
  const depth = index.shape.at(-1)!
  const list = ints(index)!
  const rest = product(x.shape.slice(batch + depth))
  return range(list.length / depth).flatMap((k) => {
    const lead = coordinates(k, index.shape.slice(0, -1)).slice(0, batch)
    const tuple = range(depth).map((i) => wrapAxis(list[k * depth + i]!, x.shape[batch + i]!))
    const start = flat([...lead, ...tuple], x.shape.slice(0, batch + depth)) * rest
    return range(rest).map((i) => start + i)
  })
}

/** x with updates written (or added) at flat positions. */
function write(x: Tf, at: readonly number[], updates: Tf, reduction: string): Tf {
  if (reduction !== 'none' && reduction !== 'add') throw new Error(`no oracle for reduction ${reduction}`)
  const hot = Array<number>(x.size * at.length).fill(0)
  for (const [k, position] of at.entries()) hot[position * at.length + k] = 1
  const spread = tf.matMul(tf.tensor2d(hot, [x.size, at.length]), tf.reshape(updates, [at.length, 1]))
  const keep = tf.tensor1d(range(x.size).map((i) => (reduction === 'none' && at.includes(i) ? 0 : 1)))
  return tf.reshape(tf.add(tf.mul(tf.reshape(x, [x.size]), keep), tf.reshape(spread, [x.size])), x.shape)
}

export const indexingOracle: Readonly<Record<string, OracleOp>> = {
  MaxUnpool([x, index], n) {
    const spatial = x!.shape
      .slice(2)
      .map((d, i) => (d - 1) * n.ints('strides', [])[i]! + n.ints('kernel_shape', [])[i]!)
    const dims = [x!.shape[0]!, x!.shape[1]!, ...spatial]
    const size = dims.reduce((p, d) => p * d, 1)
    const rows = tf.oneHot(tf.cast(tf.reshape(index!, [index!.size]), 'int32'), size)
    return tf.reshape(tf.matMul(tf.reshape(x!, [1, x!.size]), tf.cast(rows, 'float32')), dims)
  },
  ReverseSequence([x, lengths], n) {
    const [time, batch] = [n.int('time_axis', 0), n.int('batch_axis', 1)]
    const list = Array.from(lengths!.dataSync())
    const strides = x!.shape.map((_, i) => x!.shape.slice(i + 1).reduce((p, d) => p * d, 1))
    const from = Array.from({ length: x!.size }, (_, at) => {
      const position = (axis: number): number => Math.floor(at / strides[axis]!) % x!.shape[axis]!
      const [t, length] = [position(time), list[position(batch)]!]
      return t < length ? at + (length - 1 - 2 * t) * strides[time]! : at
    })
    return pickFlat(x!, from, [...x!.shape])
  },
  GatherElements: ([x, index], n) =>
    pickFlat(x!, alongAxis(x!, index!, wrapAxis(n.int('axis', 0), x!.rank)), index!.shape),
  GatherND([x, index], n) {
    const batch = n.int('batch_dims', 0)
    const dims = [...index!.shape.slice(0, -1), ...x!.shape.slice(batch + index!.shape.at(-1)!)]
    return pickFlat(x!, slicesAt(x!, index!, batch), dims)
  },
  ScatterElements: ([x, index, updates], n) =>
    write(x!, alongAxis(x!, index!, wrapAxis(n.int('axis', 0), x!.rank)), updates!, n.string('reduction', 'none')),
  ScatterND: ([x, index, updates], n) => write(x!, slicesAt(x!, index!, 0), updates!, n.string('reduction', 'none')),
  TopK([x, k], n) {
    const axis = wrapAxis(n.int('axis', -1), x!.rank)
    const largest = n.int('largest', 1) === 1
    const values = ints(x)!
    const count = ints(k)![0]!
    const dims = x!.shape.map((d, i) => (i === axis ? count : d))
    const at = range(product(dims)).map((p) => {
      const c = coordinates(p, dims)
      const row = range(x!.shape[axis]!).map((i) => flat(c.toSpliced(axis, 1, i), x!.shape))
      row.sort((a, b) => (largest ? values[b]! - values[a]! : values[a]! - values[b]!))
      return row[c[axis]!]!
    })
    const index = tf.tensor(
      at.map((p) => coordinates(p, x!.shape)[axis]!),
      dims,
      'int32',
    )
    return [pickFlat(x!, at, dims), index]
  },
}
