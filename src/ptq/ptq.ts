/**
 * Post-training quantisation: quantises a model and brings its outputs back to those of the float one, on samples without
 * labels. Steps (steps.ts) run one after the other on copies; the result of each is measured on samples that nothing was
 * fitted to (judge.ts), and a step that does harm is undone, so that the result is never further from the float model
 * than `quantize` alone.
 */
import { MncError } from '../base/errors.ts'
import { type LongRun, stopIfAborted } from '../base/long-run.ts'
import { parseOptions } from '../base/options.ts'
import { type Preprocess, writePreprocess } from '../data/preprocess.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import { cloneModel } from '../graph/clone.ts'
import { quantisable } from '../graph/exported.ts'
import type { Model } from '../graph/model.ts'
import { applyPass, type PassResult } from '../pass-manager/manager.ts'
import { findPass } from '../passes/run-pass.ts'
import { floatReference } from '../quant/bypass-quantisers.ts'
import type { TrainEvent } from '../train/loop/trainer.ts'
import { type Criterion, isNearer, Judge, type Judgement } from './judge.ts'
import { type PtqOptions, type PtqOptionsInput, ptqOptions } from './ptq-options.ts'
import { nothingQuantised, reasonsOf } from './reasons.ts'
import { refine } from './refine.ts'
import { describeRescued, type Rescued, widerOptions, worstLayers } from './rescue.ts'
import { type Samples, samplesOf } from './samples.ts'
import {
  copiesFor,
  isSparse,
  type Options,
  OUTPUTS,
  outputsOptions,
  type PlannedPass,
  PRUNE,
  passOptions,
  plannedPasses,
  pruneOptions,
  QUANTIZE,
  quantizeOptions,
  REFINE,
  RESCUE,
  refineOptions,
  refineSteps,
  withWidth,
} from './steps.ts'

/** Data and options of `ptq`. */
export interface PtqRun extends Pick<LongRun, 'signal'> {
  /** Images, whose labels are not looked at, or `random` inputs in the shapes of the model's own. */
  readonly data: TrainingData
  /** How pixels become the model's input; not asked for with random inputs. Written into the model. */
  readonly preprocess?: Preprocess | undefined
  readonly options?: PtqOptionsInput
  /** 0 by default. */
  readonly seed?: number
  /** Folder in which large training steps are kept for the next run; without it they are not kept. */
  readonly cache?: string | undefined
}

/** A step that was taken, or tried. */
export interface PtqStep {
  readonly name: string
  /** Distance to the float model after it, on the samples that judge; null where it changes no output, or failed. */
  readonly distance: number | null
  readonly seconds: number
  /** `taken-back`: it did harm. `failed`: it does not apply to this network. `idle`: it found nothing to change. */
  readonly outcome: 'kept' | 'taken-back' | 'failed' | 'idle'
  /** Why it was not kept. */
  readonly reason: string | null
}

/** What `ptq` reports while it runs. */
export type PtqEvent =
  | {
      readonly kind: 'start'
      readonly fitted: number
      readonly judged: number
      readonly criteria: readonly Criterion[]
    }
  | { readonly kind: 'begin'; readonly step: string; readonly distance: number | null }
  | { readonly kind: 'train'; readonly event: TrainEvent }
  | { readonly kind: 'step'; readonly step: PtqStep }
  | { readonly kind: 'log'; readonly message: string }

/** What was done to the model, so that it can be done again (recipe-of.ts). */
export interface PtqSequence {
  readonly passes: readonly {
    readonly name: string
    readonly options: Options
    /** How much data it calibrates on; null if it takes none. */
    readonly calibration: { readonly limit: number; readonly batch: number; readonly copies?: number } | null
  }[]
  readonly train: Options | null
}

/** What post-training quantisation did, step by step. */
export interface PtqResult {
  readonly model: Model
  readonly steps: readonly PtqStep[]
  /** Distance to the float model, on the samples that judge. */
  readonly distance: number
  readonly criteria: readonly Criterion[]
  readonly sequence: PtqSequence
  /** What `quantize` left alone. */
  readonly quantized: Quantized
  /** Layers that were quantised wider than asked for (`rescue`), the worst first. */
  readonly rescued: readonly Rescued[]
}

type Quantized = Pick<PassResult, 'declined' | 'left'>

/**
 * A quantised copy of `source`, which stays as it is. Usage errors for options and for too few samples; a model error where nothing can be
 * quantised, with the reasons, or no output compared.
 */
export async function ptq(
  source: Model,
  run: PtqRun,
  onEvent: (event: PtqEvent) => void | Promise<void> = () => {},
): Promise<PtqResult> {
  const o = withWidth(parseOptions(ptqOptions, run.options ?? {}, 'ptq'))
  const model = cloneModel(quantisable(source))
  if (run.preprocess) writePreprocess(model, run.preprocess)
  return (await Work.start(model, run, o, onEvent)).run()
}

class Work {
  /** The model so far. */
  #model: Model
  readonly #float: Model
  readonly #run: PtqRun
  readonly #o: PtqOptions
  readonly #samples: Samples
  readonly #judge: Judge
  readonly #tell: (event: PtqEvent) => void | Promise<void>
  readonly #planned: readonly PlannedPass[]
  readonly #steps: PtqStep[] = []
  /** What each step of the last group was applied to. */
  readonly #before = new Map<string, { readonly model: Model; readonly passes: PtqSequence['passes'] }>()
  #passes: PtqSequence['passes'] = []
  #train: Options | null = null
  #rescued: readonly Rescued[] = []
  /** How far it is from the float model; null before it is quantised. */
  #judgement: Judgement | null = null
  #quantized: Quantized = { declined: [], left: null }

  private constructor(
    model: Model,
    run: PtqRun,
    o: PtqOptions,
    samples: Samples,
    judge: Judge,
    planned: readonly PlannedPass[],
    tell: (event: PtqEvent) => void | Promise<void>,
  ) {
    this.#float = model
    this.#model = cloneModel(model)
    this.#run = run
    this.#o = o
    this.#samples = samples
    this.#judge = judge
    this.#planned = planned
    this.#tell = tell
  }

  static async start(
    model: Model,
    run: PtqRun,
    o: PtqOptions,
    tell: (event: PtqEvent) => void | Promise<void>,
  ): Promise<Work> {
    const planned = plannedPasses(o)
    const samples = samplesOf(run.data, o.limit)
    const judge = await Judge.of(model, await samples.judges(model, o.batch), o.threads)
    const { fitted, judged } = samples
    await tell({ kind: 'start', fitted, judged, criteria: judge.criteria })
    return new Work(model, run, o, samples, judge, planned, tell)
  }

  async run(): Promise<PtqResult> {
    const before = this.#planned.filter((p) => p.place === 'before')
    for (const p of before.filter((p) => p.exact)) await this.#exact(p)
    if (isSparse(this.#o)) await this.#prune()
    const prepared = { model: this.#model, passes: this.#passes }
    await this.#quantize()
    for (const p of before.filter((p) => !p.exact)) await this.#tryBefore(p, prepared)
    await this.#rescue(prepared)
    for (const p of this.#planned.filter((p) => p.place === 'behind')) await this.#tryBehind(p)
    await this.#refine()
    return {
      ...{
        model: this.#model,
        steps: this.#steps,
        distance: this.#judgement!.distance,
        criteria: this.#judge.criteria,
      },
      ...{ sequence: { passes: this.#passes, train: this.#train }, quantized: this.#quantized, rescued: this.#rescued },
    }
  }

  /** A pass that changes no output: kept where it changes anything. */
  async #exact(p: PlannedPass): Promise<void> {
    await this.#step(p.name, async () => {
      const applied = await this.#apply(this.#model, p.def.name, passOptions(p, this.#o))
      return applied.changed ? { ...applied, judgement: null } : applied
    })
  }

  async #prune(): Promise<void> {
    await this.#step(PRUNE, async () => {
      const done = await this.#apply(this.#model, PRUNE, pruneOptions(this.#o))
      return { ...done, isAsked: true, judgement: await this.#judge.judge(done.model) }
    })
  }

  async #quantize(): Promise<void> {
    await this.#step(QUANTIZE, async () => {
      const done = await this.#quantised(this.#model)
      if (!done.changed) throw nothingQuantised(done.declined)
      this.#quantized = { declined: done.declined, left: done.left }
      return { ...done, isAsked: true, judgement: await this.#judge.judge(done.model) }
    })
  }

  async #quantised(source: Model, passes = this.#passes, o = this.#o): Promise<Applied> {
    const done = await this.#apply(source, QUANTIZE, quantizeOptions(source, o), passes)
    if (!this.#o.integer || !done.changed) return done
    return { ...done, ...(await this.#withOutputs(done)) }
  }

  /** For integer kernels throughout. What is left alone is what `quantize` says. */
  async #withOutputs({ model, passes }: Applied): Promise<Pick<Applied, 'model' | 'passes'>> {
    const done = await this.#apply(model, OUTPUTS, outputsOptions(this.#o), passes)
    return done.changed ? { model: done.model, passes: done.passes } : { model, passes }
  }

  /** A pass before `quantize`: its effect shows after that. */
  async #tryBefore(p: PlannedPass, prepared: { model: Model; passes: PtqSequence['passes'] }): Promise<void> {
    await this.#step(p.name, async () => {
      if (this.#o.weightBits > 0 && this.#o.weightBits < (p.leastWeightBits ?? 0))
        return {
          ...prepared,
          changed: false,
          reason: `weights of ${this.#o.weightBits} bits have no precision to spare`,
        }
      const own = await this.#apply(prepared.model, p.def.name, passOptions(p, this.#o), prepared.passes)
      if (!own.changed) return own
      const done = await this.#quantised(own.model, own.passes)
      const judgement = await this.#judge.judge(done.model)
      if (isNearer(judgement, this.#judgement)) Object.assign(prepared, { model: own.model, passes: own.passes })
      return { ...done, judgement }
    })
  }

  /** The layers that it costs most are quantised wider. */
  async #rescue(prepared: { model: Model; passes: PtqSequence['passes'] }): Promise<void> {
    if (this.#o.rescue === 0) return
    await this.#step(RESCUE, async () => {
      const rescued = await worstLayers(this.#model, this.#judge, this.#o.rescue)
      const done = await this.#quantised(prepared.model, prepared.passes, widerOptions(this.#o, rescued))
      for (const r of rescued) await this.#tell({ kind: 'log', message: describeRescued(r) })
      return { ...done, rescued, judgement: await this.#judge.judge(done.model) }
    })
  }

  async #tryBehind(p: PlannedPass): Promise<void> {
    this.#before.set(p.name, { model: this.#model, passes: this.#passes })
    const from = this.#before.get(p.instead ?? p.name) ?? { model: this.#model, passes: this.#passes }
    await this.#step(p.name, async () => {
      const applied = await this.#apply(from.model, p.def.name, passOptions(p, this.#o), from.passes, {
        most: p.samples,
        copies: this.#isOfPictures ? copiesFor(p, this.#o) : 0,
      })
      if (!applied.changed) return applied
      const judgement = await this.#judge.judge(applied.model)
      if (!p.ofInputs) return { ...applied, judgement }
      const inFloat = (model: Model) => this.#judge.judge(floatReference(model, { weightsOnly: true }).model)
      return {
        ...applied,
        judgement,
        compared: { now: await inFloat(applied.model), before: await inFloat(this.#model) },
      }
    })
  }

  async #refine(): Promise<void> {
    const steps = refineSteps(this.#o)
    if (steps === 0) return
    await this.#step(REFINE, async () => {
      const { data, preprocess, seed = 0, signal, cache } = this.#run
      const { criteria, temperature } = this.#judge
      const pictures = this.#isOfPictures
      const done = await refine(this.#model, this.#judgement!, {
        ...{ data, preprocess, seed, signal, cache, steps, float: this.#float, judge: this.#judge, tell: this.#tell },
        optionsFor: (steps, rate) =>
          refineOptions(this.#o, { samples: this.#samples.fitted, steps, rate, criteria, temperature, pictures }),
      })
      const { model, options, judgement } = done
      return { changed: true, model, passes: this.#passes, train: options, judgement }
    })
  }

  get #isOfPictures(): boolean {
    return this.#run.data !== RANDOM && this.#run.preprocess !== undefined
  }

  /** Runs `attempt` and keeps its result if that is nearer to the float model. */
  async #step(name: string, attempt: () => Promise<Attempt>): Promise<void> {
    stopIfAborted(this.#run.signal, `interrupted before ${name}`)
    await this.#tell({ kind: 'begin', step: name, distance: this.#judgement?.distance ?? null })
    const start = performance.now()
    const done = await attempt().catch((error: unknown) => {
      const isOurs = error instanceof MncError && (error.blame === 'model' || error.blame === 'user')
      // without what is asked for there is nothing to continue with
      if (!isOurs || name === QUANTIZE || name === PRUNE) throw error
      return error
    })
    const seconds = (performance.now() - start) / 1000
    const step = { name, seconds, ...this.#judged(done) }
    this.#steps.push(step)
    await this.#tell({ kind: 'step', step })
  }

  #judged(done: Attempt | MncError): Omit<PtqStep, 'name' | 'seconds'> {
    if (done instanceof MncError) return { distance: null, outcome: 'failed', reason: done.describe() }
    if (!done.changed) return { distance: null, outcome: 'idle', reason: done.reason ?? 'nothing to change' }
    const { judgement } = done
    const distance = judgement?.distance ?? null
    const { now, before } = done.compared ?? { now: judgement, before: this.#judgement }
    if (!done.isAsked && now && before && !isNearer(now, before))
      return { distance, outcome: 'taken-back', reason: takenBack(now, before) }
    this.#model = done.model
    this.#passes = done.passes
    this.#train = done.train ?? this.#train
    this.#rescued = done.rescued ?? this.#rescued
    this.#judgement = judgement ?? this.#judgement
    return { distance, outcome: 'kept', reason: null }
  }

  /** Runs the pass on a copy; returns that and the options that it ran with. */
  async #apply(
    source: Model,
    name: string,
    options: Options,
    passes = this.#passes,
    { most, copies = 0 }: { readonly most?: number | undefined; readonly copies?: number } = {},
  ): Promise<Applied> {
    const model = cloneModel(source)
    const def = findPass(name)
    const limit = Math.min(this.#samples.fitted, most ?? this.#samples.fitted)
    const size = { limit, batch: this.#o.batch, ...(copies > 0 && { copies }) }
    const calibration = def.data ? await this.#samples.calibration(model, size) : undefined
    const { changed, declined, left } = await applyPass(model, def, options, {
      seed: this.#run.seed ?? 0,
      log: (message) => void this.#tell({ kind: 'log', message }),
      signal: this.#run.signal,
      ...(calibration && { calibration }),
    })
    const reason = declined.length > 0 ? reasonsOf(declined) : null
    const entry = { name, options, calibration: def.data ? size : null }
    return { changed, declined, left, reason, model, passes: [...passes, entry] }
  }
}

interface Attempt {
  readonly changed: boolean
  readonly model: Model
  readonly passes: PtqSequence['passes']
  readonly train?: Options
  readonly rescued?: readonly Rescued[]
  /** It is not a means to come nearer: kept, whatever the distance. */
  readonly isAsked?: boolean
  /** null where no output changes. */
  readonly judgement?: Judgement | null
  /** What decides, where that is not the model as it is. */
  readonly compared?: { readonly now: Judgement; readonly before: Judgement }
  readonly reason?: string | null
}

type Applied = Attempt & Pick<PassResult, 'declined' | 'left'>

const takenBack = (now: Judgement, before: Judgement): string =>
  now.distance < before.distance
    ? 'the outputs are no nearer to those of the float model than chance makes them'
    : 'the outputs are further from those of the float model'
