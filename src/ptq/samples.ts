/**
 * The samples of a run: three quarters are calibrated and trained on, the first ones in the order of the set, and the
 * last quarter judges. A limit for calibration thus selects those of the first kind, in a recipe too.
 */
import { usageError } from '../base/errors.ts'
import type { SampleSet } from '../data/array-set.ts'
import { calibrationData } from '../data/calibration.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import type { Model } from '../graph/model.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { randomInputs } from '../samples/random-inputs.ts'
import type { Feeds } from './judge.ts'

/** One in this many samples judges. */
export const JUDGES = 4
/** Random feeds that judge are drawn with this key, those of calibration with 0. */
const JUDGED_KEY = 1

export interface Samples {
  /** To fit with. */
  readonly fitted: number
  readonly judged: number
  /** Inputs of the samples that judge, for a model that takes what `model` takes. */
  judges(model: Model, batch: number): Promise<readonly Feeds[]>
  /** `limit`: at most those to fit with. */
  calibration(
    model: Model,
    size: { readonly limit: number; readonly batch: number; readonly copies?: number },
  ): Promise<CalibrationData>
}

/** Splits `limit` samples. A usage error where there are fewer than four. */
export function samplesOf(data: TrainingData, limit: number): Samples {
  const all = data === RANDOM ? limit : Math.min(limit, data.size)
  if (all < JUDGES)
    throw usageError(`${all} samples are too few: some calibrate and others judge`, `give at least ${JUDGES}`)
  const judged = Math.floor(all / JUDGES)
  const fitted = all - judged
  return {
    ...{ fitted, judged },
    judges: async (model, batch) =>
      data === RANDOM
        ? randomJudges(model, judged, batch)
        : feedsOf(await calibrationData(model, lastOf(data, fitted, judged), { limit: judged, batch })),
    calibration: (model, size) => calibrationData(model, data, size),
  }
}

const lastOf = (data: SampleSet, from: number, count: number): SampleSet =>
  data.select(Array.from({ length: count }, (_, i) => from + i))

async function feedsOf(data: CalibrationData): Promise<readonly Feeds[]> {
  const found: Feeds[] = []
  for await (const feeds of data.batches()) found.push(feeds)
  return found
}

async function randomJudges(model: Model, count: number, batch: number): Promise<readonly Feeds[]> {
  const { feeds, batch: size } = await randomInputs(model, Math.min(batch, count))
  return Array.from({ length: Math.ceil(count / size) }, (_, i) => feeds(JUDGED_KEY, i))
}
