/**
 * Makes a point: the float model quantised by post-training quantisation with the given widths, exported for the target, and
 * judged as it will run. What was done is kept as a recipe, which makes the same file again.
 */
import { modelInfo } from '../analysis/model-info.ts'
import { MncError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { readModel, writeModel } from '../codec/codec.ts'
import { exportToTarget, formText, settingsFor } from '../export/targets/export-for.ts'
import type { Model } from '../graph/model.ts'
import { type PtqEvent, ptq } from '../ptq/ptq.ts'
import type { PtqOptionsInput } from '../ptq/ptq-options.ts'
import { recipeOf } from '../ptq/recipe-of.ts'
import { layerSummary } from '../recipes/measure.ts'
import { sha256 } from '../recipes/work-folder.ts'
import { score } from '../score/score.ts'
import type { Point } from './point.ts'
import { exportStage, type RecipeJson } from './recipe-json.ts'
import type { Run } from './run.ts'

/** What a point is to be. */
export interface Candidate {
  readonly name: string
  readonly summary: string
  readonly options: PtqOptionsInput
}

/** The point, made now or before. Errors are those of ptq and of the export. */
export async function makeCandidate(
  run: Run,
  { name, summary, options }: Candidate,
  onPtq: (event: PtqEvent) => void | Promise<void>,
): Promise<Point> {
  const { work, samples, seed, signal } = run
  const all = { ...ptqDefaults(run), ...options }
  const key = sha256(JSON.stringify([run.identity, run.target.name, all]))
  const known = await work.point(name, key)
  if (known) return known
  const start = performance.now()
  await work.folderFor(name)
  const { training, preprocess } = samples
  const made = await ptq(run.float, { data: training, preprocess, options: all, seed, signal, cache: run.cache }, onPtq)
  await writeModel(made.model, work.pointAt(name, 'graph'))
  const recipe = recipeOf(made.sequence, run.recipeFacts)
  return finish(run, { name, summary, key, recipe, start })
}

/** Options that every quantising of a run has. */
export function ptqDefaults({ o, limit }: Pick<Run, 'o' | 'limit'>): PtqOptionsInput {
  const { effort, batch, workers, threads, allowNonfinite } = o
  return { effort, limit, batch, workers, threads, allowNonfinite }
}

interface Made extends Pick<Point, 'name' | 'summary' | 'key'> {
  /** Up to the quantised graph, which lies in the folder. */
  readonly recipe: RecipeJson
  readonly start: number
}

/** Exports what lies in the point's folder, judges it, and writes the facts. */
export async function finish(run: Run, { name, summary, key, recipe, start }: Made): Promise<Point> {
  const { work, samples } = run
  const graph = await readModel(work.pointAt(name, 'graph'))
  const best = await exportAsPicked(run, { name, key }, graph)
  await writeModel(best.model, work.pointAt(name, 'file'))
  const withExport = exportStage(recipe, best.options, samples.labelled)
  await writeFileAtomic(work.pointAt(name, 'recipe'), `${JSON.stringify(withExport, null, 2)}\n`)
  const file = await readModel(work.pointAt(name, 'file'))
  const info = await modelInfo(graph, { bytes: 0 })
  const point: Point = {
    ...{ name, summary, key, bytes: best.report.bytes, format: best.report.format, macs: info.macs },
    ...layerSummary(info.layers),
    score: await scoreOf(graph),
    latency: null,
    held: await run.panel.judge(file),
    seconds: (performance.now() - start) / 1000,
  }
  await work.writePoint(point)
  return point
}

/**
 * In the form that the target picks. Where that takes a measurement, another would pick another one: it is written down
 * before the file is, so that a run that goes on keeps to it.
 */
async function exportAsPicked({ work, target, seed, o }: Run, { name, key }: Pick<Made, 'name' | 'key'>, graph: Model) {
  const known = await work.form(name, key)
  const forms = target.forms.filter((f) => formText(f) === known)
  if (forms.length > 0) return exportToTarget(graph, { ...target, pick: 'first', forms }, { seed })
  const settings = settingsFor(target, { threads: o.deployThreads, batch: o.deployBatch }, 'deploy-')
  const best = await exportToTarget(graph, target, { seed, settings })
  if (target.pick === 'fastest') await work.writeForm(name, key, best.picked!.form)
  return best
}

/** null for constructs that the rules do not cover. */
async function scoreOf(graph: Model): Promise<number | null> {
  try {
    return (await score(graph)).score
  } catch (error) {
    if (error instanceof MncError) return null
    throw error
  }
}
