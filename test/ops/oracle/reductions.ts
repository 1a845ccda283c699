/** Reductions, normalisations along an axis, running sums. */
import type { Tensor as Tf } from '@tensorflow/tfjs-core'
import type { Node } from '../../../src/graph/graph.ts'
import { tf } from '../tfjs.ts'
import type { OracleOp } from '../tfjs-oracle.ts'

type Reducer = (x: Tf, axes: number[] | undefined, keep: boolean) => Tf

const reduce =
  (f: Reducer): OracleOp =>
  ([x, axes], node: Node) => {
    const list = axes && axes.size > 0 ? Array.from(axes.dataSync()) : undefined
    if (!list && node.int('noop_with_empty_axes', 0) === 1) return tf.mul(x!, 1)
    return f(x!, list, node.int('keepdims', 1) === 1)
  }

export const reductionOracle: Readonly<Record<string, OracleOp>> = {
  ReduceSum: reduce(tf.sum),
  ReduceMean: reduce(tf.mean),
  ReduceMax: reduce(tf.max),
  ReduceMin: reduce(tf.min),
  ReduceProd: reduce((x, axes, keep) => {
    // tf.prod's own gradient takes dy in the wrong shape where several axes go; one axis at a time is right
    const all = (axes ?? x.shape.map((_, i) => i)).map((a) => (a < 0 ? a + x.rank : a)).sort((a, b) => b - a)
    return all.reduce((t, a) => tf.prod(t, a, keep), x)
  }),
  ReduceL1: reduce((x, axes, keep) => tf.sum(tf.abs(x), axes, keep)),
  ReduceL2: reduce((x, axes, keep) => tf.sqrt(tf.sum(tf.square(x), axes, keep))),
  ReduceSumSquare: reduce((x, axes, keep) => tf.sum(tf.square(x), axes, keep)),
  ReduceLogSum: reduce((x, axes, keep) => tf.log(tf.sum(x, axes, keep))),
  ReduceLogSumExp: reduce((x, axes, keep) => tf.log(tf.sum(tf.exp(x), axes, keep))),
  Softmax([x], n) {
    const e = tf.exp(x!)
    return tf.div(e, tf.sum(e, n.int('axis', -1), true))
  },
  LogSoftmax: ([x], n) => tf.sub(x!, tf.log(tf.sum(tf.exp(x!), n.int('axis', -1), true))),
  LpNormalization([x], n) {
    const axis = n.int('axis', -1)
    const size = n.int('p', 2) === 1 ? tf.sum(tf.abs(x!), axis, true) : tf.sqrt(tf.sum(tf.square(x!), axis, true))
    return tf.div(x!, size)
  },
  CumSum([x, axis], n) {
    // the gradient of tf.cumsum is right along the last axis only
    const a = (axis!.dataSync()[0]! + x!.rank) % x!.rank
    const perm = x!.shape.map((_, i) => i).filter((i) => i !== a)
    perm.push(a)
    const y = tf.cumsum(tf.transpose(x!, perm), x!.rank - 1, n.int('exclusive', 0) === 1, n.int('reverse', 0) === 1)
    return tf.transpose(
      y,
      perm.map((_, i) => perm.indexOf(i)),
    )
  },
}
