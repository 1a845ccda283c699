/**
 * Top-1 and top-5 accuracy of scores, and their mean cross entropy in nats:
 *
 *   loss = mean of log sum exp(score) - score[label],  or of -log p[label] for probabilities
 *
 * Ties go to the lower class, as with argmax; NaN is never right.
 */
import { defineMetric, type Measured, type MeasuredOutput, type Measuring } from './define-metric.ts'

export const accuracy = defineMetric({
  name: 'accuracy',
  summary: 'top-1 and top-5 accuracy, and cross entropy',
  better: 'higher',
  against: 'labels',
  start: (output) => new Scores(output),
})

const TOP = 5

class Scores implements Measuring {
  #samples = 0
  #top1 = 0
  #top5 = 0
  #loss = 0
  readonly #classes: number
  readonly #probabilities: boolean

  constructor({ lastDim, classes, isProbability }: MeasuredOutput) {
    this.#classes = lastDim ?? classes
    this.#probabilities = isProbability
  }

  add({ got: values, label }: { readonly got: ArrayLike<number>; readonly label: number }): string | undefined {
    if (values.length !== this.#classes)
      return `the model returns ${values.length} scores per sample, but the data have ${this.#classes} classes`
    const own = values[label]!
    let better = Number.isNaN(own) ? TOP : 0
    let max = Number.NEGATIVE_INFINITY
    let sum = 0
    for (let c = 0; c < values.length; c++) {
      const v = values[c]!
      if (v > max) max = v
      // ties go to the lower class, as with argmax; NaN beats everything
      if (c !== label && !(v < own || (v === own && c > label))) better++
    }
    this.#samples++
    if (better === 0) this.#top1++
    if (better < TOP) this.#top5++
    if (this.#probabilities) {
      this.#loss -= Math.log(Math.max(own, Number.MIN_VALUE))
      return undefined
    }
    for (let c = 0; c < values.length; c++) sum += Math.exp(values[c]! - max)
    this.#loss += max + Math.log(sum) - own
    return undefined
  }

  result(): Measured {
    const n = Math.max(1, this.#samples)
    return { value: this.#top1 / n, details: { top5: this.#top5 / n, loss: this.#loss / n } }
  }
}
