/**
 * When prune masks move, and how sparse they are on the way. Masks are recomputed from the latent weights every
 * `maskUpdateEvery` steps until step `maskUpdateUntil`, and then stay.
 *
 *   constant  at the sparsity that the pass wrote, from the start
 *   cubic     gradual (Zhu & Gupta, 2017, "To prune, or not to prune"), with S the sparsity that the pass wrote and T the
 *             last step at which masks move:   s(t) = S - S (1 - t / T)^3
 */
import { type MncError, usageError } from '../../base/errors.ts'
import type { TrainOptions } from '../train-options.ts'

type MaskOptions = Pick<TrainOptions, 'maskUpdateEvery' | 'maskUpdateUntil' | 'maskSchedule'>

const isCubic = (o: MaskOptions): boolean => o.maskSchedule === 'cubic'

/** The last step before which masks move; 0 where they never do. */
export const lastMaskUpdate = ({ maskUpdateEvery: every, maskUpdateUntil: until }: MaskOptions): number =>
  every > 0 ? Math.floor(until / every) * every : 0

/** Whether masks are recomputed before step `step`. A gradual schedule starts with dense masks. */
export function movesMasks(o: MaskOptions, step: number): boolean {
  if (step === 0) return isCubic(o)
  return o.maskUpdateEvery > 0 && step % o.maskUpdateEvery === 0 && step <= o.maskUpdateUntil
}

/** Fraction of the final sparsity that masks have when they are recomputed before step `step`. */
export function maskProgress(o: MaskOptions, step: number): number {
  if (!isCubic(o)) return 1
  return 1 - (1 - Math.min(1, step / lastMaskUpdate(o))) ** 3
}

/** Whether masks have their final sparsity after `done` steps: earlier models are not candidates for the best one. */
export const masksAreFinal = (o: MaskOptions, done: number): boolean => !isCubic(o) || done > lastMaskUpdate(o)

/** Why a run of `steps` steps cannot follow the schedule; null where it can. */
export function maskScheduleFault(o: MaskOptions, steps: number): MncError | null {
  if (!isCubic(o)) return null
  const last = lastMaskUpdate(o)
  if (last === 0)
    return usageError('--mask-schedule cubic needs masks that move', 'raise --mask-update-every and -until above 0')
  if (masksAreFinal(o, steps)) return null
  const message = `--mask-schedule cubic reaches the full sparsity at step ${last}, but the run has ${steps} steps`
  return usageError(message, 'lower --mask-update-until')
}
