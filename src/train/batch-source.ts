/**
 * Where a run's batches come from: a data set through the loader, or random inputs of the model's own shape, which are
 * enough to distil a model into a smaller one without any data. The same seed gives the same batches from any step.
 */
import type { Dataset } from '../data/dataset.ts'
import { batchDims } from '../data/eval-batches.ts'
import { createLoader } from '../data/loader.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { modelError, usageError } from '../errors.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { Rng } from '../rng.ts'
import { soleInput } from './step-graph.ts'

/** Random inputs that count as an epoch where no --limit says otherwise. */
const RANDOM_EPOCH = 10_000

export interface SourceBatch {
  /** Counted from 0 over the whole run. */
  readonly step: number
  readonly epoch: number
  /** The inputs, in as many parts of equal size as gradients are accumulated over. */
  readonly parts: readonly { readonly images: Tensor; readonly labels: Int32Array | null }[]
  /** Inputs in all parts. */
  readonly count: number
}

export interface BatchSource {
  readonly name: string
  /** Inputs in an epoch. */
  readonly size: number
  /** null: there are no labels. */
  readonly classes: number | null
  readonly stepsPerEpoch: number
  /** The batches of steps from..to-1. */
  batches(from: number, to: number): AsyncIterable<SourceBatch>
}

export interface SourceOptions {
  /** Inputs in one part. */
  readonly batch: number
  readonly parts: number
  readonly seed: number
}

/** Shuffled, augmented images. */
export function imageSource(
  data: Dataset,
  preprocess: Preprocess,
  options: SourceOptions & { readonly augment: string; readonly workers: number },
): BatchSource {
  const { batch, parts, seed, augment, workers } = options
  const loader = createLoader(data, { batchSize: batch * parts, preprocess, augment, seed, workers })
  return {
    ...{ name: data.name, size: data.size, classes: data.classes, stepsPerEpoch: loader.stepsPerEpoch },
    async *batches(from, to) {
      for await (const { step, epoch, images, labels, count } of loader.batches(from, to)) {
        const floats = images.length / parts
        const split = Array.from({ length: parts }, (_, i) => ({
          images: Tensor.float32(batchDims(preprocess, batch), images.subarray(i * floats, (i + 1) * floats)),
          labels: labels.subarray(i * batch, (i + 1) * batch),
        }))
        yield { step, epoch, parts: split, count }
      }
    },
  }
}

/** Normal numbers in the shape of the model's input; `size` of them count as an epoch. Model error for other types. */
export function randomSource(
  model: Model,
  options: SourceOptions & { readonly size?: number | undefined },
): BatchSource {
  const { batch, parts, seed, size = RANDOM_EPOCH } = options
  const dims = [batch, ...inputShape(soleInput(model.graph))]
  const elements = dims.reduce((a, b) => a * b, 1)
  const stepsPerEpoch = Math.floor(size / (batch * parts))
  if (stepsPerEpoch === 0) throw usageError(`a step takes ${batch * parts} inputs, more than --limit ${size}`)
  return {
    ...{ name: 'random', size, classes: null, stepsPerEpoch },
    async *batches(from, to) {
      for (let step = from; step < to; step++) {
        const rng = new Rng(seed, step)
        const split = Array.from({ length: parts }, () => ({
          images: Tensor.float32(
            dims,
            Float32Array.from({ length: elements }, () => rng.normal(0, 1)),
          ),
          labels: null,
        }))
        yield { step, epoch: Math.floor(step / stepsPerEpoch), parts: split, count: batch * parts }
      }
    },
  }
}

function inputShape(input: Value): number[] {
  const dims = input.type?.dims?.slice(1)
  if (input.type?.elem !== 'float32' || !dims?.every((d) => typeof d === 'number'))
    throw modelError('no-random-input', `random inputs need a float32 input of fixed shape; '${input.name}' is not`, {
      next: 'give real inputs with --data',
    })
  return dims as number[]
}
