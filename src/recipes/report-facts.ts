/**
 * What a report says about a recipe's run, read from its work folder alone: each stage's record and loss curve, its
 * score (counted again where the recipe did not ask for one), and the layers of the last graph with its weights.
 */
import { existsSync } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type EffectiveLayer, effectiveLayers } from '../analysis/layers.ts'
import { type ModelInfo, modelInfo } from '../analysis/model-info.ts'
import { oneSample } from '../analysis/one-sample.ts'
import { MncError, usageError } from '../base/errors.ts'
import { fileError, readText } from '../base/files.ts'
import { readModel } from '../codec/codec.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { Totals } from '../score/report.ts'
import { score } from '../score/score.ts'
import type { StageRecord } from './record.ts'
import { type Deployed, deployedOf, latencies, type StageLatency } from './report-deployment.ts'
import { type LayerErrors, layerErrors } from './report-layers.ts'
import { WorkFolder } from './work-folder.ts'

export interface StageReport {
  readonly name: string
  readonly record: StageRecord
  /** The stage that its graph comes from; null if that is not a stage. */
  readonly from: string | null
  /** Loss before each step. */
  readonly losses: readonly { readonly step: number; readonly loss: number }[]
  /** null if the score does not cover a construct. */
  readonly score: Totals | null
  /** null where the graph cannot be exported. */
  readonly deployed: Deployed | null
}

export interface Histogram {
  readonly layer: string
  readonly shape: readonly number[]
  /** Fraction of the weights that are zero; they are left out of the counts. */
  readonly sparsity: number
  /** Middle of each bin. */
  readonly at: readonly number[]
  readonly counts: readonly number[]
}

/** What a report shows of a recipe's stages. */
export interface ReportFacts {
  readonly recipe: string
  readonly version: string
  readonly stages: readonly StageReport[]
  /** The stage that the last one goes back to, which may be itself. */
  readonly baseline: StageReport
  /** Of the baseline and the exports. */
  readonly latency: readonly StageLatency[]
  /** The last graph before it was exported: its layers have their names, and their weights the scales that were trained. */
  readonly detail: {
    readonly stage: string
    readonly info: ModelInfo
    readonly histograms: readonly Histogram[]
    /** Against the baseline; null where there is nothing to compare. */
    readonly errors: LayerErrors | null
  }
}

export interface FactsOptions {
  readonly log?: (message: string) => void
  /** For the latency of each file; 0 (the default) measures none. */
  readonly seconds?: number
}

/** Usage error where the folder has no finished stage. */
export async function reportFacts(
  path: string,
  { log = () => {}, seconds = 0 }: FactsOptions = {},
): Promise<ReportFacts> {
  const folder = new WorkFolder(path)
  const records = await finishedStages(folder)
  if (records.length === 0)
    throw usageError(`'${path}' contains no finished stage of a recipe`, 'create one with mnc run RECIPE --workdir DIR')
  const stages: StageReport[] = []
  for (const record of records) stages.push(await stageReport(record, folder, log))
  const last = stages.at(-1)!
  const baseline = rootOf(last, stages)
  return {
    recipe: last.record.recipe,
    version: last.record.version,
    stages,
    baseline,
    latency: await latencies(baseline.name, records, folder, { seconds, log }),
    detail: await detailOf(detailStage(stages), baseline, folder, log),
  }
}

function rootOf(stage: StageReport, stages: readonly StageReport[]): StageReport {
  const before = stages.find((s) => s.name === stage.from && s !== stage)
  // stages stand behind what they come from
  return before && stages.indexOf(before) < stages.indexOf(stage) ? rootOf(before, stages) : stage
}

/** In the order of the recipe. */
async function finishedStages(folder: WorkFolder): Promise<StageRecord[]> {
  const names = await readdir(folder.path).catch((error: unknown) => {
    throw fileError(error, folder.path, 'read')
  })
  const found: { record: StageRecord; made: number }[] = []
  for (const name of names.filter((n) => n.endsWith('.json')).sort()) {
    const stage = name.slice(0, -'.json'.length)
    const record = await folder.record(stage)
    if (record?.stage !== stage || record.status !== 'done' || !record.metrics) continue
    if (!existsSync(folder.files(stage).model)) continue
    found.push({ record, made: (await stat(join(folder.path, name))).mtimeMs })
  }
  // records of version 0.1.0 have no place in the recipe; what was made first comes first
  found.sort((a, b) => (a.record.index ?? 0) - (b.record.index ?? 0) || a.made - b.made)
  return sourcesFirst(found.map((f) => f.record))
}

/** The same order, but no stage stands before one that its graph or its teacher comes from. */
function sourcesFirst(records: readonly StageRecord[]): StageRecord[] {
  const byName = new Map(records.map((r) => [r.stage, r]))
  const out = new Set<StageRecord>()
  const visit = (r: StageRecord, above: ReadonlySet<StageRecord>): void => {
    if (out.has(r) || above.has(r)) return
    for (const name of [stageIn(r.settings.source), stageIn(r.settings.teacher)]) {
      const before = name === null ? undefined : byName.get(name)
      if (before) visit(before, new Set([...above, r]))
    }
    out.add(r)
  }
  for (const r of records) visit(r, new Set())
  return [...out]
}

/** The name of the stage that a setting refers to. */
function stageIn(setting: unknown): string | null {
  if (typeof setting !== 'object' || setting === null || !('kind' in setting) || !('name' in setting)) return null
  return setting.kind === 'stage' && typeof setting.name === 'string' ? setting.name : null
}

async function stageReport(
  record: StageRecord,
  folder: WorkFolder,
  log: (message: string) => void,
): Promise<StageReport> {
  const files = folder.files(record.stage)
  return {
    name: record.stage,
    record,
    from: stageIn(record.settings.source),
    losses: await readLosses(files.log),
    score: record.metrics!.score ?? (await scoreOf(files.model, log)),
    deployed: await deployedOf(record, folder, log),
  }
}

async function scoreOf(path: string, log: (message: string) => void): Promise<Totals | null> {
  try {
    return await score(await readModel(path))
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    log(`no score for ${path}: ${error.describe()}`)
    return null
  }
}

async function readLosses(path: string): Promise<{ step: number; loss: number }[]> {
  const text = existsSync(path) ? await readText(path) : ''
  return text.split('\n').flatMap((line) => {
    try {
      const entry: unknown = JSON.parse(line)
      if (typeof entry !== 'object' || entry === null || !('step' in entry) || !('loss' in entry)) return []
      return [{ step: Number(entry.step), loss: Number(entry.loss) }]
    } catch {
      return [] // an empty line, or one cut short
    }
  })
}

/** The last stage, or the one that it was exported from. */
function detailStage(stages: readonly StageReport[]): string {
  const last = stages.at(-1)!
  const exported = last.record.export != null && stages.some((s) => s.name === last.from)
  return exported ? last.from! : last.name
}

async function detailOf(
  stage: string,
  baseline: StageReport,
  folder: WorkFolder,
  log: (message: string) => void,
): Promise<ReportFacts['detail']> {
  const model = await readModel(folder.files(stage).model)
  const layers = await effectiveLayers(await oneSample(model, log), log)
  const { data } = baseline.record.settings
  const [first, file] = [folder.files(baseline.name).model, folder.files(stage).model]
  const errors =
    stage === baseline.name ? null : await layerErrors({ baseline: [baseline.name, first], file, data, log })
  return { stage, info: await modelInfo(model, { warn: log }), histograms: layers.map(histogramOf), errors }
}

/** Odd, so that one bin is around zero. */
const BINS = 41

function histogramOf({ name, values, zeros }: EffectiveLayer): Histogram {
  const x = values.toFloat32()
  const top = x.reduce((m, w) => Math.max(m, Math.abs(w)), 0) || 1
  const counts = new Array<number>(BINS).fill(0)
  for (const w of x) if (w !== 0) counts[binOf(w, top)]!++
  const at = counts.map((_, i) => ((i - (BINS - 1) / 2) / ((BINS - 1) / 2)) * top)
  return { layer: name, shape: values.dims, sparsity: share(zeros, values), at, counts }
}

const binOf = (w: number, top: number): number => Math.round(((w / top + 1) / 2) * (BINS - 1))
const share = (zeros: number, t: Tensor): number => (t.size === 0 ? 0 : zeros / t.size)
