/** Turns a batch into what the step graph is fed, and its logits into accuracy. */
import { convert } from '../../data/bind.ts'
import { argmax } from '../../evaluate/metrics/scores.ts'
import { Tensor } from '../../graph/tensor.ts'
import { feedType } from '../step/data-targets.ts'
import type { StepGraph } from '../step/step-options.ts'
import type { StepFeed } from '../step/step-runner.ts'
import type { SourceBatch } from './batch-source.ts'

/** Inputs with what outputs should give, and smoothed one-hot targets: (1 - s) at the label, s / classes everywhere. */
export function feedsOf(batch: SourceBatch, { classes, goals }: StepGraph, smoothing: number): StepFeed[] {
  return batch.parts.map(({ images, others, labels, wanted }) => {
    const given = { ...(others && { others }), ...(wanted && goals.size > 0 && { wanted: goalFeeds(goals, wanted) }) }
    if (classes === null || !labels) return { images, targets: null, ...given }
    const targets = new Float32Array(labels.length * classes).fill(smoothing / classes)
    for (let i = 0; i < labels.length; i++) targets[i * classes + labels[i]!]! += 1 - smoothing
    return { images, targets: Tensor.float32([labels.length, classes], targets), ...given }
  })
}

/** By the step's input. */
const goalFeeds = (goals: StepGraph['goals'], wanted: Readonly<Record<string, Tensor>>): Record<string, Tensor> =>
  Object.fromEntries(
    [...goals].map(([output, goal]) => [goal.input, convert(wanted[output]!, feedType(goal), goal.form.dims)]),
  )

/** Inputs of the batch for which the label's score is the largest; null without labels or for outputs that are not scores of these classes. */
export function countRight(batch: SourceBatch, logits: readonly Tensor[], classes: number | null): number | null {
  let right = 0
  for (const [i, { labels }] of batch.parts.entries()) {
    const scores = logits[i]
    if (!labels || scores?.dims.length !== 2 || classes === null || scores.dims[1] !== classes) return null
    const values = scores.view('float32')
    for (let k = 0; k < labels.length; k++) if (argmax(values, k * classes, classes) === labels[k]) right++
  }
  return right
}
