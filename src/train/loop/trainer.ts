/**
 * The training loop: batches in, steps of the step graph, schedules, moving masks and quantiser scales, validation,
 * checkpoints. An async generator: callers draw progress, write logs and stop by leaving the loop.
 */
import { existsSync } from 'node:fs'
import { MncError } from '../../base/errors.ts'
import { interrupted } from '../../base/long-run.ts'
import { fingerprint } from '../../codec/codec.ts'
import type { MetricDef } from '../../evaluate/metrics/define-metric.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { Executor } from '../../runtime/executor.ts'
import { refitScales, refreshMasks } from '../step/host-constants.ts'
import { LossScale } from '../step/loss-scale.ts'
import { hyperFeeds } from '../step/optimizers.ts'
import type { StepRunner } from '../step/step-runner.ts'
import type { TrainOptions } from '../train-options.ts'
import { WeightAverage } from './average.ts'
import type { SourceBatch } from './batch-source.ts'
import { isBetter, measureValidation, namedValue } from './best-epoch.ts'
import { bestPathOf, type Position, saveBest, saveCheckpoint } from './checkpoint.ts'
import { firstNotFinite } from './diagnose.ts'
import type { EngineProfile } from './engine-profile.ts'
import { maskProgress, masksAreFinal, movesMasks } from './mask-schedule.ts'
import { adopt, type Prepared, prepareTraining } from './prepare-training.ts'
import { learningRate, type ScheduleOptions } from './schedule.ts'
import { type DataPlan, optimizerOf, scheduleOf, stepsOf } from './step-plan.ts'
import { profileOfStep } from './step-profile.ts'
import { countRight, feedsOf } from './targets.ts'
import type { Together } from './together.ts'
import type {
  CheckpointEvent,
  EpochEvent,
  ProfileEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  TrainRun,
  TrainSummary,
} from './train-run.ts'

/**
 * Trains `model` in place; yields events, returns a summary. See TrainRun and train-options.ts. Leaving the loop early
 * leaves the weights of the last step in the model.
 */
export async function* trainSteps(model: Model, run: TrainRun): AsyncGenerator<TrainEvent, TrainSummary, undefined> {
  const training = new Training(await prepareTraining(model, run))
  try {
    yield* training.events()
    const { summary, last } = await training.finish()
    if (last) yield last
    return summary
  } finally {
    await training.close()
  }
}

/** Trains `model` in place and calls `onEvent` on the way; an error that it throws ends the run. */
export async function train(
  model: Model,
  run: TrainRun,
  onEvent: (event: TrainEvent) => void | Promise<void> = () => {},
): Promise<TrainSummary> {
  const training = new Training(await prepareTraining(model, run))
  try {
    for await (const event of training.events()) await onEvent(event)
    const { summary, last } = await training.finish()
    if (last) await onEvent(last)
    return summary
  } finally {
    await training.close()
  }
}

/** One run under way. */
class Training {
  readonly #model: Model
  readonly #run: TrainRun
  readonly #o: TrainOptions
  readonly #data: DataPlan
  readonly #executor: Executor
  readonly #runner: StepRunner
  readonly #together: Together
  readonly #profile: EngineProfile | null
  readonly #identity: string
  readonly #start: Pick<StartEvent, 'warnings' | 'seconds' | 'memory'>
  readonly #schedule: ScheduleOptions
  readonly #first: number
  readonly #last: number
  readonly #average: WeightAverage | null
  readonly #fit: Prepared['fit']
  readonly #lossScale: LossScale | null
  #validationPending: boolean
  #done: number
  #savedAt = performance.now()
  readonly #metric: MetricDef | null
  #best: { value: number; epoch: number; model: Model | null; fingerprint?: string | undefined }
  /** Of the present epoch. */
  #losses: { sum: number; steps: number }
  #finished = false

  constructor(prepared: Prepared) {
    const { model, run, options: o, data, executor, identity, runner, checkpoint } = prepared
    this.#model = model
    this.#run = run
    this.#o = o
    this.#data = data
    this.#executor = executor
    this.#identity = identity
    this.#runner = runner
    this.#together = prepared.together
    this.#profile = prepared.profile
    this.#metric = prepared.metric
    this.#fit = prepared.fit
    this.#start = prepared.start
    const { stepsPerEpoch } = data.source
    const { total, last } = stepsOf(o, stepsPerEpoch)
    this.#last = last
    this.#schedule = scheduleOf(o, stepsPerEpoch, total)
    this.#average = o.ema > 0 ? new WeightAverage(o.ema) : null
    const position = checkpoint?.position
    this.#lossScale = runner.graph.lossScaled ? new LossScale(position?.lossScale) : null
    this.#first = position?.step ?? 0
    this.#done = this.#first
    this.#validationPending = position?.validationPending ?? false
    this.#losses = { sum: position?.lossSum ?? 0, steps: position?.lossSteps ?? 0 }
    this.#best = {
      ...{ value: position?.bestTop1 ?? -1, epoch: position?.bestEpoch ?? -1, model: prepared.best },
      fingerprint: position?.bestModel,
    }
    runner.loadFrom(model)
    if (!checkpoint) return
    for (const slot of runner.graph.slots) runner.setVector(slot, checkpoint.vectors.get(slot)!)
    // the present weights in full, where the model's own type is narrower
    for (const name of ['weights', 'statistics']) {
      const kept = checkpoint.vectors.get(name)
      if (kept) runner.setVector(name, kept)
    }
    this.#average?.restore(checkpoint.vectors)
  }

  #startEvent(): StartEvent {
    const { stepsPerEpoch, parts: runs, batch } = this.#data.source
    const { graph, fallbacks } = this.#runner
    return {
      ...{ kind: 'start', parameters: graph.weights.size, stepsPerEpoch, totalSteps: this.#last, step: this.#first },
      ...{ runs, batch, device: this.#runner.inWords(this.#executor.device), objectives: graph.objectives, fallbacks },
      ...this.#start,
    }
  }

  async *events(): AsyncGenerator<TrainEvent, void, undefined> {
    yield this.#startEvent()
    yield* this.#steps()
  }

  async *#steps(): AsyncGenerator<TrainEvent, void, undefined> {
    const { source } = this.#data
    if (this.#validationPending) yield* this.#endOfEpoch(Math.floor((this.#first - 1) / source.stepsPerEpoch))
    const { stepsPerEpoch } = source
    const before = this.#first > 0 && this.#first % stepsPerEpoch === 0 ? this.#first / stepsPerEpoch - 1 : null
    if (before !== null && this.#patienceOver(before)) return
    let mark = performance.now()
    for await (const batch of source.batches(this.#first, this.#last, this.#together.share)) {
      if (this.#together.stops(this.#run.signal)) throw await this.#interrupted()
      const event = await this.#step(batch)
      const now = performance.now()
      yield { ...event, imagesPerSecond: (batch.count * this.#together.size * 1000) / (now - mark) }
      yield* this.#fit?.watch.exceeded() ?? []
      const { epoch } = batch
      if (this.#epochEnds()) yield* this.#endOfEpoch(epoch)
      else if (this.#together.agrees(this.#checkpointDue())) yield await this.#checkpoint()
      if (this.#epochEnds() && this.#patienceOver(epoch)) return
      mark = performance.now()
    }
  }

  async #step(batch: SourceBatch): Promise<Omit<StepEvent, 'imagesPerSecond'>> {
    const runner = this.#runner
    const { step, epoch } = batch
    if (step % this.#data.source.stepsPerEpoch === 0) this.#losses = { sum: 0, steps: 0 }
    await this.#moveHostConstants(step)
    const lr = learningRate(this.#schedule, step)
    const lossScale = this.#lossScale?.scale
    const hyper = {
      ...hyperFeeds(optimizerOf(this.#o), lr, step - (this.#lossScale?.state.skipped ?? 0)),
      ...(lossScale !== undefined && { loss_scale: Tensor.scalar(lossScale) }),
    }
    const feeds = feedsOf(batch, runner.graph, this.#o.labelSmoothing)
    const { loss, losses, gradientNorm, logits, teacherEntropy } = await runner.step(feeds, hyper)
    const overflowed = lossScale !== undefined && Number.isFinite(loss) && !Number.isFinite(gradientNorm)
    if (overflowed && this.#lossScale!.overflowed()) runner.discard()
    else if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      runner.discard()
      await runner.download()
      runner.storeTo(this.#model)
      const what = overflowed ? 'the gradient overflows in float16 at every loss scale' : `the loss is ${loss}`
      throw await this.#diverged(step, what, feeds, hyper)
    }
    if (!overflowed) await this.#accept()
    this.#done = step + 1
    this.#losses.sum += loss
    this.#losses.steps++
    const right = this.#together.total(countRight(batch, logits, this.#data.source.classes))
    return {
      ...{
        kind: 'step',
        step,
        epoch,
        loss,
        lr,
        gradientNorm,
        top1: right === null ? null : right / (batch.count * this.#together.size),
      },
      ...(losses && { losses: Object.fromEntries(runner.graph.objectives.map((l, i) => [l.output, losses[i]!])) }),
      ...(lossScale !== undefined && { lossScale }),
      ...(step === this.#first && teacherEntropy !== null && { teacherEntropy }),
    }
  }

  /** Makes the step's state the present one. */
  async #accept(): Promise<void> {
    const runner = this.#runner
    runner.commit()
    this.#lossScale?.passed()
    if (this.#average) await runner.download()
    this.#average?.update(runner)
    const averages = () => this.#average?.state().map(([, values]) => values) ?? []
    this.#together.compare(this.#done + 1, this.#first, () => [...runner.everything(), ...averages()])
  }

  #epochEnds(): boolean {
    return this.#done % this.#data.source.stepsPerEpoch === 0 || this.#done === this.#last
  }

  async *#endOfEpoch(epoch: number): AsyncGenerator<EpochEvent | CheckpointEvent, void, undefined> {
    const { validation } = this.#data
    await this.#runner.download()
    this.#runner.storeTo(this.#model)
    this.#validationPending = validation !== null
    const score = validation ? await this.#validate(validation) : null
    this.#validationPending = false
    if (score && masksAreFinal(this.#o, this.#done) && isBetter(this.#metric!, score.value, this.#best)) {
      const best = this.#averaged()
      const path = bestPathOf(this.#run)
      if (path && this.#together.writes) await saveBest(path, best, this.#identity, epoch)
      this.#best = { value: score.value, epoch, model: best, fingerprint: path && fingerprint(best) }
    }
    yield { kind: 'epoch', epoch, valLoss: score?.loss ?? null, ...namedValue(this.#metric, score?.value) }
    if (this.#run.checkpoint) yield await this.#checkpoint()
  }

  async #validate(validation: NonNullable<DataPlan['validation']>) {
    const { signal, preprocess } = this.#run
    const options = {
      ...{ executor: this.#executor, load: { threads: this.#o.threads } },
      // several ranks stop between steps, all at the same one
      ...(signal && this.#together.size === 1 && { signal }),
    }
    try {
      return await measureValidation(this.#metric!, this.#averaged(), validation, preprocess, options)
    } catch (error) {
      if (!signal?.aborted) throw error
      throw await this.#interrupted()
    }
  }

  #patienceOver(epoch: number): boolean {
    const { patience } = this.#o
    return patience > 0 && this.#best.epoch >= 0 && epoch - this.#best.epoch >= patience
  }

  /** Moves masks and quantiser scales when they are due. */
  async #moveHostConstants(step: number): Promise<void> {
    if (this.#runner.graph.host.size === 0) return
    const masks = movesMasks(this.#o, step)
    const scales = this.#o.scales === 'refit' && step > 0 && step % this.#data.source.stepsPerEpoch === 0
    if (!masks && !scales) return
    await this.#runner.download()
    this.#runner.storeTo(this.#model)
    if (masks) refreshMasks(this.#model, maskProgress(this.#o, step))
    if (scales) refitScales(this.#model)
    this.#runner.refreshHost(this.#model)
  }

  /** A copy of the model as it is evaluated and written: with averaged weights, where they are kept. */
  #averaged(): Model {
    const copy = cloneModel(this.#model)
    this.#runner.storeTo(copy, (name) => this.#average?.vector(name, this.#runner) ?? this.#runner.vector(name))
    return copy
  }

  #checkpointDue(): boolean {
    const { checkpoint, checkpointMinutes = 10, checkpointSteps } = this.#run
    if (!checkpoint) return false
    if (checkpointSteps !== undefined && this.#done % checkpointSteps === 0) return true
    return performance.now() - this.#savedAt > checkpointMinutes * 60_000
  }

  async #checkpoint(): Promise<CheckpointEvent> {
    const path = this.#run.checkpoint!
    const runner = this.#runner
    await runner.download()
    if (!runner.vector('weights').every(Number.isFinite))
      throw await this.#diverged(this.#done, 'the weights are no longer finite')
    runner.storeTo(this.#model)
    const { slots, statistics } = runner.graph
    const narrow = runner.isNarrower(this.#model)
    const full = narrow ? ['weights', ...(statistics.size > 0 ? ['statistics'] : [])] : []
    const vectors: [string, Float32Array][] = [...slots, ...full].map((name) => [name, runner.vector(name)])
    if (this.#together.writes)
      await saveCheckpoint(path, this.#model, [...vectors, ...(this.#average?.state() ?? [])], this.#position())
    this.#savedAt = performance.now()
    return { kind: 'checkpoint', step: this.#done, path }
  }

  #position(): Position {
    const { value, epoch, fingerprint: bestModel } = this.#best
    const { sum: lossSum, steps: lossSteps } = this.#losses
    return {
      ...{ step: this.#done, run: this.#identity, bestTop1: value, bestEpoch: epoch, lossSum, lossSteps },
      ...(bestModel !== undefined && { bestModel }),
      ...(this.#validationPending && { validationPending: true }),
      ...(this.#lossScale && { lossScale: this.#lossScale.state }),
    }
  }

  async finish(): Promise<{ readonly summary: TrainSummary; readonly last: ProfileEvent | null }> {
    const { validation } = this.#data
    const runner = this.#runner
    await runner.download()
    runner.storeTo(this.#model)
    if (this.#average) adopt(this.#model, this.#averaged())
    if (validation) adopt(this.#model, this.#best.model)
    this.#finished = true
    const trace = await this.#profile?.keep(runner.endProfiling())
    const { value, epoch } = this.#best
    const { sum, steps } = this.#losses
    const summary = {
      ...{ steps: this.#done, loss: steps === 0 ? null : sum / steps },
      ...{ bestEpoch: validation ? epoch : null, ...namedValue(this.#metric, validation ? value : undefined) },
      ...(this.#fit?.divided && { divided: this.#fit.divided }),
    }
    return {
      summary,
      last: trace === undefined ? null : { kind: 'profile', profile: profileOfStep(trace, runner.graph.model.graph) },
    }
  }

  async close(): Promise<void> {
    if (!this.#finished) {
      await this.#runner.download()
      this.#runner.storeTo(this.#model)
    }
    await this.#runner.dispose()
    await this.#profile?.close()
  }

  async #interrupted(): Promise<MncError> {
    const { checkpoint } = this.#run
    if (checkpoint) await this.#checkpoint()
    const where = checkpoint ? `; checkpoint in ${checkpoint}` : ''
    return interrupted(`interrupted after ${this.#done} steps${where}`, checkpoint && 'continue with --resume')
  }

  /** Names the step and the first tensor that is not finite. The state before the step is untouched. */
  async #diverged(step: number, what: string, feeds: ReturnType<typeof feedsOf> = [], hyper = {}): Promise<MncError> {
    let bad: string | null = null
    for (const feed of feeds) {
      const { graph } = this.#runner
      bad ??= await firstNotFinite(graph.model, this.#runner.feeds(feed, hyper), this.#executor)
    }
    const where = bad === null ? '' : `; the first tensor that is not finite is '${bad}'`
    const { checkpoint } = this.#run
    const kept = checkpoint && existsSync(checkpoint) ? `; the last checkpoint (${checkpoint}) is good` : ''
    const remedies = 'lower --lr, warm up, or clip with --clip-norm'
    const next = this.#lossScale ? `${remedies}; or use --precision float32` : remedies
    return new MncError(`step ${step}: ${what}${where}${kept}`, { code: 'diverged', blame: 'user', next })
  }
}

export type * from './train-run.ts'
