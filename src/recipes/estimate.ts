/**
 * What a recipe would do and about how long it would take on this machine, found out in a second or two: no stage is made. Of each
 * network that stages start from, one forward pass of a few random inputs is timed; a step of training takes
 *
 *   batch (TRAINING x forward of the student + forward of the teacher)
 *
 * What passes change (masks, quantisers, fewer channels) is not in it. Right within a factor of two or so (docs/decisions.md);
 * what trains against the clock times real steps (time-steps.ts).
 */
import { existsSync } from 'node:fs'
import { MncError } from '../base/errors.ts'
import { readModel } from '../codec/codec.ts'
import type { Split } from '../data/dataset.ts'
import { parseDataReference } from '../data/open.ts'
import { RANDOM } from '../data/random-options.ts'
import type { Model } from '../graph/model.ts'
import { buildNetwork } from '../models/spec.ts'
import { openDevice } from '../runtime/devices/device.ts'
import { inputDims } from '../samples/input-shapes.ts'
import { randomFeeds } from '../samples/random-feeds.ts'
import { RANDOM_EPOCH } from '../train/loop/batch-source.ts'
import { keysOf } from './key.ts'
import type { Graphs, Recipe, Stage } from './recipe.ts'
import { chosenStages, DataCache, missingInputs, type RunOptions, staleness } from './run.ts'
import { WorkFolder } from './work-folder.ts'

/** What a stage would do, and about how long that would take. */
export interface StageEstimate {
  readonly stage: Stage
  /** null where its files are up to date. */
  readonly reason: string | null
  readonly training: {
    /** null where the size of the data set is unknown. */
    readonly steps: number | null
    /** null where the network cannot be timed. */
    readonly secondsPerStep: number | null
  } | null
  /** Training, BN update and measuring; 0 for a stage that is up to date, null where it is unknown. */
  readonly seconds: number | null
}

/** Forward pass, backward pass and update of a step against a forward pass as a step has it: 2.3 to 6.3, of networks of convolutions. */
const TRAINING = 4
/** Inference against that, with all that onnxruntime fuses: 0.15 to 0.5. */
const INFERENCE = 0.35
/** Inputs of the pass that is timed: a small network needs more, for a time that is proportional to them. */
const FEW = 2
const MANY = 8
/** Seconds of a pass that tells enough. */
const LONG = 0.05

/** Images of the standard sets' splits, for those that are not there yet. */
const standardSizes: Readonly<Record<string, Readonly<Record<Split, number>>>> = {
  cifar10: { train: 50_000, test: 10_000 },
  cifar100: { train: 50_000, test: 10_000 },
  mnist: { train: 60_000, test: 10_000 },
}

/** What a recipe would do, and about how long that would take; nothing is made. */
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
  readonly #data = new DataCache((message) => this.#options.onEvent?.({ kind: 'log', message }))
  /** Seconds of a forward pass of one input, by what the network comes from. */
  readonly #times = new Map<string, Promise<number | null>>()
  readonly #sizes = new Map<string, Promise<number | null>>()
  readonly #stale = new Set<string>()

  constructor(folder: WorkFolder, options: RunOptions) {
    this.#folder = folder
    this.#options = options
  }

  async stage(stage: Stage, recipe: Recipe): Promise<StageEstimate> {
    const reason = await this.#reason(stage)
    if (reason === null) return { stage, reason, training: null, seconds: 0 }
    this.#stale.add(stage.name)
    const forward = await this.#forward({ kind: 'stage', name: stage.name }, recipe)
    const training = stage.train ? await this.#training(stage, forward, recipe) : null
    const rest = await this.#measuring(stage, forward)
    const { steps, secondsPerStep } = training ?? { steps: 0, secondsPerStep: 0 }
    const isKnown = steps !== null && secondsPerStep !== null && rest !== null
    return { stage, reason, training, seconds: isKnown ? steps * secondsPerStep + rest : null }
  }

  async #reason(stage: Stage): Promise<string | null> {
    if (this.#options.resume === false) return 'made again'
    const inputs = [stage.source, stage.teacher, ...stage.checks.map((c) => c.against)]
    const changing = inputs.find((g) => g?.kind === 'stage' && this.#stale.has(g.name))
    if (changing?.kind === 'stage') return `${changing.name} comes first`
    if (missingInputs(stage, this.#folder).length > 0) return 'not made yet'
    const record = await this.#folder.record(stage.name)
    // without data, which may take long to open
    if (!record && !existsSync(this.#folder.files(stage.name).model)) return 'not made yet'
    const training = await this.#data.training(stage).catch(() => undefined)
    if (training === undefined) return 'its data are missing'
    const keys = await keysOf(stage, this.#folder, training)
    return staleness(stage, record, keys, this.#folder)
  }

  async #training(stage: Stage, forward: number | null, recipe: Recipe): Promise<StageEstimate['training']> {
    const options = stage.train!
    const { batch, accumulate, limit, maxSteps, epochs, valFraction } = options
    const samples = stage.data === RANDOM ? (limit ?? RANDOM_EPOCH) : await this.#size(stage, 'train')
    const used = samples === null ? null : Math.min(samples, limit ?? samples) * (1 - valFraction)
    const whole = used === null ? null : Math.max(1, Math.round(Math.floor(used / (batch * accumulate)) * epochs))
    const steps = whole === null ? (maxSteps ?? null) : Math.min(whole, maxSteps ?? whole)
    const teacher = stage.teacher ? await this.#forward(stage.teacher, recipe) : 0
    const isKnown = forward !== null && teacher !== null
    return { steps, secondsPerStep: isKnown ? batch * accumulate * (TRAINING * forward + teacher) : null }
  }

  /** Seconds of the forward passes alone: BN update and evaluation. */
  async #measuring({ bnUpdate, eval: measured, ...stage }: Stage, forward: number | null): Promise<number | null> {
    const count = async (split: Split, limit: number | undefined): Promise<number | null> => {
      const size = await this.#size(stage, split)
      return size === null ? null : Math.min(size, limit ?? size)
    }
    const updated = bnUpdate ? await count('train', bnUpdate.limit) : 0
    const evaluated = measured ? await count('test', measured.limit) : 0
    if (updated === null || evaluated === null || forward === null) return null
    return INFERENCE * forward * (updated * (bnUpdate?.epochs ?? 0) + evaluated)
  }

  /** Samples of a split; null where the data are not there, and are none of a standard size. */
  #size({ data: reference, reading }: Pick<Stage, 'data' | 'reading'>, split: Split): Promise<number | null> {
    if (reference === null || reference === RANDOM) return Promise.resolve(null)
    const key = JSON.stringify([reference, reading, split])
    const size = this.#sizes.get(key) ?? this.#openSize(reference, reading, split)
    this.#sizes.set(key, size)
    return size
  }

  async #openSize(reference: string, reading: Stage['reading'], split: Split): Promise<number | null> {
    try {
      return (await this.#data.open(reference, split, reading)).size
    } catch (error) {
      if (!(error instanceof MncError)) throw error
      const size = standardSizes[parseDataReference(reference).kind]?.[split] ?? null
      const assumed = size === null ? 'its size is unknown' : `it is taken to have ${size.toLocaleString('en')} images`
      this.#options.onEvent?.({ kind: 'log', message: `${error.describe()}; ${assumed}` })
      return size
    }
  }

  /** Of the network that a graph starts from. */
  #forward(graph: Graphs, recipe: Recipe): Promise<number | null> {
    const stage = graph.kind === 'stage' ? recipe.stages.find((s) => s.name === graph.name)! : null
    if (stage && stage.source.kind !== 'build') return this.#forward(stage.source, recipe)
    const key = JSON.stringify(stage ? stage.source : graph)
    const time = this.#times.get(key) ?? this.#timed(stage, graph)
    this.#times.set(key, time)
    return time
  }

  async #timed(stage: Stage | null, graph: Graphs): Promise<number | null> {
    if (stage?.source.kind === 'build') return forwardSeconds(buildNetwork(stage.source.spec, { seed: null }))
    if (graph.kind !== 'file' || !existsSync(graph.path)) return null
    const model = await readModel(graph.path)
    return forwardSeconds(model)
  }
}

/** Seconds that one input takes; null where the model cannot be run with inputs of the shapes that it declares. */
async function forwardSeconds(model: Model): Promise<number | null> {
  const declared = Object.entries(inputDims(model))
  const isOpen = declared.some(([, dims]) => dims.some((d, i) => typeof d !== 'number' && i > 0))
  if (declared.length === 0 || isOpen) return null
  // as a step of training runs it: what inference fuses, it does not
  const session = await (await openDevice('cpu')).load(model, { optimization: 'disabled' })
  const feeds = randomFeeds(model)
  const run = async (batch: number): Promise<{ seconds: number; each: number }> => {
    const dims = declared.map(([name, own]) => [name, own.map((d) => (typeof d === 'number' ? d : batch))] as const)
    const given = feeds(Object.fromEntries(dims), [0, 0, 0])
    const start = performance.now()
    await session.run(given)
    const seconds = (performance.now() - start) / 1000
    return { seconds, each: seconds / Math.max(1, dims[0]![1][0] ?? 1) }
  }
  try {
    const few = await run(FEW)
    if (few.seconds > LONG) return few.each
    const first = await run(MANY)
    return first.seconds > LONG ? first.each : Math.min(first.each, (await run(MANY)).each)
  } catch (error) {
    if (error instanceof MncError) return null
    throw error
  } finally {
    await session.dispose()
  }
}
