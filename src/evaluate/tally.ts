/** What one batch adds to accuracy and loss, and the batches of several processes put together. */
import { modelError } from '../base/errors.ts'
import type { Group } from '../ranks/group.ts'

export interface Tally {
  readonly samples: number
  /** Samples whose label has the highest score, and one of the five highest. */
  readonly top1: number
  readonly top5: number
  /** Sum of cross entropies, nats. */
  readonly loss: number
}

const TOP = 5

/** `scores`: of each image; they are probabilities, or logits. */
export function tallyOf(
  scores: readonly ArrayLike<number>[],
  labels: Int32Array,
  classes: number,
  probabilities: boolean,
): Tally {
  let [top1, top5, loss] = [0, 0, 0]
  for (const [i, values] of scores.entries()) {
    if (values.length !== classes)
      throw modelError(
        'class-count',
        `the model returns ${values.length} scores per image, but the data have ${classes} classes`,
      )
    const label = labels[i]!
    const better = ahead(values, label)
    if (better === 0) top1++
    if (better < TOP) top5++
    loss += crossEntropy(values, label, probabilities)
  }
  return { samples: scores.length, top1, top5, loss }
}

/** Scores that beat the label's. Ties go to the lower class, as with argmax; NaN beats everything. */
function ahead(values: ArrayLike<number>, label: number): number {
  const own = values[label]!
  let better = Number.isNaN(own) ? TOP : 0
  for (let c = 0; c < values.length; c++) {
    const v = values[c]!
    if (c !== label && !(v < own || (v === own && c > label))) better++
  }
  return better
}

function crossEntropy(values: ArrayLike<number>, label: number, probabilities: boolean): number {
  const own = values[label]!
  if (probabilities) return -Math.log(Math.max(own, Number.MIN_VALUE))
  let max = Number.NEGATIVE_INFINITY
  for (let c = 0; c < values.length; c++) if (values[c]! > max) max = values[c]!
  let sum = 0
  for (let c = 0; c < values.length; c++) sum += Math.exp(values[c]! - max)
  return max + Math.log(sum) - own
}

/** Those of all batches, in order, out of each rank's: rank r has made batches r, r + N, ... of `batches`. */
export function gatherTallies(group: Group, own: readonly Tally[], batches: number): Tally[] {
  const { size } = group
  const rounds = Math.ceil(batches / size)
  const rows = Array.from({ length: rounds }, (_, i) => own[i] ?? { samples: 0, top1: 0, top5: 0, loss: 0 })
  const ranks = group.gather(rows.flatMap((t) => [t.samples, t.top1, t.top5, t.loss]))
  return Array.from({ length: batches }, (_, i) => {
    const at = 4 * Math.floor(i / size)
    const [samples, top1, top5, loss] = ranks[i % size]!.slice(at, at + 4)
    return { samples: samples!, top1: top1!, top5: top5!, loss: loss! }
  })
}
