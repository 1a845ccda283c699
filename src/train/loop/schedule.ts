/**
 * Learning rate as a function of the step (PIPELINE: set per iteration). Warm-up is linear from `warmupFrom` to the
 * initial rate; the schedule proper runs over the steps after it:
 *
 *   cosine    lr/2 (1 + cos(pi t))        linear   lr (1 - t)       constant   lr
 *   step      lr * gamma^k, k = milestones passed (fractions of the whole)          t = progress in [0, 1)
 */
import type { scheduleNames } from '../train-options.ts'

export type ScheduleName = (typeof scheduleNames)[number]

export interface ScheduleOptions {
  readonly schedule: ScheduleName
  readonly lr: number
  readonly totalSteps: number
  readonly warmupSteps: number
  /** Rate at step 0 of the warm-up. */
  readonly warmupFrom: number
  /** Fractions of the steps after warm-up. */
  readonly milestones: readonly number[]
  readonly gamma: number
}

export function learningRate(o: ScheduleOptions, step: number): number {
  if (step < o.warmupSteps) return o.warmupFrom + ((o.lr - o.warmupFrom) * step) / o.warmupSteps
  const t = (step - o.warmupSteps) / Math.max(1, o.totalSteps - o.warmupSteps)
  switch (o.schedule) {
    case 'cosine':
      return (o.lr / 2) * (1 + Math.cos(Math.PI * Math.min(1, t)))
    case 'linear':
      return o.lr * Math.max(0, 1 - t)
    case 'step':
      return o.lr * o.gamma ** o.milestones.filter((m) => t >= m).length
    case 'constant':
      return o.lr
  }
}
