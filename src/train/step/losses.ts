/**
 * Losses as nodes. Each gives a scalar that does not grow with the batch, with positions (pixels, tokens, anchors) or with
 * the elements of an output: a mean over them. s and t are the student's and the teacher's values; of a distribution
 * p = softmax(t / T) and q = softmax(s / T) along the axis of its classes, T the temperature.
 *
 *   ce          -sum y log q                       (T = 1; y one-hot, of labels smoothed by --label-smoothing)
 *   kl          T^2 sum p (log p - log q)          Hinton et al. 2015
 *   reverse-kl  T^2 sum q (log q - log p)          what the MicroNet entry calls KL
 *   mse         mean over elements of (s - t)^2
 *   nmse        mse / var(t): 1 where the student always gives the teacher's mean (teacher-variance.ts)
 *   l1          mean over elements of |s - t|
 *   others      the user's own (../losses.ts)
 *
 * Which output has which loss: objectives.ts.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementCount, elementTypes } from '../../graph/types.ts'
import { type LossName, ownLoss } from '../losses.ts'

export type { LossName }

/** Losses over a distribution of classes; the others compare outputs of any shape. */
export const needsClasses = (loss: LossName): loss is 'ce' | 'kl' | 'reverse-kl' =>
  loss === 'ce' || loss === 'kl' || loss === 'reverse-kl'

/** A distribution's classes and how many positions have one. */
export interface Classes {
  readonly axis: number
  readonly count: number
  readonly positions: number
  readonly rank: number
}

export function classesOf(dims: readonly number[], axis: number): Classes {
  const count = dims[axis]!
  return { axis, count, positions: elementCount(dims) / count, rank: dims.length }
}

// the last axis is written as -1: such graphs stay byte-identical
const logSoftmax = (b: Builder, x: Value, { axis, rank }: Classes): Value =>
  b.op('LogSoftmax', [x], { axis: axis === rank - 1 ? -1 : axis })

/** Summed over the classes, the mean over positions. */
const positionMean = (b: Builder, perElement: Value, { positions }: Classes): Value => {
  const sum = b.op('ReduceSum', [perElement], { keepdims: 0 })
  return b.op('Mul', [sum, b.scalar(1 / positions)])
}

const elementMean = (b: Builder, x: Value): Value => b.op('ReduceMean', [x], { keepdims: 0 })

export function crossEntropy(b: Builder, logits: Value, targets: Value, classes: Classes): Value {
  return b.op('Neg', [positionMean(b, b.op('Mul', [targets, logSoftmax(b, logits, classes)]), classes)])
}

/** Of classes by number, one for each position; positions of negative ones do not count. */
export function indexedCrossEntropy(b: Builder, logits: Value, index: Value, classes: Classes): Value {
  const known = b.op('Cast', [b.op('Greater', [index, b.scalar(-1, 'int64')])], { to: elementTypes.float32.code })
  const ends = Tensor.float32([2], Float32Array.of(0, 1))
  const picked = b.op('OneHot', [index, b.scalar(classes.count, 'int64'), b.shared('const_zero_one', ends)], {
    axis: classes.axis,
  })
  const axes = b.ints([classes.axis])
  const own = b.op('ReduceSum', [b.op('Mul', [picked, logSoftmax(b, logits, classes)]), axes], { keepdims: 0 })
  const sum = b.op('ReduceSum', [b.op('Mul', [own, known])], { keepdims: 0 })
  const count = b.op('Max', [b.op('ReduceSum', [known], { keepdims: 0 }), b.scalar(1)])
  return b.op('Neg', [b.op('Div', [sum, count])])
}

/**
 * How undecided the teacher is at that temperature: the mean entropy of its distributions, as a fraction of log(classes).
 * 0 where each is one class, 1 where all classes are equally likely.
 */
export function teacherEntropy(b: Builder, teacher: Value, classes: Classes, temperature: number): Value {
  const logP = logSoftmax(b, cooled(b, teacher, temperature), classes)
  const sum = positionMean(b, b.op('Mul', [b.op('Exp', [logP]), logP]), classes)
  return b.op('Mul', [sum, b.scalar(-1 / Math.log(classes.count))])
}

const cooled = (b: Builder, x: Value, temperature: number): Value =>
  temperature === 1 ? x : b.op('Mul', [x, b.scalar(1 / temperature)])

/** A loss that compares elements. `variance`: the teacher's, of nmse. */
export function distance(b: Builder, loss: LossName, student: Value, teacher: Value, variance: number): Value {
  const own = ownLoss(loss)
  if (own) return own.emit(b, student, teacher)
  const d = b.op('Sub', [student, teacher])
  if (loss === 'l1') return elementMean(b, b.op('Abs', [d]))
  const mean = elementMean(b, b.op('Mul', [d, d]))
  return loss === 'mse' ? mean : b.op('Mul', [mean, b.scalar(1 / variance)])
}

/** A loss that compares distributions. `student` and `teacher` are scores of the same shape. */
export function divergence(
  b: Builder,
  loss: 'kl' | 'reverse-kl',
  student: Value,
  teacher: Value,
  { temperature, ...classes }: Classes & { readonly temperature: number },
): Value {
  const logQ = logSoftmax(b, cooled(b, student, temperature), classes)
  const logP = logSoftmax(b, cooled(b, teacher, temperature), classes)
  const [weight, difference] =
    loss === 'kl' ? [b.op('Exp', [logP]), b.op('Sub', [logP, logQ])] : [b.op('Exp', [logQ]), b.op('Sub', [logQ, logP])]
  const mean = positionMean(b, b.op('Mul', [weight, difference]), classes)
  return temperature === 1 ? mean : b.op('Mul', [mean, b.scalar(temperature * temperature)])
}
