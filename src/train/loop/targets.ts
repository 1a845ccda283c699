/** Turns a batch into what the step graph is fed, and its logits into accuracy. */
import { argmax } from '../../evaluate/metrics/scores.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { StepGraph } from '../step/step-options.ts'
import type { StepFeed } from '../step/step-runner.ts'
import type { SourceBatch } from './batch-source.ts'

/** Inputs with smoothed one-hot targets: (1 - s) at the label, s / classes everywhere. */
export function feedsOf(batch: SourceBatch, { classes }: StepGraph, smoothing: number): StepFeed[] {
  return batch.parts.map(({ images, others, labels }) => {
    if (classes === null || !labels) return { images, targets: null, ...(others && { others }) }
    const targets = new Float32Array(labels.length * classes).fill(smoothing / classes)
    for (let i = 0; i < labels.length; i++) targets[i * classes + labels[i]!]! += 1 - smoothing
    return { images, targets: Tensor.float32([labels.length, classes], targets), ...(others && { others }) }
  })
}

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
