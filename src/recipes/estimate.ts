/**
 * What a recipe would do and how long it would take on this machine: each stage's graph is made with untrained weights
 * (or taken from the work folder), and a few real training steps are timed; stages whose step graphs have the same
 * shape share one measurement. Steps of large networks are timed with fewer images and scaled in proportion.
 */

import { modelInfo } from '../analysis/model-info.ts'
import { MncError } from '../base/errors.ts'
import { readModel } from '../codec/codec.ts'
import type { Split } from '../data/dataset.ts'
import { readPreprocess } from '../data/preprocess.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import { pixelsOf } from '../data/sample-set.ts'
import { evaluate } from '../evaluate/evaluate.ts'
import { cloneModel } from '../graph/clone.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { buildNetwork } from '../models/spec.ts'
import { recordSizes } from '../samples/input-shapes.ts'
import { RANDOM_EPOCH } from '../train/loop/batch-source.ts'
import { train } from '../train/loop/trainer.ts'
import { keysOf } from './key.ts'
import { applyReading, runPasses } from './make.ts'
import type { Graphs, Recipe, Stage } from './recipe.ts'
import { chosenStages, DataCache, missingInputs, type RunOptions, staleness } from './run.ts'
import { type StandIn, standIn } from './stand-in.ts'
import { sha256, WorkFolder } from './work-folder.ts'

export interface StageEstimate {
  readonly stage: Stage
  /** null where its files are up to date. */
  readonly reason: string | null
  readonly training: {
    /** null where the size of the data set is unknown. */
    readonly steps: number | null
    readonly secondsPerStep: number
    /** Images in the measured step. */
    readonly measuredBatch: number
  } | null
  /** Training, BN update and measuring; 0 for a stage that is up to date, null where it is unknown. */
  readonly seconds: number | null
}

/** Most work of a timed step: about five seconds on two cores. */
const STEP_MACS = 40e9
/** Timed steps, after one that warms up. */
const TIMED_STEPS = 3
/** Forward and backward against forward alone. */
const BACKWARD = 3
const CALIBRATION_IMAGES = 32

export async function estimateRecipe(
  recipe: Recipe,
  options: RunOptions,
  onStage: (estimate: StageEstimate, index: number) => void = () => {},
): Promise<readonly StageEstimate[]> {
  const estimator = new Estimator(new WorkFolder(options.workdir), options)
  const chosen = new Set(chosenStages(recipe, options.from, options.until))
  const out: StageEstimate[] = []
  for (const [index, stage] of recipe.stages.entries()) {
    if (!chosen.has(stage)) continue
    const estimate = await estimator.stage(stage, recipe)
    out.push(estimate)
    onStage(estimate, index)
  }
  return out
}

class Estimator {
  readonly #folder: WorkFolder
  readonly #options: RunOptions
  readonly #data = new DataCache((message) => this.#log(message))
  readonly #models = new Map<string, Promise<Model>>()
  readonly #measured = new Map<string, { seconds: number; batch: number }>()
  readonly #stale = new Set<string>()
  readonly #missing = new Set<string>()

  constructor(folder: WorkFolder, options: RunOptions) {
    this.#folder = folder
    this.#options = options
  }

  async stage(stage: Stage, recipe: Recipe): Promise<StageEstimate> {
    const reason = await this.#reason(stage)
    if (reason === null) return { stage, reason, training: null, seconds: 0 }
    this.#stale.add(stage.name)
    const model = await this.#model({ kind: 'stage', name: stage.name }, recipe)
    const training = stage.train ? await this.#training(stage, model, recipe) : null
    const rest = stage.bnUpdate || stage.eval ? await this.#forward(stage, model) : 0
    const known = training === null ? 0 : training.steps === null ? null : training.steps * training.secondsPerStep
    return { stage, reason, training, seconds: known === null || rest === null ? null : known + rest }
  }

  async #reason(stage: Stage): Promise<string | null> {
    if (this.#options.resume === false) return 'made again'
    const inputs = [stage.source, stage.teacher, ...stage.checks.map((c) => c.against)]
    const changing = inputs.find((g) => g?.kind === 'stage' && this.#stale.has(g.name))
    if (changing?.kind === 'stage') return `${changing.name} comes first`
    if (missingInputs(stage, this.#folder).length > 0) return 'not made yet'
    const training = await this.#data.training(stage).catch(() => undefined)
    if (training === undefined) return 'its data are missing'
    const keys = await keysOf(stage, this.#folder, training)
    return staleness(stage, await this.#folder.record(stage.name), keys, this.#folder)
  }

  /** A graph of the right shape, trained or not. */
  #model(graph: Graphs, recipe: Recipe): Promise<Model> {
    if (graph.kind === 'file') return readModel(graph.path)
    const known = this.#models.get(graph.name)
    if (known) return known
    const stage = recipe.stages.find((s) => s.name === graph.name)!
    const made = this.#make(stage, recipe)
    this.#models.set(graph.name, made)
    return made
  }

  async #make(stage: Stage, recipe: Recipe): Promise<Model> {
    const { source } = stage
    const model =
      source.kind === 'build'
        ? buildNetwork(source.spec, { seed: stage.seed })
        : cloneModel(await this.#model(source, recipe))
    const quiet = (): void => {}
    recordSizes([model], stage.sizes)
    const data = await this.#set(stage, model, 'train')
    const set = stage.data === RANDOM ? RANDOM : (data?.data ?? null)
    if (set) await applyReading(stage, model, set, quiet)
    await runPasses(stage, model, set, quiet, { most: CALIBRATION_IMAGES })
    return model
  }

  /** The stage's data, or random data if it is not there. */
  async #set(stage: Stage, model: Model, split: Split): Promise<StandIn | null> {
    const { data: reference } = stage
    if (reference === null || reference === RANDOM) return null
    try {
      const data = await this.#data.open(reference, split, stage.reading)
      return { data, images: data.size }
    } catch (error) {
      if (!(error instanceof MncError)) throw error
      if (!this.#missing.has(reference))
        this.#log(
          `${error.describe()}; steps are timed on random pixels, and the data set is assumed to have its standard size`,
        )
      this.#missing.add(reference)
      return standIn(model, reference, split, 256)
    }
  }

  #log(message: string): void {
    this.#options.onEvent?.({ kind: 'log', message })
  }

  async #training(stage: Stage, model: Model, recipe: Recipe): Promise<StageEstimate['training']> {
    const options = stage.train!
    const set = await this.#set(stage, model, 'train')
    const data: TrainingData = set?.data ?? RANDOM
    const images = set ? set.images : (options.limit ?? RANDOM_EPOCH)
    const teacher = stage.teacher && (await this.#model(stage.teacher, recipe))
    const { seconds, batch } = await this.#step(stage, model, teacher, data)
    const used = images === null ? null : Math.min(images, options.limit ?? images) * (1 - options.valFraction)
    const whole = used === null ? null : Math.max(1, Math.round(Math.floor(used / options.batch) * options.epochs))
    const steps = whole === null ? (options.maxSteps ?? null) : Math.min(whole, options.maxSteps ?? whole)
    return { steps, secondsPerStep: (seconds * options.batch) / batch, measuredBatch: batch }
  }

  /** Seconds of one training step, timed unless a stage of the same shape has been. */
  async #step(
    stage: Stage,
    model: Model,
    teacher: Model | null,
    data: TrainingData,
  ): Promise<{ seconds: number; batch: number }> {
    const options = stage.train!
    const { loss, alpha, optimizer, teacherBn, scales, bn, clipNorm, threads, device } = options
    const shape = {
      loss,
      alpha,
      optimizer,
      teacherBn,
      scales,
      bn,
      clipNorm,
      threads,
      device,
      batch: options.batch,
      features: options.cacheFeatures && options.augment === 'none',
    }
    const key = JSON.stringify([shapeOf(model), teacher && shapeOf(teacher), shape])
    const known = this.#measured.get(key)
    if (known) return known
    const perImage = BACKWARD * ((await macsOf(model)) ?? 0) + ((teacher && (await macsOf(teacher))) ?? 0)
    const fitting = Math.max(2, Math.floor(STEP_MACS / Math.max(1, perImage)))
    const isRandom = data === RANDOM
    const batch = Math.min(options.batch, fitting, isRandom ? RANDOM_EPOCH : data.size)
    const preprocess = isRandom ? undefined : await pixelsOf(model, data, {})
    const times: number[] = []
    let mark = 0
    await train(
      cloneModel(model),
      {
        ...{ data: isRandom ? data : data.take(batch * (TIMED_STEPS + 1)), preprocess },
        teacher: teacher ? { model: teacher, preprocess: readPreprocess(teacher) ?? preprocess } : undefined,
        options: {
          ...options,
          batch,
          maxSteps: TIMED_STEPS + 1,
          epochs: TIMED_STEPS + 1,
          valFraction: 0,
          limit: undefined,
          maskSchedule: 'constant',
        },
      },
      (event) => {
        const now = performance.now()
        if (event.kind === 'step') times.push((now - mark) / 1000)
        mark = now
      },
    )
    const timed = times.slice(1).sort((a, b) => a - b)
    const measured = { seconds: timed[timed.length >> 1] ?? times[0] ?? 0, batch }
    this.#measured.set(key, measured)
    return measured
  }

  /** Seconds of the forward passes: BN update and evaluation. */
  async #forward(stage: Stage, model: Model): Promise<number | null> {
    const test = await this.#set(stage, model, 'test')
    const train = stage.bnUpdate && (await this.#set(stage, model, 'train'))
    if (!test?.data.isLabelled) return null
    const perImage = (await macsOf(model)) ?? 0
    const images = Math.max(2, Math.min(100, Math.floor(STEP_MACS / Math.max(1, perImage)), test.data.size))
    const sample = test.data.take(images)
    const preprocess = await pixelsOf(model, sample, {})
    const { imagesPerSecond } = await evaluate(model, sample, preprocess, { batch: Math.max(1, images >> 1) })
    const measured = stage.eval ? Math.min(stage.eval.limit ?? Number.POSITIVE_INFINITY, test.images ?? Number.NaN) : 0
    const { bnUpdate } = stage
    const updated = bnUpdate
      ? Math.min(bnUpdate.limit ?? Number.POSITIVE_INFINITY, train?.images ?? Number.NaN) * bnUpdate.epochs
      : 0
    const seconds = (measured + updated) / imagesPerSecond
    return Number.isNaN(seconds) ? null : seconds
  }
}

const macsOf = async (model: Model): Promise<number | null> => (await modelInfo(model, { bytes: 0 })).macs

/** Two models with the same shape take the same time: operators, shapes of constants, what is frozen. */
function shapeOf(model: Model): string {
  const nodes = [...model.graph.nodes()].map((n) => [
    ...[n.domain, n.op, marks.frozen.is(n)],
    n.inputs.map((v) => v?.constant && [v.constant.type, v.constant.dims, marks.frozen.is(v)]),
  ])
  return sha256(JSON.stringify(nodes))
}
