/** Elementwise operators. */
import type { Tensor as Tf } from '@tensorflow/tfjs-core'
import { type ElementType, elementTypeOf } from '../../../src/graph/types.ts'
import { tf } from '../tfjs.ts'
import type { OracleOp } from '../tfjs-oracle.ts'

const one =
  (f: (x: Tf) => Tf): OracleOp =>
  ([x]) =>
    f(x!)
const two =
  (f: (a: Tf, b: Tf) => Tf): OracleOp =>
  ([a, b]) =>
    f(a!, b!)
const many =
  (f: (a: Tf, b: Tf) => Tf): OracleOp =>
  (x) =>
    x.length === 1 ? tf.mul(x[0]!, 1) : x.reduce(f)
const s = (value: number): Tf => tf.scalar(value, 'float32')
/** where with broadcasting of all three; the condition is taken off the tape. */
const choose = (c: Tf, a: Tf, b: Tf): Tf => {
  const m = tf.tensor(Array.from(c.dataSync()), c.shape, 'float32')
  return tf.add(tf.mul(m, a), tf.mul(tf.sub(1, m), b))
}
/** Both spread to one shape first: the gradients of tf.maximum and tf.minimum do not sum broadcasting back. */
const spread =
  (f: (a: Tf, b: Tf) => Tf) =>
  (a: Tf, b: Tf): Tf =>
    f(tf.add(a, tf.zerosLike(b)), tf.add(b, tf.zerosLike(a)))
const maximum = spread(tf.maximum)
const minimum = spread(tf.minimum)
const float = (x: Tf): Tf => tf.cast(x, 'float32')
const softplus = (x: Tf): Tf => tf.log(tf.add(tf.exp(x), 1))
const phi = (x: Tf): Tf => tf.mul(0.5, tf.add(1, tf.erf(tf.div(x, Math.SQRT2))))

const tfTypeOf = (type: ElementType | undefined): 'float32' | 'int32' | 'bool' =>
  type?.startsWith('float') ? 'float32' : type === 'bool' ? 'bool' : 'int32'

export const elementwiseOracle: Readonly<Record<string, OracleOp>> = {
  // taken off the tape: a comparison has no gradient, and tfjs knows none
  Equal([a, b]) {
    const same = tf.equal(a!, b!)
    return tf.tensor(Array.from(same.dataSync()), same.shape, 'bool')
  },
  Not: ([a]) => tf.logicalNot(a!),
  Floor: ([x]) => tf.floor(x!),
  Round: ([x]) => tf.round(x!),
  Add: two(tf.add),
  Sub: two(tf.sub),
  Mul: two(tf.mul),
  Div: two(tf.div),
  // fmod keeps the dividend's sign
  Mod: two((a, b) =>
    a.dtype === 'int32'
      ? tf.mod(a, b)
      : tf.sub(a, tf.mul(b, tf.mul(tf.sign(tf.div(a, b)), tf.floor(tf.abs(tf.div(a, b)))))),
  ),
  Sum: many(tf.add),
  Mean: (x, node) => tf.div(many(tf.add)(x, node) as Tf, x.length),
  Max: many(maximum),
  Min: many(minimum),
  Pow: two((a, b) => tf.pow(a, float(b))),
  Neg: one(tf.neg),
  Abs: one(tf.abs),
  Reciprocal: one(tf.reciprocal),
  Sqrt: one(tf.sqrt),
  Exp: one(tf.exp),
  Log: one(tf.log),
  Erf: one(tf.erf),
  Sin: one(tf.sin),
  Cos: one(tf.cos),
  Tan: one(tf.tan),
  Asin: one(tf.asin),
  Acos: one(tf.acos),
  Atan: one(tf.atan),
  Sinh: one(tf.sinh),
  Cosh: one(tf.cosh),
  Tanh: one(tf.tanh),
  Asinh: one(tf.asinh),
  Acosh: one(tf.acosh),
  Atanh: one(tf.atanh),
  Where: ([c, a, b]) => choose(c!, a!, b!),
  Clip([x, low, high]) {
    const above = low ? maximum(x!, low) : x!
    return high ? minimum(above, high) : tf.mul(above, 1)
  },
  Relu: one(tf.relu),
  LeakyRelu: ([x], n) => tf.leakyRelu(x!, n.float('alpha', 0.01)),
  PRelu: two((x, a) => tf.add(tf.relu(x), tf.mul(a, tf.minimum(x, 0)))),
  ThresholdedRelu: ([x], n) => choose(tf.greater(x!, n.float('alpha', 1)), x!, s(0)),
  Elu: ([x], n) => tf.add(tf.relu(x!), tf.mul(n.float('alpha', 1), tf.sub(tf.exp(tf.minimum(x!, 0)), 1))),
  Selu: one(tf.selu),
  Celu([x], n) {
    const alpha = n.float('alpha', 1)
    const below = tf.mul(alpha, tf.sub(tf.exp(tf.div(x!, alpha)), 1))
    return tf.add(tf.maximum(0, x!), tf.minimum(0, below))
  },
  HardSigmoid: ([x], n) => tf.clipByValue(tf.add(tf.mul(x!, n.float('alpha', 0.2)), n.float('beta', 0.5)), 0, 1),
  HardSwish: one((x) => tf.mul(x, tf.clipByValue(tf.add(tf.div(x, 6), 0.5), 0, 1))),
  Shrink([x], n) {
    const [bias, lambd] = [n.float('bias', 0), n.float('lambd', 0.5)]
    const low = choose(tf.less(x!, -lambd), tf.add(x!, bias), s(0))
    return tf.add(low, choose(tf.greater(x!, lambd), tf.sub(x!, bias), s(0)))
  },
  Sigmoid: one(tf.sigmoid),
  Swish: ([x], n) => tf.mul(x!, tf.sigmoid(tf.mul(n.float('alpha', 1), x!))),
  QuickGelu: ([x], n) => tf.mul(x!, tf.sigmoid(tf.mul(n.float('alpha', 1.702), x!))),
  Softplus: one(softplus),
  Softsign: one((x) => tf.div(x, tf.add(1, tf.abs(x)))),
  Mish: one((x) => tf.mul(x, tf.tanh(softplus(x)))),
  Gelu([x], n) {
    if (n.string('approximate', 'none') === 'none') return tf.mul(x!, phi(x!))
    const inner = tf.mul(Math.sqrt(2 / Math.PI), tf.add(x!, tf.mul(0.044715, tf.pow(x!, 3))))
    return tf.mul(tf.mul(0.5, x!), tf.add(1, tf.tanh(inner)))
  },
  Identity: one((x) => tf.mul(x, 1)),
  Cast: ([x], n) => tf.cast(tf.mul(x!, 1), tfTypeOf(elementTypeOf(n.int('to', 1)))),
  CastLike: ([x, like]) => tf.cast(tf.mul(x!, 1), like!.dtype),
  Dropout: one((x) => tf.mul(x, 1)),
}
