/**
 * Makes a stage's graph, by the same library calls, in the same order and with the same records as the individual commands
 * build, pass, train, bn-update and export: a Makefile that chains those gives the same bytes.
 */

import { fileBytes, modelInfo } from '../analysis/model-info.ts'
import { usageError } from '../base/errors.ts'
import { fingerprint, readModel } from '../codec/codec.ts'
import { calibrationData } from '../data/calibration.ts'
import { loadClassOrder } from '../data/class-order.ts'
import { type Preprocess, readPreprocess, writePreprocess } from '../data/preprocess.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import { pixelsOf } from '../data/sample-set.ts'
import type { ExportReport } from '../export/export-report.ts'
import { type ExportSource, gateSize, modelBytes } from '../export/gate-size.ts'
import { describePicked, exportFor } from '../export/targets/export-for.ts'
import { writeClassOrder } from '../graph/class-names.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { describeDeclined } from '../layers/left-weights.ts'
import { buildNetwork } from '../models/spec.ts'
import { recordHistory } from '../pass-manager/history.ts'
import { applyPass } from '../pass-manager/manager.ts'
import { announceDevice } from '../runtime/devices/device.ts'
import { recordSizes } from '../samples/input-shapes.ts'
import { updateBatchNorm } from '../train/loop/bn-update.ts'
import { recordTraining } from '../train/loop/record.ts'
import { type TrainEvent, type TrainRun, type TrainSummary, train } from '../train/loop/trainer.ts'
import { TrainingLog } from '../train/loop/training-log.ts'
import { pathOf } from './key.ts'
import { layerSummary } from './measure.ts'
import type { Stage } from './recipe.ts'
import type { WorkFolder } from './work-folder.ts'

export interface MakeContext {
  readonly folder: WorkFolder
  readonly train: TrainingData | null
  readonly signal?: AbortSignal | undefined
  readonly checkpointSteps?: number | undefined
  readonly cache?: string | undefined
  log(message: string): void
  progress(label: string, done: number, total: number): void
  onTrain(event: TrainEvent): void | Promise<void>
}

export interface Made {
  readonly model: Model
  readonly train: TrainSummary | null
  readonly export: ExportReport | null
  /** Of the graph that was exported: in the file itself rounding may be plain arithmetic, from which no width can be read. */
  readonly activationBits: number | null
}

/** The graph that the stage starts from. */
export async function sourceModel(stage: Stage, folder: WorkFolder): Promise<Model> {
  const { source, seed } = stage
  if (source.kind === 'build') return buildNetwork(source.spec, { seed })
  return readModel(pathOf(source, folder))
}

/** Writes the stage's `pixels` and the names of its classes into a model, where it has any. */
export async function applyReading(stage: Stage, model: Model, data: TrainingData | null, log: (m: string) => void) {
  const { classes } = stage.reading
  if (classes !== undefined) writeClassOrder(model, loadClassOrder(classes))
  await applyPixels(stage, model, data, log)
}

async function applyPixels(stage: Stage, model: Model, data: TrainingData | null, log: (m: string) => void) {
  if (Object.values(stage.pixels).every((v) => v === undefined)) return
  if (!data || data === RANDOM) throw usageError(`stage '${stage.name}': it has pixels but no images`)
  const preprocess = await pixelsOf(model, data, stage.pixels, log)
  if (preprocess) writePreprocess(model, preprocess)
}

/** `most`: images to calibrate on at most, for a dry run. */
export async function runPasses(
  stage: Stage,
  model: Model,
  source: TrainingData | null,
  log: (message: string) => void,
  {
    most = Number.POSITIVE_INFINITY,
    signal,
  }: { readonly most?: number; readonly signal?: AbortSignal | undefined } = {},
): Promise<void> {
  for (const { def, options, calibration } of stage.passes) {
    const limits = calibration && { ...calibration, limit: Math.min(calibration.limit, most) }
    const data = limits && source !== null ? await calibrationData(model, source, { ...limits, warn: log }) : null
    const result = await applyPass(model, def, options, {
      ...{ seed: stage.seed, log, signal },
      ...(data && { calibration: data }),
    })
    for (const line of describeDeclined(def.alias ?? def.name, result)) log(line)
  }
}

export async function teacherOf(stage: Stage, folder: WorkFolder, student: Preprocess | undefined) {
  if (!stage.teacher) return undefined
  const model = await readModel(pathOf(stage.teacher, folder))
  return { model, preprocess: readPreprocess(model) ?? student }
}

/** Makes the graph; resumes training where the work folder has a checkpoint. */
export async function make(stage: Stage, c: MakeContext): Promise<Made> {
  const model = await sourceModel(stage, c.folder)
  recordSizes([model], stage.sizes)
  await applyReading(stage, model, c.train, c.log)
  await runPasses(stage, model, c.train, c.log, { signal: c.signal })
  const summary = stage.train ? await trainStage(stage, model, c) : null
  if (stage.bnUpdate) await updateStage(stage, model, c)
  if (!stage.export) return { model, train: summary, export: null, activationBits: null }
  const { activationBits } = layerSummary((await modelInfo(model, { bytes: 0 })).layers)
  const exported = await exportFor(model, stage.export, {
    ...{ log: c.log, seed: stage.seed, signal: c.signal },
    ...(c.train !== null && { calibration: () => calibrationData(model, c.train!, { warn: c.log }) }),
  })
  if (exported.picked) c.log(describePicked(exported.picked))
  gateSize(exported.report, await exportedFrom(stage, c.folder, model), stage.export.allowLarger, c.log)
  for (const line of describeDeclined('export', exported.report)) c.log(line)
  return { model: exported.model, train: summary, export: exported.report, activationBits }
}

/** What the stage's file is compared with: the file that the stage starts from, or the network that it builds. */
async function exportedFrom({ source }: Stage, folder: WorkFolder, model: Model): Promise<ExportSource> {
  if (source.kind === 'build') return { inputBytes: modelBytes(model), earlier: undefined, file: source.reference }
  const file = pathOf(source, folder)
  const inputBytes = (await fileBytes(model, file)) ?? modelBytes(model)
  return { inputBytes, earlier: marks.export.get(model), file }
}

async function trainStage(stage: Stage, model: Model, c: MakeContext): Promise<TrainSummary> {
  const options = stage.train!
  const files = c.folder.files(stage.name)
  const data = c.train!
  const preprocess = data === RANDOM ? undefined : await pixelsOf(model, data, {}, c.log)
  const input = fingerprint(model)
  if (preprocess) writePreprocess(model, preprocess)
  const run: TrainRun = {
    ...{ data, preprocess, options, seed: stage.seed, signal: c.signal },
    ...{ checkpoint: files.checkpoint, resume: true, checkpointSteps: c.checkpointSteps, cache: c.cache },
    teacher: await teacherOf(stage, c.folder, preprocess),
  }
  const log = new TrainingLog(files.log)
  try {
    const summary = await train(model, run, async (event) => {
      await log.write(event)
      await c.onTrain(event)
    })
    recordTraining(model, { options, data: data === RANDOM ? RANDOM : data.name, seed: stage.seed, input, summary })
    return summary
  } finally {
    await log.close()
  }
}

async function updateStage(stage: Stage, model: Model, c: MakeContext): Promise<void> {
  const { epochs, batch, augment, workers, limit, device } = stage.bnUpdate!
  const data = c.train
  if (!data || data === RANDOM) throw usageError(`stage '${stage.name}': bn-update without images`)
  const input = fingerprint(model)
  const layers = await updateBatchNorm(model, {
    data: limit === undefined ? data : data.take(limit),
    preprocess: await pixelsOf(model, data, {}, c.log),
    ...{ epochs, batch, augment, workers, seed: stage.seed, signal: c.signal },
    ...(await announceDevice(device, c.log)),
    onWarning: c.log,
    onProgress: (done, total) => c.progress('bn-update', done, total),
  })
  const done = { data: data.name, epochs, batch, augment, seed: stage.seed }
  recordHistory(model, { pass: 'bn-update', options: done, input, metrics: { layers } })
}
