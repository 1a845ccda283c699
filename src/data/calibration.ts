/** Calibration batches for passes: the first images of a data set, preprocessed as the model's metadata says. */
import { type MncError, usageError } from '../base/errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { randomInputs } from '../samples/random-inputs.ts'
import { groupsOf } from '../samples/run-samples.ts'
import { ArraySet, type SampleSet } from './array-set.ts'
import { copiedBatches } from './copied-batches.ts'
import { openDataset } from './open.ts'
import type { PreprocessOverrides } from './preprocess.ts'
import { RANDOM } from './random-options.ts'
import { pixelsOf, sampleBatches, samplePlan } from './sample-set.ts'

export interface CalibrationOptions extends PreprocessOverrides {
  /** Images to use; 512 by default. */
  readonly limit?: number
  /** Images in a batch; 64 by default. A model that runs at one batch only takes its own. */
  readonly batch?: number
  /** Cropped and mirrored ones of each image, behind all of them; only of pictures. */
  readonly copies?: number
  readonly warn?: (message: string) => void
}

/**
 * Opens `reference` (its training split by default; a data set is taken as it is) for `model`; `random` makes inputs of
 * the graph's own types. Errors as openDataset and preprocessOf throw them. A model that runs at one batch only gets
 * batches of that size, the last one filled up.
 */
export async function calibrationData(
  model: Model,
  reference: string | SampleSet,
  options: CalibrationOptions = {},
): Promise<CalibrationData> {
  const { limit = 512, batch = 64, copies = 0, warn, ...overrides } = options
  if (copies > 0 && (reference === RANDOM || reference instanceof ArraySet)) throw noPictures(reference)
  if (reference === RANDOM) return randomCalibration(model, limit, batch)
  const dataset = (typeof reference === 'string' ? await openDataset(reference, 'train') : reference).take(limit)
  const preprocess = await pixelsOf(model, dataset, overrides, warn)
  if (copies > 0 && (!preprocess || dataset instanceof ArraySet)) throw noPictures(dataset)
  const plan = await samplePlan(model, dataset, preprocess, Math.min(batch, dataset.size))
  const size = plan.isFixed ? plan.batch : batch
  // with copies behind it a last batch that was filled up is not the last: what fills it counts, as another copy
  const counted = copies > 0 && plan.isFixed ? Math.ceil(dataset.size / size) * size : dataset.size
  return {
    samples: counted * (1 + copies),
    isWhole: plan.isFixed,
    async *batches() {
      for await (const { feeds, count } of sampleBatches(model, dataset, preprocess, size))
        for (const group of groupsOf(plan, feeds, count)) yield group.feeds
      if (copies === 0 || !preprocess || dataset instanceof ArraySet) return
      for await (const { feeds, count } of copiedBatches(model, dataset, preprocess, size, copies))
        for (const group of groupsOf(plan, feeds, count)) yield group.feeds
    },
  }
}

const noPictures = (set: string | SampleSet): MncError =>
  usageError(
    `--copies: only pictures can be cropped and mirrored, and ${typeof set === 'string' ? set : set.name} holds none`,
    'leave --copies out',
  )

/** Sizes of dynamic dims are found by running the model as it is now, but not before a batch is asked for. */
function randomCalibration(model: Model, limit: number, batch: number): CalibrationData {
  const asGiven = cloneModel(model)
  let isWhole = false
  return {
    get isWhole() {
      return isWhole
    },
    async *batches() {
      const { feeds, batch: size, plan } = await randomInputs(asGiven, Math.min(batch, limit))
      isWhole = plan.isFixed || [...plan.inputs.values()].some(({ axes }) => axes.join() !== '0')
      for (let i = 0; i * size < limit; i++) yield feeds(0, i)
    },
  }
}
