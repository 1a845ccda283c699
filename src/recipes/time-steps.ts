/**
 * How long the training steps of a recipe's stages take: each stage's graph is made with untrained weights, and a few real steps
 * are timed; stages whose step graphs have the same shape share one measurement. Steps of large networks are timed with fewer
 * images and scaled in proportion. A dry run estimates instead (estimate.ts).
 */
import { modelInfo } from '../analysis/model-info.ts'
import { readModel } from '../codec/codec.ts'
import { readPreprocess } from '../data/preprocess.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import { pixelsOf } from '../data/sample-set.ts'
import { cloneModel } from '../graph/clone.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { buildNetwork } from '../models/spec.ts'
import { recordSizes } from '../samples/input-shapes.ts'
import { RANDOM_EPOCH } from '../train/loop/batch-source.ts'
import { train } from '../train/loop/trainer.ts'
import { applyReading, runPasses } from './make.ts'
import type { Graphs, Recipe, Stage } from './recipe.ts'
import { DataCache } from './run.ts'
import { sha256 } from './work-folder.ts'

/** Most work of a timed step: about five seconds on two cores. */
const STEP_MACS = 40e9
/** Timed steps, after one that warms up. */
const TIMED_STEPS = 3
/** Forward and backward against forward alone. */
const BACKWARD = 3
const CALIBRATION_IMAGES = 32

/** Seconds of a step of each stage that trains, in their order. */
export async function timeSteps(recipe: Recipe): Promise<readonly number[]> {
  const timer = new StepTimer(recipe)
  const out: number[] = []
  for (const stage of recipe.stages) if (stage.train) out.push(await timer.stage(stage))
  return out
}

class StepTimer {
  readonly #recipe: Recipe
  readonly #data = new DataCache()
  readonly #models = new Map<string, Promise<Model>>()
  readonly #measured = new Map<string, { seconds: number; batch: number }>()

  constructor(recipe: Recipe) {
    this.#recipe = recipe
  }

  async stage(stage: Stage): Promise<number> {
    const model = await this.#model({ kind: 'stage', name: stage.name })
    const teacher = stage.teacher && (await this.#model(stage.teacher))
    const { seconds, batch } = await this.#step(stage, model, teacher, await this.#set(stage))
    return (seconds * stage.train!.batch) / batch
  }

  /** A graph of the right shape, trained or not. */
  #model(graph: Graphs): Promise<Model> {
    if (graph.kind === 'file') return readModel(graph.path)
    const known = this.#models.get(graph.name)
    if (known) return known
    const made = this.#make(this.#recipe.stages.find((s) => s.name === graph.name)!)
    this.#models.set(graph.name, made)
    return made
  }

  async #make(stage: Stage): Promise<Model> {
    const { source } = stage
    const model =
      source.kind === 'build' ? buildNetwork(source.spec, { seed: stage.seed }) : cloneModel(await this.#model(source))
    const quiet = (): void => {}
    recordSizes([model], stage.sizes)
    if (stage.data !== null) {
      const set = await this.#set(stage)
      await applyReading(stage, model, set, quiet)
      await runPasses(stage, model, set, quiet, { most: CALIBRATION_IMAGES })
    } else await runPasses(stage, model, null, quiet, { most: CALIBRATION_IMAGES })
    return model
  }

  async #set({ data, reading }: Stage): Promise<TrainingData> {
    return data === null || data === RANDOM ? RANDOM : this.#data.open(data, 'train', reading)
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
