/**
 * Operators that read or write by computed index. All are reduced to flat positions: the part of a position that follows
 * from shapes is computed here, the part that follows from indices is added on the device.
 */
import {
  type KernelCall,
  type KernelTable,
  NotCovered,
  product,
  range,
  type Tf,
  type TfTensor,
  wrapAxis,
} from './kernel.ts'

const strides = (dims: readonly number[]): number[] => dims.map((_, i) => product(dims.slice(i + 1)))
const int = (tf: Tf, v: number): TfTensor => tf.scalar(v, 'int32')

/** Negative indices count from the end. */
const wrapped = (tf: Tf, index: TfTensor, n: number): TfTensor =>
  tf.where(tf.less(index, int(tf, 0)), tf.add(index, int(tf, n)), index)

/** For each element of `index`, the flat position in x whose coordinate along `axis` the element replaces. */
function alongAxis({ tf, node }: KernelCall, x: TfTensor, index: TfTensor): TfTensor {
  const axis = wrapAxis(node.int('axis', 0), x.rank)
  const step = strides(x.shape)
  const own = strides(index.shape)
  const base = Int32Array.from({ length: index.size }, (_, k) => {
    let at = 0
    for (let i = 0; i < index.rank; i++) if (i !== axis) at += (Math.floor(k / own[i]!) % index.shape[i]!) * step[i]!
    return at
  })
  const moved = tf.mul(wrapped(tf, tf.cast(index, 'int32'), x.shape[axis]!), int(tf, step[axis]!))
  return tf.add(tf.tensor(base, index.shape, 'int32'), moved)
}

/** For each index tuple, the flat positions of the slice of x that it names: [tuples, elements of a slice]. */
function slicesAt(tf: Tf, x: TfTensor, index: TfTensor, batch: number): TfTensor {
  const depth = index.shape.at(-1)!
  const tuples = index.size / depth
  const step = strides(x.shape)
  const flat = tf.reshape(tf.cast(index, 'int32'), [tuples, depth])
  const perBatch = tuples / product(x.shape.slice(0, batch))
  const base = Int32Array.from({ length: tuples }, (_, k) => Math.floor(k / perBatch) * product(x.shape.slice(batch)))
  let at: TfTensor = tf.tensor(base, [tuples, 1], 'int32')
  for (let i = 0; i < depth; i++) {
    const column = tf.slice(flat, [0, i], [tuples, 1])
    at = tf.add(at, tf.mul(wrapped(tf, column, x.shape[batch + i]!), int(tf, step[batch + i]!)))
  }
  const rest = product(x.shape.slice(batch + depth))
  return tf.add(at, tf.tensor(Int32Array.from(range(rest)), [1, rest], 'int32'))
}

const readFlat = (tf: Tf, x: TfTensor, at: TfTensor, dims: number[]): TfTensor =>
  tf.reshape(tf.gather(tf.reshape(x, [x.size]), tf.reshape(at, [at.size])), dims)

/** x with `updates` written or added at flat positions. */
function write({ tf, node }: KernelCall, x: TfTensor, at: TfTensor, updates: TfTensor): TfTensor {
  const reduction = node.string('reduction', 'none')
  const where = tf.reshape(at, [at.size, 1])
  const values = tf.reshape(updates, [updates.size])
  const flat = tf.reshape(x, [x.size])
  if (reduction === 'add') return tf.reshape(tf.add(flat, tf.scatterND(where, values, [x.size])), x.shape)
  if (reduction !== 'none') throw new NotCovered(`reduction ${reduction}`)
  // not tensorScatterUpdate: its CPU kernel writes into the tensor that it is given
  const hits = tf.scatterND(where, tf.onesLike(values), [x.size])
  return tf.reshape(tf.where(tf.greater(hits, 0), tf.scatterND(where, values, [x.size]), flat), x.shape)
}

export const indexing: KernelTable = {
  Gather({ tf, node, x: [x, index] }) {
    const axis = wrapAxis(node.int('axis', 0), x!.rank)
    const at = wrapped(tf, tf.cast(tf.reshape(index!, [index!.size]), 'int32'), x!.shape[axis]!)
    const dims = [...x!.shape.slice(0, axis), ...index!.shape, ...x!.shape.slice(axis + 1)]
    return tf.reshape(tf.gather(x!, at, axis), dims)
  },
  GatherElements(c) {
    const [x, index] = c.x as [TfTensor, TfTensor]
    return readFlat(c.tf, x, alongAxis(c, x, index), index.shape)
  },
  GatherND({ tf, node, x: [x, index] }) {
    const batch = node.int('batch_dims', 0)
    const dims = [...index!.shape.slice(0, -1), ...x!.shape.slice(batch + index!.shape.at(-1)!)]
    return readFlat(tf, x!, slicesAt(tf, x!, index!, batch), dims)
  },
  ScatterElements(c) {
    const [x, index, updates] = c.x as [TfTensor, TfTensor, TfTensor]
    return write(c, x, alongAxis(c, x, index), updates)
  },
  ScatterND(c) {
    const [x, index, updates] = c.x as [TfTensor, TfTensor, TfTensor]
    return write(c, x, slicesAt(c.tf, x, index, 0), updates)
  },
}
