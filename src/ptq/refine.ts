/**
 * The last step: the whole quantised network trained against the float one, without labels (options in steps.ts). Whether
 * that helps, and at which rate, no rule tells: a network that rounding has brought close is only shaken by AdamW, whose
 * updates have the size of the rate however small the gradient is. So short runs come first, each with a schedule of its own:
 * rates are tried from the lowest as long as the outputs come nearer, and where the first one brings them no nearer nothing
 * else is done.
 */
import { parseOptions } from '../base/options.ts'
import { fingerprint } from '../codec/codec.ts'
import { type Preprocess, readPreprocess } from '../data/preprocess.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { recordTraining } from '../train/loop/record.ts'
import { type TrainEvent, train } from '../train/loop/trainer.ts'
import { type TrainOptionsInput, trainOptions } from '../train/train-options.ts'
import type { Judge, Judgement } from './judge.ts'

/** Of a parameter's root mean square, at the start of the cosine. */
export const RATES = [0.0001, 0.001, 0.003] as const
/** Steps that a rate is tried for, at least, and as a part of all. */
export const TRIAL_STEPS = 24
const TRIAL_SHARE = 1 / 8

export interface RefineRun {
  readonly data: TrainingData
  readonly preprocess: Preprocess | undefined
  readonly float: Model
  readonly seed: number
  readonly signal: AbortSignal | undefined
  readonly cache: string | undefined
  readonly steps: number
  optionsFor(steps: number, rate: number): TrainOptionsInput
  readonly judge: Judge
  tell(
    event: { readonly kind: 'train'; readonly event: TrainEvent } | { readonly kind: 'log'; readonly message: string },
  ): void | Promise<void>
}

export interface Refined {
  readonly model: Model
  readonly judgement: Judgement
  readonly options: TrainOptionsInput
}

/** The nearest of what was trained; where no rate helped the first, which is no nearer than `now`. */
export async function refine(from: Model, now: Judgement, run: RefineRun): Promise<Refined> {
  const trial = Math.min(run.steps, Math.max(TRIAL_STEPS, Math.round(TRIAL_SHARE * run.steps)))
  let best: { readonly rate: number; readonly refined: Refined } | null = null
  let least = now.distance
  for (const rate of RATES) {
    await run.tell({ kind: 'log', message: `refine: ${trial} steps at a rate of ${rate}` })
    const refined = await trained(from, run, run.optionsFor(trial, rate))
    const { distance } = refined.judgement
    if (!(distance < least)) {
      if (!best) return refined
      break
    }
    best = { rate, refined }
    least = distance
  }
  const { rate, refined } = best!
  if (trial === run.steps) return refined
  await run.tell({ kind: 'log', message: `refine: ${run.steps} steps at a rate of ${rate}` })
  const whole = await trained(from, run, run.optionsFor(run.steps, rate))
  return whole.judgement.distance < least ? whole : refined
}

async function trained(from: Model, run: RefineRun, options: TrainOptionsInput): Promise<Refined> {
  const { data, preprocess, float, seed, signal, cache, judge } = run
  const model = cloneModel(from)
  const input = fingerprint(model)
  const teacher = { model: cloneModel(float), preprocess: readPreprocess(float) ?? preprocess }
  const summary = await train(model, { data, preprocess, teacher, options, seed, signal, cache }, (event) =>
    run.tell({ kind: 'train', event }),
  )
  const source = data === RANDOM ? RANDOM : data.name
  const all = parseOptions(trainOptions, options, 'refine')
  recordTraining(model, { options: all, data: source, seed, input, summary })
  return { model, options, judgement: await judge.judge(model) }
}
