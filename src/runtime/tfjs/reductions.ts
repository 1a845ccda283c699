/** Reductions, distributions along an axis, running sums. */
import {
  constantInts,
  type Kernel,
  type KernelCall,
  type KernelTable,
  type Tf,
  type TfTensor,
  wrapAxis,
} from './kernel.ts'

type Reducer = (tf: Tf, x: TfTensor, axes: number[] | undefined, keep: boolean) => TfTensor

const reduce =
  (f: Reducer): Kernel =>
  (c) => {
    const axes = constantInts(c, 1)
    const none = !axes || axes.length === 0
    if (none && c.node.int('noop_with_empty_axes', 0) === 1) return c.x[0]!
    return f(c.tf, c.x[0]!, none ? undefined : axes, c.node.int('keepdims', 1) === 1)
  }

/** x less its largest element along the axis: exponentials of it do not overflow. */
function shifted({ tf, node, x: [x] }: KernelCall): { d: TfTensor; axis: number } {
  const axis = wrapAxis(node.int('axis', -1), x!.rank)
  return { d: tf.sub(x!, tf.max(x!, axis, true)), axis }
}

const extreme =
  (largest: boolean): Kernel =>
  ({ tf, node, x: [x] }) => {
    const axis = wrapAxis(node.int('axis', 0), x!.rank)
    const last = node.int('select_last_index', 0) === 1
    const read = last ? tf.reverse(x!, axis) : x!
    const found = largest ? tf.argMax(read, axis) : tf.argMin(read, axis)
    const at = last ? tf.sub(tf.scalar(x!.shape[axis]! - 1, 'int32'), found) : found
    return node.int('keepdims', 1) === 1 ? tf.expandDims(at, axis) : at
  }

export const reductions: KernelTable = {
  ReduceSum: reduce((tf, x, axes, keep) => tf.sum(x, axes, keep)),
  ReduceMean: reduce((tf, x, axes, keep) => tf.mean(x, axes, keep)),
  ReduceMax: reduce((tf, x, axes, keep) => tf.max(x, axes, keep)),
  ReduceMin: reduce((tf, x, axes, keep) => tf.min(x, axes, keep)),
  ReduceProd: reduce((tf, x, axes, keep) => tf.prod(x, axes, keep)),
  ReduceL1: reduce((tf, x, axes, keep) => tf.sum(tf.abs(x), axes, keep)),
  ReduceL2: reduce((tf, x, axes, keep) => tf.sqrt(tf.sum(tf.square(x), axes, keep))),
  ReduceSumSquare: reduce((tf, x, axes, keep) => tf.sum(tf.square(x), axes, keep)),
  ReduceLogSum: reduce((tf, x, axes, keep) => tf.log(tf.sum(x, axes, keep))),
  ReduceLogSumExp: reduce((tf, x, axes, keep) => tf.logSumExp(x, axes, keep)),
  ArgMax: extreme(true),
  ArgMin: extreme(false),
  Softmax(c) {
    const { d, axis } = shifted(c)
    const e = c.tf.exp(d)
    return c.tf.div(e, c.tf.sum(e, axis, true))
  },
  LogSoftmax(c) {
    const { d, axis } = shifted(c)
    return c.tf.sub(d, c.tf.log(c.tf.sum(c.tf.exp(d), axis, true)))
  },
  Hardmax({ tf, node, x: [x] }) {
    const axis = wrapAxis(node.int('axis', -1), x!.rank)
    const hot = tf.oneHot(tf.cast(tf.argMax(x!, axis), 'int32'), x!.shape[axis]!)
    const perm = [...Array(x!.rank - 1).keys()]
    perm.splice(axis, 0, x!.rank - 1)
    return tf.cast(tf.transpose(hot, perm), 'float32')
  },
  LpNormalization({ tf, node, x: [x] }) {
    const axis = node.int('axis', -1)
    const one = node.int('p', 2) === 1
    return tf.div(x!, one ? tf.sum(tf.abs(x!), axis, true) : tf.sqrt(tf.sum(tf.square(x!), axis, true)))
  },
  CumSum(c) {
    const {
      tf,
      node,
      x: [x],
    } = c
    const axis = wrapAxis(constantInts(c, 1)![0]!, x!.rank)
    return tf.cumsum(x!, axis, node.int('exclusive', 0) === 1, node.int('reverse', 0) === 1)
  },
}
