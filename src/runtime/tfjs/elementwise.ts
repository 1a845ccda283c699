/** Elementwise operators. */
import { elementTypeOf } from '../../graph/types.ts'
import {
  type Kernel,
  type KernelCall,
  type KernelTable,
  NotCovered,
  type Tf,
  type TfTensor,
  tfTypeOf,
} from './kernel.ts'

type Unary = (tf: Tf, x: TfTensor, call: KernelCall) => TfTensor
type Binary = (tf: Tf, a: TfTensor, b: TfTensor, call: KernelCall) => TfTensor

const one =
  (f: Unary): Kernel =>
  (c) =>
    f(c.tf, c.x[0]!, c)
const two =
  (f: Binary): Kernel =>
  (c) =>
    f(c.tf, c.x[0]!, c.x[1]!, c)
const many =
  (f: (tf: Tf, a: TfTensor, b: TfTensor) => TfTensor): Kernel =>
  (c) =>
    c.x.slice(1).reduce<TfTensor>((a, b) => f(c.tf, a, b!), c.x[0]!)

const isInt = (t: TfTensor): boolean => t.dtype === 'int32'
const float = (tf: Tf, t: TfTensor): TfTensor => tf.cast(t, 'float32')

/** Integers divide towards zero. */
function divide(tf: Tf, a: TfTensor, b: TfTensor): TfTensor {
  return isInt(a) && isInt(b) ? tf.cast(tf.div(float(tf, a), float(tf, b)), 'int32') : tf.div(a, b)
}

function modulo(tf: Tf, a: TfTensor, b: TfTensor, { node }: KernelCall): TfTensor {
  if (node.int('fmod', 0) === 0) return tf.mod(a, b)
  const q = tf.div(float(tf, a), float(tf, b))
  const whole = tf.mul(tf.sign(q), tf.floor(tf.abs(q)))
  return tf.cast(tf.sub(a, tf.mul(b, whole)), a.dtype)
}

function power(tf: Tf, a: TfTensor, b: TfTensor): TfTensor {
  return tf.cast(tf.pow(float(tf, a), float(tf, b)), a.dtype)
}

function cast(tf: Tf, x: TfTensor, to: number): TfTensor {
  const type = elementTypeOf(to)
  if (!type || ['float16', 'bfloat16', 'int8', 'uint8', 'int16', 'uint16'].includes(type))
    throw new NotCovered(`no cast to ${type}`)
  return tf.cast(x, tfTypeOf(type))
}

const softplus = (tf: Tf, x: TfTensor): TfTensor => tf.add(tf.relu(x), tf.log1p(tf.exp(tf.neg(tf.abs(x)))))

function clip({ tf, x: [x, low, high] }: KernelCall): TfTensor {
  const above = low ? tf.maximum(x!, low) : x!
  return high ? tf.minimum(above, high) : above
}

function shrink({ tf, node, x: [x] }: KernelCall): TfTensor {
  const [bias, lambd] = [node.float('bias', 0), node.float('lambd', 0.5)]
  const zero = tf.zerosLike(x!)
  const low = tf.where(tf.less(x!, -lambd), tf.add(x!, bias), zero)
  return tf.where(tf.greater(x!, lambd), tf.sub(x!, bias), low)
}

function gelu({ tf, node, x: [x] }: KernelCall): TfTensor {
  const inner =
    node.string('approximate', 'none') === 'none'
      ? tf.erf(tf.div(x!, Math.SQRT2))
      : tf.tanh(tf.mul(Math.sqrt(2 / Math.PI), tf.add(x!, tf.mul(0.044715, tf.mul(x!, tf.square(x!))))))
  return tf.mul(tf.mul(0.5, x!), tf.add(1, inner))
}

/** alpha (e^x - 1), x <= 0. */
const belowZero = (tf: Tf, x: TfTensor, alpha: number, inner = 1): TfTensor =>
  tf.mul(alpha, tf.expm1(tf.div(tf.minimum(x, 0), inner)))

export const elementwise: KernelTable = {
  Add: two((tf, a, b) => tf.add(a, b)),
  Sub: two((tf, a, b) => tf.sub(a, b)),
  Mul: two((tf, a, b) => tf.mul(a, b)),
  Div: two(divide),
  Mod: two(modulo),
  Pow: two(power),
  Sum: many((tf, a, b) => tf.add(a, b)),
  Mean: (c) =>
    c.tf.div(
      c.x.slice(1).reduce<TfTensor>((a, b) => c.tf.add(a, b!), c.x[0]!),
      c.x.length,
    ),
  Max: many((tf, a, b) => tf.maximum(a, b)),
  Min: many((tf, a, b) => tf.minimum(a, b)),
  Neg: one((tf, x) => tf.neg(x)),
  Abs: one((tf, x) => tf.abs(x)),
  Reciprocal: one((tf, x) => tf.reciprocal(x)),
  Sqrt: one((tf, x) => tf.sqrt(x)),
  Exp: one((tf, x) => tf.exp(x)),
  Log: one((tf, x) => tf.log(x)),
  Erf: one((tf, x) => tf.erf(x)),
  Sign: one((tf, x) => tf.sign(x)),
  Floor: one((tf, x) => tf.floor(x)),
  Ceil: one((tf, x) => tf.ceil(x)),
  Round: one((tf, x) => tf.round(x)),
  Sin: one((tf, x) => tf.sin(x)),
  Cos: one((tf, x) => tf.cos(x)),
  Tan: one((tf, x) => tf.tan(x)),
  Asin: one((tf, x) => tf.asin(x)),
  Acos: one((tf, x) => tf.acos(x)),
  Atan: one((tf, x) => tf.atan(x)),
  Sinh: one((tf, x) => tf.sinh(x)),
  Cosh: one((tf, x) => tf.cosh(x)),
  Tanh: one((tf, x) => tf.tanh(x)),
  Asinh: one((tf, x) => tf.asinh(x)),
  Acosh: one((tf, x) => tf.acosh(x)),
  Atanh: one((tf, x) => tf.atanh(x)),
  Equal: two((tf, a, b) => tf.equal(a, b)),
  Greater: two((tf, a, b) => tf.greater(a, b)),
  GreaterOrEqual: two((tf, a, b) => tf.greaterEqual(a, b)),
  Less: two((tf, a, b) => tf.less(a, b)),
  LessOrEqual: two((tf, a, b) => tf.lessEqual(a, b)),
  And: two((tf, a, b) => tf.logicalAnd(a, b)),
  Or: two((tf, a, b) => tf.logicalOr(a, b)),
  Xor: two((tf, a, b) => tf.notEqual(a, b)),
  Not: one((tf, x) => tf.logicalNot(x)),
  IsNaN: one((tf, x) => tf.isNaN(x)),
  IsInf(c) {
    const [high, low] = [c.node.int('detect_positive', 1), c.node.int('detect_negative', 1)]
    if (high === 1 && low === 1) return c.tf.isInf(c.x[0]!)
    return c.tf.equal(c.x[0]!, high === 1 ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY)
  },
  Where: ({ tf, x: [c, a, b] }) => tf.where(tf.cast(c!, 'bool'), a!, b!),
  Clip: clip,
  Relu: one((tf, x) => tf.relu(x)),
  LeakyRelu: one((tf, x, { node }) => tf.leakyRelu(x, node.float('alpha', 0.01))),
  PRelu: two((tf, x, a) => tf.add(tf.relu(x), tf.mul(a, tf.minimum(x, 0)))),
  ThresholdedRelu: one((tf, x, { node }) => tf.where(tf.greater(x, node.float('alpha', 1)), x, tf.zerosLike(x))),
  Elu: one((tf, x, { node }) => tf.add(tf.relu(x), belowZero(tf, x, node.float('alpha', 1)))),
  Selu: one((tf, x, { node }) => {
    const gamma = node.float('gamma', 1.0507009873554805)
    return tf.mul(gamma, tf.add(tf.relu(x), belowZero(tf, x, node.float('alpha', 1.6732632423543772))))
  }),
  Celu: one((tf, x, { node }) => {
    const alpha = node.float('alpha', 1)
    return tf.add(tf.relu(x), belowZero(tf, x, alpha, alpha))
  }),
  HardSigmoid: one((tf, x, { node }) =>
    tf.clipByValue(tf.add(tf.mul(x, node.float('alpha', 0.2)), node.float('beta', 0.5)), 0, 1),
  ),
  HardSwish: one((tf, x) => tf.mul(x, tf.clipByValue(tf.add(tf.mul(x, 1 / 6), 0.5), 0, 1))),
  Shrink: shrink,
  Sigmoid: one((tf, x) => tf.sigmoid(x)),
  Swish: one((tf, x, { node }) => tf.mul(x, tf.sigmoid(tf.mul(x, node.float('alpha', 1))))),
  Softplus: one(softplus),
  Softsign: one((tf, x) => tf.div(x, tf.add(tf.abs(x), 1))),
  Mish: one((tf, x) => tf.mul(x, tf.tanh(softplus(tf, x)))),
  Gelu: gelu,
  Identity: one((_tf, x) => x),
  Cast: one((tf, x, { node }) => cast(tf, x, node.int('to', 1))),
  CastLike: two((tf, x, like) => tf.cast(x, like.dtype)),
  Dropout({ tf, node, x: [x, , training] }) {
    if (training && node.input(2).constant?.item() !== 0) throw new NotCovered('draws random numbers')
    return [x!, tf.cast(tf.onesLike(x!), 'bool')]
  },
}
