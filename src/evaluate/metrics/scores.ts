/** What metrics read from an output's scores. */
import { defineMetric, type Measured, type MeasuredOutput, type MetricDef } from './define-metric.ts'

/** The first largest of `count` values from `at` on. */
export function argmax(values: ArrayLike<number>, at = 0, count = values.length): number {
  let best = 0
  for (let c = 1; c < count; c++) if (values[at + c]! > values[at + best]!) best = c
  return best
}

/** The class that is answered; of a single score, class 1 where it is more likely than not. */
export function answerOf(values: ArrayLike<number>, { isProbability }: MeasuredOutput): number {
  if (values.length !== 1) return argmax(values)
  return values[0]! > (isProbability ? 0.5 : 0) ? 1 : 0
}

/**
 * A sequence of tokens: what integers say, or the best of the `lastDim` scores at each position. Negative tokens are padding
 * and left out unless `padded`.
 */
export function tokensOf(values: ArrayLike<number>, { elem, lastDim }: MeasuredOutput, length: number): number[] {
  if (/int/.test(elem)) return Array.from(values)
  const classes = lastDim ?? values.length / length
  if (!Number.isInteger(classes) || classes < 2) return Array.from(values)
  return Array.from({ length: values.length / classes }, (_, t) => argmax(values, t * classes, classes))
}

/** Rows: the class that is there; columns: the one that is answered. */
export class ConfusionMatrix {
  readonly classes: number
  readonly counts: Float64Array
  readonly names: readonly string[]
  readonly #output: MeasuredOutput

  constructor(output: MeasuredOutput) {
    this.#output = output
    this.classes = Math.max(output.classes, output.lastDim === 1 ? 2 : (output.lastDim ?? 0))
    this.counts = new Float64Array(this.classes ** 2)
    this.names = Array.from({ length: this.classes }, (_, c) => output.classNames?.[c] ?? String(c))
  }

  add(values: ArrayLike<number>, label: number): string | undefined {
    const answer = answerOf(values, this.#output)
    if (answer >= this.classes) return `the answer is class ${answer}, but there are ${this.classes}`
    this.counts[label * this.classes + answer]!++
    return undefined
  }

  at(label: number, answer: number): number {
    return this.counts[label * this.classes + answer]!
  }

  /** precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN); 0 where nothing is divided by. */
  figures(c: number): { support: number; precision: number; recall: number; f1: number } {
    let [support, answered] = [0, 0]
    for (let k = 0; k < this.classes; k++) {
      support += this.at(c, k)
      answered += this.at(k, c)
    }
    const right = this.at(c, c)
    const share = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole)
    return {
      ...{ support, precision: share(right, answered), recall: share(right, support) },
      f1: share(2 * right, answered + support),
    }
  }

  get total(): number {
    return this.counts.reduce((a, b) => a + b, 0)
  }

  get right(): number {
    let sum = 0
    for (let c = 0; c < this.classes; c++) sum += this.at(c, c)
    return sum
  }
}

/** Mean over the classes that samples have. */
export function meanOverClasses(matrix: ConfusionMatrix, of: (c: number) => number): number {
  const present = Array.from({ length: matrix.classes }, (_, c) => c).filter((c) => matrix.figures(c).support > 0)
  return present.reduce((sum, c) => sum + of(c), 0) / Math.max(1, present.length)
}

/** A metric of the answers for each class. */
export const confusionMetric = (
  { name, summary }: Pick<MetricDef, 'name' | 'summary'>,
  result: (matrix: ConfusionMatrix) => Measured,
): MetricDef =>
  defineMetric({
    ...{ name, summary, better: 'higher', against: 'labels' },
    start(output) {
      const matrix = new ConfusionMatrix(output)
      return { add: ({ got, label }) => matrix.add(got, label), result: () => result(matrix) }
    },
  })
