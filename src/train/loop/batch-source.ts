/**
 * Where a run's batches come from: a data set through the loader, or random inputs of the model's own shape, which are
 * enough to distil a model into a smaller one without any data. The same seed gives the same batches from any step.
 */
import { modelError, usageError } from '../../base/errors.ts'
import { Rng } from '../../base/rng.ts'
import { ArraySet, type SampleSet } from '../../data/array-set.ts'
import { type BatchShare, partsOfShare } from '../../data/batch-share.ts'
import { type Binding, bind } from '../../data/bind.ts'
import type { Dataset } from '../../data/dataset.ts'
import { batchDims } from '../../data/eval-batches.ts'
import { createLoader } from '../../data/loader.ts'
import { type Preprocess, statedClasses } from '../../data/preprocess.ts'
import { RANDOM } from '../../data/random-options.ts'
import { feedsAt, targetsAt } from '../../data/sample-set.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type BatchPlan, batchPlan, dimsAt } from '../../samples/batch-plan.ts'
import { randomFeeds } from '../../samples/random-feeds.ts'
import { labelsOutput } from '../step/outputs.ts'

/** Random inputs that count as an epoch where no --limit says otherwise. */
export const RANDOM_EPOCH = 10_000

export interface SourcePart {
  /** The model's first input. */
  readonly images: Tensor
  /** Its other inputs by name. */
  readonly others?: Readonly<Record<string, Tensor>>
  readonly labels: Int32Array | null
  /** What outputs should give, by output. */
  readonly wanted?: Readonly<Record<string, Tensor>>
}

export interface SourceBatch {
  /** Counted from 0 over the whole run. */
  readonly step: number
  readonly epoch: number
  /** The inputs, in as many parts of equal size as gradients are accumulated over. */
  readonly parts: readonly SourcePart[]
  /** Inputs in these parts. */
  readonly count: number
}

export interface BatchSource {
  readonly name: string
  /** Inputs in an epoch. */
  readonly size: number
  /** null: there are no labels. */
  readonly classes: number | null
  /** Arrays of what outputs should give, and those that are for nothing. */
  readonly arrays?: Pick<Binding, 'targets' | 'unused' | 'wholeRuns'>
  readonly stepsPerEpoch: number
  /** Inputs in one part. */
  readonly batch: number
  /** Parts of a step. */
  readonly parts: number
  /** Dims of the model's inputs. */
  readonly dims: Readonly<Record<string, readonly number[]>>
  /** Any part of a batch is a batch, along first dims. */
  readonly isDivisible: boolean
  /** The batches of steps from..to-1; with `share`, its parts of them only. */
  batches(from: number, to: number, share?: BatchShare): AsyncIterable<SourceBatch>
}

const WHOLE: BatchShare = { rank: 0, of: 1 }

export interface SourceOptions {
  /** Inputs in one part, where the model runs at that batch. */
  readonly batch: number
  readonly parts: number
  readonly seed: number
}

/**
 * A step's inputs in parts that run. Where only another batch works than the one asked for, gradients are accumulated over
 * as many parts as come nearest to it.
 */
function partsOf({ batch, isFixed }: BatchPlan, asked: Pick<SourceOptions, 'batch' | 'parts'>) {
  const runs = isFixed ? Math.max(1, Math.round(asked.batch / batch)) : 1
  return { batch: isFixed ? batch : asked.batch, parts: asked.parts * runs }
}

const isDivisible = ({ isFixed, inputs }: BatchPlan): boolean =>
  !isFixed && [...inputs.values()].every(({ axes }) => axes.join() === '0')

/** Shuffled, augmented images, for a model that takes images; any batch works unless `plan` says otherwise. */
export function imageSource(
  data: Dataset,
  preprocess: Preprocess,
  options: SourceOptions & { readonly augment: string; readonly workers: number },
  plan: BatchPlan | null = null,
): BatchSource {
  const { seed, augment, workers } = options
  const { batch, parts } = plan ? partsOf(plan, options) : options
  const loader = createLoader(data, { batchSize: batch * parts, preprocess, augment, seed, workers })
  return {
    ...{
      name: data.name,
      size: data.size,
      classes: data.isLabelled ? data.classes : null,
      stepsPerEpoch: loader.stepsPerEpoch,
    },
    ...{ batch, parts, dims: plan ? dimsAt(plan, batch) : {}, isDivisible: !plan || isDivisible(plan) },
    async *batches(from, to, share) {
      const own = share && { ...share, part: batch }
      for await (const { step, epoch, images, labels, count } of loader.batches(from, to, own)) {
        const floats = (images.length / count) * batch
        const split = Array.from({ length: count / batch }, (_, i) => ({
          images: Tensor.float32(batchDims(preprocess, batch), images.subarray(i * floats, (i + 1) * floats)),
          labels: data.isLabelled ? labels.subarray(i * batch, (i + 1) * batch) : null,
        }))
        yield { step, epoch, parts: split, count }
      }
    },
  }
}

/** Pictures through the loader, augmented; arrays as they are. */
export function sourceOf(
  model: Model,
  data: SampleSet,
  preprocess: Preprocess | undefined,
  options: SourceOptions & { readonly augment: string; readonly workers: number },
  plan: BatchPlan,
): BatchSource {
  if (data instanceof ArraySet) return arraySource(model, data, options, plan)
  if (!preprocess) throw usageError('images require their preprocessing', 'see pixelsOf')
  return imageSource(data, preprocess, options, plan)
}

/** Shuffled samples of arrays: the order of an epoch is a permutation drawn from (seed, epoch). */
function arraySource(model: Model, data: ArraySet, options: SourceOptions, plan: BatchPlan): BatchSource {
  const { name, size, isLabelled } = data
  const { batch, parts } = partsOf(plan, options)
  const all = data.labels
  const binding = bind(model, data)
  const stepsPerEpoch = Math.floor(size / (batch * parts))
  if (stepsPerEpoch === 0)
    throw usageError(`a step of ${batch * parts} is larger than ${name}, which has ${size} samples`)
  const first = model.graph.fed[0]!.name
  return {
    ...{ name, size, stepsPerEpoch, batch, parts, dims: dimsAt(plan, batch), isDivisible: isDivisible(plan) },
    classes: isLabelled
      ? (statedClasses(model, labelsOutput(model.graph.outputs, binding.targets)) ?? data.classes)
      : null,
    arrays: binding,
    async *batches(from, to, share = WHOLE) {
      let drawn = -1
      let order: Uint32Array = new Uint32Array(0)
      for (let step = from; step < to; step++) {
        const epoch = Math.floor(step / stepsPerEpoch)
        if (epoch !== drawn) order = new Rng(options.seed, epoch).permutation(size)
        drawn = epoch
        const split = partsOfShare(parts, share).map((part) => {
          const at = ((step % stepsPerEpoch) * parts + part) * batch
          const own = order.subarray(at, at + batch)
          const { [first]: images, ...others } = feedsAt(data, binding, own)
          const labels = isLabelled ? Int32Array.from(own, (i) => all[i]!) : null
          return { images: images!, others, labels, wanted: targetsAt(data, binding, own) }
        })
        yield { step, epoch, parts: split, count: batch * split.length }
      }
    },
  }
}

/**
 * Random inputs of the model's own shapes and types (samples/random-feeds.ts), also for models with several inputs. Without
 * `size` every step sees new ones; `size` of them are an epoch that repeats.
 */
export async function randomSource(
  model: Model,
  options: SourceOptions & { readonly size?: number | undefined },
  known?: BatchPlan,
): Promise<BatchSource> {
  const { seed, size = RANDOM_EPOCH } = options
  const plan = known ?? (await batchPlan(model, options.batch, { reopen: true }))
  const { batch, parts } = partsOf(plan, options)
  const dims = dimsAt(plan, batch)
  const feeds = randomFeeds(model)
  const stepsPerEpoch = Math.floor(size / (batch * parts))
  if (stepsPerEpoch === 0) throw usageError(`a step takes ${batch * parts} inputs, more than --limit ${size}`)
  const [first] = Object.keys(dims)
  if (first === undefined) throw modelError('no-input', 'the model has no input')
  return {
    ...{
      name: RANDOM,
      size,
      classes: null,
      stepsPerEpoch,
      batch,
      parts,
      dims,
      isDivisible: isDivisible(plan),
    },
    async *batches(from, to, share = WHOLE) {
      for (let step = from; step < to; step++) {
        const draw = options.size === undefined ? step : step % stepsPerEpoch
        const split = partsOfShare(parts, share).map((part) => {
          const { [first]: images, ...others } = feeds(dims, [seed, draw, part])
          return { images: images!, others, labels: null }
        })
        yield { step, epoch: Math.floor(step / stepsPerEpoch), parts: split, count: batch * split.length }
      }
    },
  }
}
