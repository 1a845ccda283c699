/**
 * Losses as nodes. Each gives a scalar: the mean over the batch. p = softmax(t / T) of the teacher's logits t,
 * q = softmax(s / T) of the student's logits s, T the temperature.
 *
 *   ce          -sum y log q                       (T = 1; y one-hot, smoothed by --label-smoothing)
 *   kl          T^2 sum p (log p - log q)          Hinton et al. 2015
 *   reverse-kl  T^2 sum q (log q - log p)          what the MicroNet entry calls KL
 *   mse         mean over elements of (s - t)^2
 *   l1          mean over elements of |s - t|
 *
 * mse and l1 compare any outputs; where a model has several float outputs, the step adds up the loss of each.
 */
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/graph.ts'
import type { lossNames } from './train-options.ts'

export type LossName = (typeof lossNames)[number]

/** Losses over a distribution of classes; the others compare outputs of any shape. */
export const needsClasses = (loss: LossName): boolean => loss !== 'mse' && loss !== 'l1'

const logSoftmax = (b: Builder, x: Value): Value => b.op('LogSoftmax', [x], { axis: -1 })

const batchMean = (b: Builder, perElement: Value, batch: number): Value => {
  const sum = b.op('ReduceSum', [perElement], { keepdims: 0 })
  return b.op('Mul', [sum, b.scalar(1 / batch)])
}

const elementMean = (b: Builder, x: Value): Value => b.op('ReduceMean', [x], { keepdims: 0 })

export function crossEntropy(b: Builder, logits: Value, targets: Value, batch: number): Value {
  return b.op('Neg', [batchMean(b, b.op('Mul', [targets, logSoftmax(b, logits)]), batch)])
}

/**
 * How undecided the teacher is at that temperature: the mean entropy of its distributions, as a share of log(classes).
 * 0 where each is one class, 1 where all classes are alike.
 */
export function teacherEntropy(b: Builder, teacher: Value, classes: number, o: Softened): Value {
  const logP = logSoftmax(b, cooled(b, teacher, o))
  const sum = batchMean(b, b.op('Mul', [b.op('Exp', [logP]), logP]), o.batch)
  return b.op('Mul', [sum, b.scalar(-1 / Math.log(classes))])
}

interface Softened {
  readonly batch: number
  readonly temperature: number
}

const cooled = (b: Builder, x: Value, { temperature }: Softened): Value =>
  temperature === 1 ? x : b.op('Mul', [x, b.scalar(1 / temperature)])

/** Any loss against a teacher. `student` and `teacher` have the same shape, batch first. */
export function distillation(
  b: Builder,
  loss: Exclude<LossName, 'ce'>,
  student: Value,
  teacher: Value,
  options: Softened,
): Value {
  if (loss === 'mse') {
    const d = b.op('Sub', [student, teacher])
    return elementMean(b, b.op('Mul', [d, d]))
  }
  if (loss === 'l1') return elementMean(b, b.op('Abs', [b.op('Sub', [student, teacher])]))
  const { batch, temperature } = options
  const logQ = logSoftmax(b, cooled(b, student, options))
  const logP = logSoftmax(b, cooled(b, teacher, options))
  const [weight, difference] =
    loss === 'kl' ? [b.op('Exp', [logP]), b.op('Sub', [logP, logQ])] : [b.op('Exp', [logQ]), b.op('Sub', [logQ, logP])]
  const mean = batchMean(b, b.op('Mul', [weight, difference]), batch)
  return temperature === 1 ? mean : b.op('Mul', [mean, b.scalar(temperature * temperature)])
}
