/**
 * How sensitive each layer is to being pruned or quantised: one layer at a time is changed by the very passes that would
 * change it (`prune` with a threshold of its own, `quantize` of weights or inputs alone), the model is measured, and the
 * next is taken from the model as it was.
 *
 * A scan that was stopped can continue: what was measured is passed in again as `known`. Layers that a pass leaves alone get
 * its reason instead of a number.
 */
import { MncError, usageError } from '../base/errors.ts'
import { type LongRun, stopIfAborted } from '../base/long-run.ts'
import { parseOptions } from '../base/options.ts'
import { randomBatches } from '../check/check.ts'
import type { SampleSet } from '../data/array-set.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers } from '../layers/choose-layers.ts'
import { inlineFunctions } from '../passes/inline-functions.ts'
import { findPass, runPass } from '../passes/run-pass.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { changeOf, metricOf } from './metric.ts'
import { keyOf, type Point, type Trial } from './point.ts'
import {
  defaultTolerance,
  type MetricName,
  type SensitivityOptions,
  type SensitivityOptionsInput,
  sensitivityOptions,
} from './sensitivity-options.ts'
import { proposedSettings, type Settings } from './settings.ts'

/** What each layer alone would cost. */
export interface Sensitivity {
  readonly metric: MetricName
  readonly samples: number
  readonly baseline: number
  readonly layers: readonly { readonly name: string; readonly op: string; readonly weights: number }[]
  readonly points: readonly Point[]
  readonly tolerance: number
  /** For `--layer-sparsity`, `--layer-weight-bits` and `--layer-activation-bits`, by layer. */
  readonly settings: Settings
}

/** Data and options of `scanSensitivity`. */
export interface SensitivityRun extends Pick<LongRun, 'signal'> {
  /** Labelled images, or none: then random inputs are used, for the metric sqnr. */
  readonly data?: {
    readonly set: SampleSet
    readonly preprocess: Preprocess | undefined
    readonly calibration: CalibrationData
  }
  readonly seed?: number
  readonly options?: SensitivityOptionsInput
  /** Measured by an earlier run of the same scan. */
  readonly known?: readonly Point[]
  /** After each measurement, and before the first. */
  readonly onPoint?: (result: Sensitivity, done: number, total: number) => void | Promise<void>
}

/** What is tried in each layer: all lists by default, or those that are given. */
function settingsToTry(o: SensitivityOptions): readonly Omit<Trial, 'layer'>[] {
  const given = o.sparsity ?? o.weightBits ?? o.activationBits
  const lists: readonly (readonly [Trial['kind'], readonly number[]])[] = [
    ['sparsity', o.sparsity ?? (given ? [] : [0.5, 0.75, 0.9])],
    ['weight-bits', o.weightBits ?? (given ? [] : [4, 2])],
    ['activation-bits', o.activationBits ?? (given ? [] : [4])],
  ]
  return lists.flatMap(([kind, list]) => list.map((setting) => ({ kind, setting })))
}

/** The pass that changes one layer only, and its options. */
function changeFor({ layer, kind, setting }: Trial, ops: readonly string[]) {
  const chosen = { ops, only: [layer] }
  if (kind === 'sparsity') return { pass: 'prune', options: { ...chosen, sparsity: setting, scope: 'layer' } }
  const [weightBits, activationBits] = kind === 'weight-bits' ? [setting, 0] : [0, setting]
  return { pass: 'quantize', options: { ...chosen, weightBits, activationBits, firstLayer: 'quantize' } }
}

/** What is measured, in which order: all that the result needs besides the points. */
export interface ScanHead extends Omit<Sensitivity, 'points' | 'settings'> {}

export interface Scan {
  readonly head: ScanHead
  readonly trials: readonly Trial[]
  measure(trial: Trial): Promise<Point>
}

/** `points`: of some trials or all, in their order. */
export function scanResult(head: ScanHead, points: readonly Point[]): Sensitivity {
  const { metric, samples, baseline, layers, tolerance } = head
  const settings = proposedSettings(points, metric, tolerance)
  return { metric, samples, baseline, layers, points, tolerance, settings }
}

/** Measures; `source` stays as it is. Usage errors for settings that no pass takes, and for labels that are not there. */
export async function scanSensitivity(source: Model, run: SensitivityRun = {}): Promise<Sensitivity> {
  const scan = await openScan(source, run)
  const { head, trials } = scan
  const tell = async (points: readonly Point[]): Promise<void> =>
    run.onPoint?.(scanResult(head, points), points.length, trials.length)
  return scanResult(head, await measureTrials(scan, trials, { ...run, onPoint: tell }))
}

/**
 * Those of `todo` that are not known, in order; returns the points of all. `onPoint` is told all points so far: of the known ones
 * first, then behind each measurement.
 */
export async function measureTrials(
  { measure }: Scan,
  todo: readonly Trial[],
  run: {
    readonly known?: readonly Point[] | undefined
    readonly signal?: AbortSignal | undefined
    readonly onPoint?: (points: readonly Point[], last: Trial | null) => Promise<void> | void
  },
): Promise<readonly Point[]> {
  const known = new Map((run.known ?? []).map((p) => [keyOf(p), p]))
  const points = todo.map((t) => known.get(keyOf(t)) ?? null)
  const soFar = (): readonly Point[] => points.filter((p) => p !== null)
  await run.onPoint?.(soFar(), null)
  for (const [i, t] of todo.entries()) {
    if (points[i]) continue
    stopIfAborted(run.signal, `interrupted after ${soFar().length} of ${todo.length} measurements`)
    points[i] = await measure(t)
    await run.onPoint?.(soFar(), t)
  }
  return soFar()
}

/** Measures the model as it is, and says what there is to measure. */
export async function openScan(source: Model, run: Omit<SensitivityRun, 'known' | 'onPoint'> = {}): Promise<Scan> {
  const o = parseOptions(sensitivityOptions, run.options ?? {}, 'sensitivity')
  const { data, seed = 0 } = run
  const name = o.metric ?? (data ? 'accuracy' : 'sqnr')
  if (!data && name !== 'sqnr')
    throw usageError(`--metric ${name} needs labelled data`, 'give --data, or --metric sqnr')
  // a pass that leaves the layer alone then changes nothing at all
  const model = cloneModel(source)
  model.graph.fixDefaults()
  inlineFunctions(model)
  const layers = chooseLayers(model.graph, o).chosen.map((l) => ({
    ...{ name: l.name, op: l.node.op, weights: l.tensor.size },
  }))
  const trials = layers.flatMap((l) => settingsToTry(o).map((s) => ({ layer: l.name, ...s })))
  const metric = await metricOf(name, model, {
    ...{ data: data?.set ?? null, preprocess: data?.preprocess, batch: o.batch, seed },
    load: { threads: o.threads },
  })
  const { samples, baseline } = metric
  const measure = async (t: Trial): Promise<Point> => {
    const { pass, options } = changeFor(t, o.ops)
    const changed = cloneModel(model)
    const calibration = data?.calibration ?? randomCalibration(model, seed)
    const reason = await apply(changed, t.layer, { pass, options }, calibration)
    if (reason !== null) return { ...t, value: null, change: null, reason }
    if (o.ptq && t.kind !== 'sparsity') await bringBack(changed, t.layer, calibration)
    const value = await metric.measure(changed)
    return { ...t, value, change: changeOf(name, value, baseline) }
  }
  const tolerance = o.tolerance ?? defaultTolerance[name]
  return { head: { metric: name, samples, baseline, layers, tolerance }, trials, measure }
}

/** Scales of inputs are fitted on the samples that are measured, where there are no images. */
const randomCalibration = (model: Model, seed: number): CalibrationData => ({
  async *batches() {
    for await (const { feeds } of randomBatches(model, seed)) yield feeds
  },
})

/** Runs the pass; why it left the layer alone, or null where it did not. */
async function apply(
  model: Model,
  layer: string,
  { pass, options }: { readonly pass: string; readonly options: Readonly<Record<string, unknown>> },
  data: CalibrationData,
) {
  try {
    const { changed, declined } = await runPass(model, findPass(pass), options, { calibration: data })
    const own = declined.filter((d) => d.where === layer)
    return changed ? null : (own.at(-1)?.reason ?? 'nothing to change')
  } catch (error) {
    if (error instanceof MncError && error.blame === 'model') return error.message
    throw error
  }
}

/** What `mnc ptq` does to a quantised layer, where it can. */
async function bringBack(model: Model, layer: string, calibration: CalibrationData): Promise<void> {
  for (const pass of ['round-weights', 'correct-bias']) {
    const options = { ops: ['*'], only: [layer] }
    await apply(model, layer, { pass, options }, calibration)
  }
}
