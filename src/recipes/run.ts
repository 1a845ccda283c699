/**
 * Runs a recipe: stages in order, each made, measured and recorded in the work folder; skipped if its files were made
 * from the same inputs with the same options by the same version. Ends at the first gate that fails.
 */
import { existsSync } from 'node:fs'
import { MncError, usageError } from '../base/errors.ts'
import { interrupted, type LongRun } from '../base/long-run.ts'
import { nearest } from '../base/options.ts'
import { packageVersion } from '../base/package-files.ts'
import { Once, recordReads } from '../base/reads.ts'
import { gateCheck } from '../check/check-options.ts'
import { writeModel } from '../codec/codec.ts'
import type { SampleSet } from '../data/array-set.ts'
import type { Split } from '../data/dataset.ts'
import { openDataset, openOptions } from '../data/open.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import type { TrainEvent } from '../train/loop/trainer.ts'
import { refuseMisfits } from './fits.ts'
import { keysOf, pathOf, type StageKeys, usesTestData, usesTrainingData } from './key.ts'
import { make } from './make.ts'
import { measure } from './measure.ts'
import type { Recipe, Stage } from './recipe.ts'
import type { StageMetrics, StageRecord } from './record.ts'
import { ShownWarnings } from './shown-warnings.ts'
import { WorkFolder } from './work-folder.ts'

/** Where a recipe runs, and which of its stages. */
export interface RunOptions extends Pick<LongRun, 'signal'> {
  readonly workdir: string
  /** First stage to consider; those before it are taken as they are in the work folder. */
  readonly from?: string | undefined
  /** Last stage to run. */
  readonly until?: string | undefined
  /** Whether finished stages are skipped and a half-trained one continued; true by default. */
  readonly resume?: boolean | undefined
  readonly checkpointSteps?: number | undefined
  /** Folder in which large training steps are kept for the next stage or run; without it they are not kept. */
  readonly cache?: string | undefined
  readonly onEvent?: ((event: RunEvent) => void) | undefined
}

/** What `runRecipe` reports while it runs. */
export type RunEvent =
  | { readonly kind: 'stage'; readonly stage: Stage; readonly index: number; readonly reason: string | null }
  | { readonly kind: 'train'; readonly stage: Stage; readonly event: TrainEvent }
  | { readonly kind: 'progress'; readonly label: string; readonly done: number; readonly total: number }
  | { readonly kind: 'log'; readonly message: string }
  | { readonly kind: 'done'; readonly stage: Stage; readonly result: StageResult }

/** What a run did with a stage. */
export interface StageResult {
  readonly stage: string
  readonly status: 'made' | 'measured' | 'skipped'
  readonly output: string
  readonly seconds: number
  readonly metrics: StageMetrics
}

/** What a run made, and the gate that ended it. */
export interface RunResult {
  readonly recipe: string
  readonly workdir: string
  readonly stages: readonly StageResult[]
  /** The gate that failed and ended the run; thrown by callers that want an exit code. */
  readonly failed: MncError | null
}

/** Data sets opened once per run; the notes on them are printed once. */
export class DataCache {
  readonly #sets = new Map<string, Once<SampleSet>>()
  readonly #said = new Set<string>()
  readonly #log: (message: string) => void

  constructor(log: (message: string) => void = () => {}) {
    this.#log = log
  }

  open(reference: string, split: Split, { classes, ...reading }: Stage['reading']): Promise<SampleSet> {
    const key = JSON.stringify([reference, split, reading])
    const known =
      this.#sets.get(key) ??
      new Once(async () => {
        const set = await openDataset(
          reference,
          split,
          openOptions(reading, (note) => this.#say(note)),
        )
        for (const note of set.notes) this.#say(note)
        return set
      })
    this.#sets.set(key, known)
    return known.get()
  }

  #say(note: string): void {
    if (!this.#said.has(note)) this.#log(`note: ${note}`)
    this.#said.add(note)
  }

  /** What a stage's graph depends on; null where it needs none. */
  async training(stage: Stage): Promise<TrainingData | null> {
    if (stage.data === RANDOM) return RANDOM
    const pixels = Object.values(stage.pixels).some((v) => v !== undefined)
    return stage.data !== null && (usesTrainingData(stage) || pixels)
      ? this.open(stage.data, 'train', stage.reading)
      : null
  }

  /** What a stage is measured on; null where nothing is. */
  async test(stage: Stage): Promise<SampleSet | null> {
    return stage.data !== null && usesTestData(stage) ? this.open(stage.data, 'test', stage.reading) : null
  }
}

/** The stages that --from and --until leave. */
export function chosenStages(recipe: Recipe, from: string | undefined, until: string | undefined): readonly Stage[] {
  const names = recipe.stages.map((s) => s.name)
  const index = (name: string, flag: string): number => {
    const at = names.indexOf(name)
    if (at >= 0) return at
    const near = nearest(name, names)
    throw usageError(
      `${flag}: recipe '${recipe.name}' has no stage '${name}'${near ? `, did you mean '${near}'?` : ''}`,
      `stages: ${names.join(', ')}`,
    )
  }
  const first = from === undefined ? 0 : index(from, '--from')
  const last = until === undefined ? names.length - 1 : index(until, '--until')
  if (first > last) throw usageError(`--from ${from} comes after --until ${until}`)
  return recipe.stages.slice(first, last + 1)
}

/** Why a stage has to run; null if its files match its options. */
export async function staleness(
  stage: Stage,
  record: StageRecord | null,
  keys: StageKeys,
  folder: WorkFolder,
): Promise<string | null> {
  const { model } = folder.files(stage.name)
  if (!record) return existsSync(model) ? 'there is no record of how its file was made' : 'not made yet'
  if (record.version !== packageVersion()) return `made by version ${record.version}`
  if (record.key !== keys.key) return 'its inputs or options changed'
  if (record.status !== 'done') return 'partly done'
  if (!existsSync(model)) return 'its file is missing'
  if (record.output !== (await folder.hashOf(model))) return 'its file was changed'
  const changed = await folder.changedSince(record.reads?.make ?? {})
  return changed === null ? null : `${changed}, from which it was made, has changed`
}

/** Input graphs that neither an earlier stage nor the work folder has. */
export function missingInputs(stage: Stage, folder: WorkFolder): readonly string[] {
  const inputs = [stage.source, stage.teacher, ...stage.checks.map((c) => c.against)]
  return inputs.flatMap((g) => (g && g.kind !== 'build' && !existsSync(pathOf(g, folder)) ? [pathOf(g, folder)] : []))
}

/** Makes the stages of a recipe that are not up to date, in order; ends at the first gate that fails. */
export async function runRecipe(recipe: Recipe, options: RunOptions): Promise<RunResult> {
  const folder = new WorkFolder(options.workdir)
  const stages = chosenStages(recipe, options.from, options.until)
  const onEvent = options.onEvent ?? (() => {})
  const data = new DataCache((message) => onEvent({ kind: 'log', message }))
  const shown = new ShownWarnings(recipe)
  // what is missing or wrong of the last stage's data should be reported before the first one has trained
  for (const stage of stages) {
    await refuseMisfits(recipe, stage, await data.training(stage), await data.test(stage))
  }
  await folder.create()
  const results: StageResult[] = []
  let failed: MncError | null = null
  try {
    for (const stage of stages) {
      const result = await runStage(recipe, stage, { folder, data, shown }, options, onEvent)
      results.push(result)
      onEvent({ kind: 'done', stage, result })
      failed = failedGate(stage, result)
      if (failed) break
    }
  } catch (error) {
    if (!options.signal?.aborted) throw error
    const what = error instanceof MncError && error.blame === 'interrupt' ? error.message : 'interrupted'
    throw interrupted(what, 'the same command continues from here')
  }
  return { recipe: recipe.name, workdir: options.workdir, stages: results, failed }
}

async function runStage(
  recipe: Recipe,
  stage: Stage,
  { folder, data, shown }: { readonly folder: WorkFolder; readonly data: DataCache; readonly shown: ShownWarnings },
  options: RunOptions,
  onEvent: (event: RunEvent) => void,
): Promise<StageResult> {
  const { name } = stage
  const started = performance.now()
  const seconds = (): number => (performance.now() - started) / 1000
  const [missing] = missingInputs(stage, folder)
  if (missing)
    throw usageError(`stage '${name}' needs ${missing}, which does not exist`, 'run the stages before it first')
  const files = folder.files(name)
  const keys = await keysOf(stage, folder, await data.training(stage))
  const old = await folder.record(name)
  const isAnew = options.resume === false
  const reason = isAnew ? 'made again' : await staleness(stage, old, keys, folder)
  const index = recipe.stages.indexOf(stage)
  onEvent({ kind: 'stage', stage, index, reason })
  const base = { recipe: recipe.name, stage: name, index, version: packageVersion(), ...keys }
  const context = {
    ...{ folder, signal: options.signal, checkpointSteps: options.checkpointSteps, cache: options.cache },
    log: (message: string) => {
      if (shown.isNew(stage, message)) onEvent({ kind: 'log', message })
    },
    progress: (label: string, done: number, total: number) => onEvent({ kind: 'progress', label, done, total }),
    onTrain: (event: TrainEvent) => onEvent({ kind: 'train', stage, event: shown.newsOf(stage, event) }),
  }
  let record: StageRecord | null = reason === null ? old : null
  if (!record) {
    if (isAnew || old?.key !== keys.key || old.status !== 'running') await folder.dropCheckpoint(name)
    await folder.writeRecord(name, { ...base, status: 'running' })
    const { result: made, reads } = await recordReads(async () =>
      make(stage, { ...context, train: await data.training(stage) }),
    )
    const stamps = await folder.stampsOf(reads, name)
    await writeModel(made.model, files.model)
    folder.forget(files.model)
    const { tensors: _, ...report } = made.export ?? { tensors: null }
    record = {
      ...{ ...base, measureKey: '', status: 'done', output: await folder.hashOf(files.model) },
      reads: { make: stamps },
      ...{
        train: made.train,
        activationBits: made.activationBits,
        export: made.export ? (report as Omit<typeof made.export, 'tensors'>) : null,
      },
    }
    await folder.writeRecord(name, record)
    await folder.dropCheckpoint(name)
  }
  const result = (status: StageResult['status'], metrics: StageMetrics): StageResult => ({
    ...{ stage: name, status, output: files.model, seconds: seconds(), metrics },
  })
  const { make: madeFrom = {}, measure: measuredFrom } = record.reads ?? {}
  if (record.metrics && record.measureKey === keys.measureKey && measuredFrom)
    if ((await folder.changedSince(measuredFrom)) === null) return result('skipped', record.metrics)
  const { result: measured, reads } = await recordReads(async () =>
    measure(stage, { ...context, test: await data.test(stage) }),
  )
  const metrics = { ...measured, activationBits: record.activationBits ?? measured.activationBits }
  const stamps = { make: madeFrom, measure: await folder.stampsOf(reads, name) }
  const done = { ...record, measureKey: keys.measureKey, reads: stamps, metrics }
  await folder.writeRecord(name, { ...done, seconds: reason === null ? (record.seconds ?? seconds()) : seconds() })
  return result(reason === null ? 'measured' : 'made', metrics)
}

/** The first gate of the stage that its measurements do not pass. */
function failedGate(stage: Stage, { metrics, output }: StageResult): MncError | null {
  try {
    const { eval: measured } = metrics
    const least = stage.eval?.minAccuracy
    if (measured && least !== undefined && measured.top1 < least) {
      const shares = [measured.top1, least].map((x) => `${(x * 100).toFixed(2)} %`)
      const message = `top-1 is ${shares[0]}, below min-accuracy ${shares[1]}`
      throw new MncError(message, { code: 'min-accuracy', blame: 'gate', file: output })
    }
    for (const { result, gates, against } of metrics.checks) gateCheck(result, gates, `${output} against ${against}`)
    return null
  } catch (error) {
    if (error instanceof MncError) return error
    throw error
  }
}
