/**
 * Compresses a model to a goal: looks at it, quantises it after training as strongly as the goal needs, splits what may be
 * spent among its layers, fine-tunes where that is not enough, and checks the file. What is chosen is chosen by samples that
 * are held out of the training split; the test split gives the final figure alone. All that is made on the way stays in the
 * work folder, where a run that ended goes on.
 */
import { fileBytes, modelInfo } from '../analysis/model-info.ts'
import { MncError } from '../base/errors.ts'
import type { LongRun } from '../base/long-run.ts'
import { parseOptions } from '../base/options.ts'
import { packageVersion } from '../base/package-files.ts'
import { checkModels } from '../check/check.ts'
import { encodeModel, readModel, writeModel } from '../codec/codec.ts'
import { RANDOM } from '../data/random-options.ts'
import { modelBytes } from '../export/gate-size.ts'
import { settingsFor } from '../export/targets/export-for.ts'
import { targetOf } from '../export/targets/index.ts'
import { cloneModel } from '../graph/clone.ts'
import { quantisable } from '../graph/exported.ts'
import type { Model } from '../graph/model.ts'
import type { RecipeFacts } from '../ptq/recipe-of.ts'
import { sha256 } from '../recipes/work-folder.ts'
import { cutsOffSums } from '../runtime/ort/cut-off-sums.ts'
import { recordSizes } from '../samples/input-shapes.ts'
import type { Shard } from '../shards/shard.ts'
import { adviceFor, notesOf } from './advice.ts'
import { type Asked, chosenOf, verdictOf } from './choose.ts'
import { type CompressOptionsInput, compressOptions } from './compress-options.ts'
import type { CompressResult } from './events.ts'
import { parseGoal, parseTime } from './goal.ts'
import { heldFor, limitFor } from './how-many.ts'
import { withLatencies } from './latencies.ts'
import { lookAt } from './look.ts'
import { isByHeart } from './mixed.ts'
import { Panel } from './panel.ts'
import { planOf } from './plan.ts'
import type { Point } from './point.ts'
import type { Run } from './run.ts'
import type { SampleSource } from './sample-source.ts'
import { openSamples, type Wanted } from './samples.ts'
import { Search, type Tell } from './search.ts'
import { doShare } from './shares.ts'
import { type Request, Work } from './work.ts'

/** Data and options of `compress`, and where its work folder is. */
export interface CompressRun extends Pick<LongRun, 'signal'> {
  /** A data reference, as `--data` takes it, or `random`. */
  readonly data: string
  /** Folder for what is made on the way; one that holds a run of the same model and data goes on. */
  readonly workdir: string
  /** Path of the model, which the recipe names; without it the model is written into the work folder. */
  readonly source?: string | undefined
  readonly options?: CompressOptionsInput
  readonly reading?: Wanted['reading']
  readonly pixels?: Wanted['pixels']
  readonly sizes?: RecipeFacts['sizes']
  /** Name of the recipe. */
  readonly name?: string
  /** Where the file is to go in the end: kept for whoever resumes. */
  readonly output?: string | undefined
  /** 0 by default. */
  readonly seed?: number
  /** Folder that large training steps are kept in for the next run. */
  readonly cache?: string | undefined
  /** Only look and plan. */
  readonly dryRun?: boolean
  /** Awaited when the work folder is this run's, before anything is made in it: for shares of the work by others. */
  readonly beforehand?: (() => Promise<void>) | undefined
}

/** Without labels, of the file's outputs and the float ones. */
const LEAST_COSINE = 0.999
const MOST_DROP = 0.01
/** Samples that the file is checked against its graph on. */
const CHECKED = 64

/**
 * The model stays as it is. A usage or model error, with the reason, where mnc cannot help. `null` after a dry run. Whether
 * the goal was met is in the result's verdict; it is no error here.
 */
export async function compress(model: Model, run: CompressRun & { readonly dryRun: true }, tell?: Tell): Promise<null>
export async function compress(model: Model, run: CompressRun, tell?: Tell): Promise<CompressResult>
export async function compress(
  model: Model,
  given: CompressRun,
  tell: Tell = () => {},
): Promise<CompressResult | null> {
  const start = performance.now()
  const { run, found } = await prepare(model, given, tell)
  await tell({ kind: 'found', found })
  const stages = planOf(run, found)
  await tell({ kind: 'plan', asked: run.asked, target: run.target.name, stages })
  if (given.dryRun) return null
  await given.beforehand?.()
  const left = stages.reduce((sum, s) => sum + (s.seconds ?? 0), 0)
  const made = await new Search(run, tell, left).points()
  const { points, float } = await withLatencies(run, made)
  const chosen = chosenOf(points, run.asked)!
  return conclude(run, { ...found, latency: float }, points, chosen, tell, start)
}

/** Does a share of the work that does not depend on what is found, in the run's work folder; returns how many items that were. */
export async function compressShare(
  model: Model,
  given: CompressRun,
  shard: Shard,
  tell: Tell = () => {},
): Promise<number> {
  const { run } = await prepare(model, given, tell)
  return doShare(run, shard, (done, total) => void tell({ kind: 'progress', label: 'items', done, total }))
}

async function prepare(model: Model, given: CompressRun, tell: Tell) {
  const o = parseOptions(compressOptions, given.options ?? {}, 'compress')
  quantisable(model)
  const goal = o.goal === undefined ? null : parseGoal(o.goal)
  if (o.time !== undefined) parseTime(o.time)
  const target = targetOf(o.target ?? (goal?.kind === 'bytes' || goal?.kind === 'score' ? 'size' : 'cpu'))
  const { deployThreads, deployBatch } = o
  const settings = settingsFor(target, { threads: deployThreads, batch: deployBatch }, 'deploy-')
  const { data, reading = {}, pixels = {}, sizes = {}, seed = 0, signal, cache } = given
  const log = (message: string): void => void tell({ kind: 'log', message })
  await tell({ kind: 'stage', stage: 'look', text: 'looking at the model and the data', secondsLeft: null })
  const float = cloneModel(model)
  recordSizes([float], sizes)
  const wantedDrop = o.maxDrop ?? (goal ? null : MOST_DROP)
  const path = given.source ?? new Work(given.workdir).at('float.onnx')
  const floatBytes = (given.source === undefined ? undefined : await fileBytes(model, path)) ?? modelBytes(model)
  const info = await modelInfo(float, { bytes: floatBytes })
  const held = o.held ?? heldFor(info.macs)
  const samples = await openSamples(float, { data, reading, pixels, labels: o.labels, held, batch: o.batch, log })
  if (o.maxDrop !== undefined && !samples.labelled) throw noLabels(data)
  const asked: Asked = {
    ...{ goal, maxDrop: samples.labelled ? wantedDrop : null, mostBytes: target.aim === 'bytes' ? floatBytes : null },
    minCosine: samples.labelled ? null : (o.minCosine ?? (goal ? null : LEAST_COSINE)),
  }
  const judging = { threads: o.threads, signal, onProgress: progress(tell) }
  const plain = await Panel.of(float, samples.held, judging)
  const panel = samples.mixed && isByHeart(plain.top1) ? await Panel.of(float, samples.mixed, judging) : plain
  const found = lookAt(float, info, samples, { plain, panel }, asked.maxDrop)
  const work = new Work(given.workdir)
  const identity = sha256(
    JSON.stringify([
      ...[packageVersion(), sha256(encodeModel(float)), samples.identity, panel !== plain, seed, o.batch, o.effort],
      ...(deployThreads || deployBatch ? [settings] : []),
    ]),
  )
  if (!given.dryRun) {
    await claim(work, requestOf(given, identity, path), log)
    if (given.source === undefined) await writeModel(model, path)
  }
  const { name = 'compress' } = given
  const recipeFacts: RecipeFacts = { name, model: path, data, preprocess: samples.preprocess, seed, reading, sizes }
  const widest = target.pick === 'fastest' && (await cutsOffSums()) ? 7 : 8
  const run: Run = {
    widest,
    limit: Math.min(o.limit ?? limitFor(info.macs), samples.fitted),
    ...{ float, floatBytes, work, samples, panel, o, target, asked, identity, recipeFacts, seed, signal, cache },
  }
  return { run, found }
}

const progress =
  (tell: Tell) =>
  (label: string, done: number, total: number): void =>
    void tell({ kind: 'progress', label, done, total })

const noLabels = (data: string): MncError =>
  new MncError(
    `--max-drop needs labels, and ${data === RANDOM ? 'random inputs have' : 'the data have'} none that fit`,
    {
      ...{
        code: 'no-labels',
        blame: 'user',
        next: 'use --min-cosine, which compares outputs with those of the float model',
      },
    },
  )

function requestOf(given: CompressRun, identity: string, model: string): Request {
  const { data, seed = 0, options = {}, reading = {}, pixels = {}, sizes = {}, output = '' } = given
  return { identity, model, data, seed, options: { ...options, ...reading, ...pixels, ...sizes }, output }
}

/** The folder is this run's; what is of another model or other data goes. */
async function claim(work: Work, request: Request, log: (message: string) => void): Promise<void> {
  const old = await work.request()
  if (old && old.identity !== request.identity) {
    log(`${work.path} holds points of another model, data or effort: they are replaced`)
    await work.clear()
  }
  await work.writeRequest(request)
}

/** The figure on the test samples, and the file against its graph. */
async function conclude(
  run: Run,
  found: CompressResult['found'],
  points: readonly Point[],
  chosen: Point,
  tell: Tell,
  start: number,
): Promise<CompressResult> {
  const { work, samples, o, signal, asked } = run
  await tell({ kind: 'stage', stage: 'check', text: `checking ${chosen.name}`, secondsLeft: null })
  const file = await readModel(work.pointAt(chosen.name, 'file'))
  const judge = await Panel.of(run.float, samples.test, {
    ...{ threads: o.threads, signal, onProgress: progress(tell) },
  })
  const test = await judge.judge(file)
  const graph = await readModel(work.pointAt(chosen.name, 'graph'))
  const { samples: checked, byOptimisation } = await checkModels(graph, file, { batches: first(samples.held, CHECKED) })
  const [held, figure] = [verdictOf(chosen, asked), verdictOf(chosen, asked, test)]
  const verdict = held.met ? figure : held
  return {
    ...{
      workdir: work.path,
      target: run.target.name,
      asked,
      found,
      points: [...points].sort((a, b) => a.bytes - b.bytes),
    },
    ...{ chosen, verdict, test, check: { samples: checked, byOptimisation } },
    ...{ notes: notesOf(run, chosen, found.latency, test), advice: adviceFor(run, verdict) },
    seconds: (performance.now() - start) / 1000,
  }
}

async function* first(source: SampleSource, count: number) {
  let n = 0
  for await (const batch of source.batches()) {
    if (n >= count) return
    n += batch.count
    yield batch
  }
}
