/**
 * The training loader: endless shuffled, augmented batches, made ahead in worker threads. The same seed gives the same
 * batches whatever the number of threads, from any starting step.
 */
import { usageError } from '../base/errors.ts'
import { BatchFiller, type FillerJob } from './batch-filler.ts'
import type { BatchShare } from './batch-share.ts'
import type { Dataset } from './dataset.ts'
import type { Batch } from './eval-batches.ts'
import { MOST_WORKERS } from './loader-options.ts'
import { LoaderPool, slotsOf } from './loader-pool.ts'
import { checkBatchMemory } from './memory.ts'
import type { AugmentPolicy } from './policy.ts'
import { loadPolicy } from './policy-file.ts'
import type { Preprocess } from './preprocess.ts'

export interface LoaderOptions {
  readonly batchSize: number
  readonly preprocess: Preprocess
  /** none (default), standard, micronet, the path of a policy file, or a policy. */
  readonly augment?: string | AugmentPolicy
  /** 0 by default. */
  readonly seed?: number
  /** Threads that make batches, 1 by default; 0 makes them when asked, in the caller's thread. */
  readonly workers?: number
  /** Leaves out the short batch at an epoch's end; true by default. */
  readonly dropLast?: boolean
}

export interface TrainBatch extends Batch {
  /** Counted from 0 over the whole run. */
  readonly step: number
  readonly epoch: number
}

export interface Loader {
  readonly stepsPerEpoch: number
  /**
   * The batches of steps from..to-1 (endless without `to`); each has memory of its own. Leaving the loop stops the
   * threads, which are started again by each call. With `share`, those images of each batch only.
   */
  batches(from?: number, to?: number, share?: LoaderShare): AsyncGenerator<TrainBatch, void, undefined>
}

/** A rank's share of batches that are made of parts of `part` images; batches are a multiple of `of` such parts. */
export type LoaderShare = BatchShare & { readonly part: number }

/** Throws a usage error for a batch larger than the set and for an unreadable policy. */
export function createLoader(dataset: Dataset, options: LoaderOptions): Loader {
  const { batchSize, preprocess, augment = 'none', seed = 0, workers = 1, dropLast = true } = options
  if (!Number.isInteger(batchSize) || batchSize < 1) throw usageError(`a batch cannot have ${batchSize} images`)
  if (dropLast && batchSize > dataset.size)
    throw usageError(`a batch of ${batchSize} is larger than ${dataset.name}, which has ${dataset.size} images`)
  if (!Number.isInteger(workers) || workers < 0 || workers > MOST_WORKERS)
    throw usageError(`the loader cannot have ${workers} threads`, `0 to ${MOST_WORKERS}`)
  const { pixels, labels, size, channels, height, width } = dataset.sized(preprocess.size, preprocess.resize)
  const job: FillerJob = {
    data: { pixels, labels, size, channels, height, width },
    policy: typeof augment === 'string' ? loadPolicy(augment) : augment,
    ...{ preprocess, batchSize, seed, dropLast },
  }
  const filler = new BatchFiller(job)
  const batches = workers === 0 ? 1 : slotsOf(workers)
  checkBatchMemory(batches * batchSize, batches * batchSize * filler.imageFloats, preprocess)
  return {
    stepsPerEpoch: filler.stepsPerEpoch,
    batches: (from = 0, to = Number.POSITIVE_INFINITY, share) => {
      const own = share ? new BatchFiller({ ...job, share }) : filler
      return workers === 0 ? inThread(own, from, to) : inWorkers({ ...job, share }, own, workers, from, to)
    },
  }
}

async function* inThread(filler: BatchFiller, from: number, to: number): AsyncGenerator<TrainBatch, void, undefined> {
  for (let step = from; step < to; step++) {
    const count = filler.countAt(step)
    const images = new Float32Array(count * filler.imageFloats)
    const labels = new Int32Array(count)
    await filler.fill(step, images, labels)
    yield { step, epoch: filler.epochOf(step), images, labels, count }
  }
}

async function* inWorkers(
  job: FillerJob,
  filler: BatchFiller,
  threads: number,
  from: number,
  to: number,
): AsyncGenerator<TrainBatch, void, undefined> {
  const pool = new LoaderPool(job, threads, filler.countAt(0) * filler.imageFloats)
  try {
    let requested = from
    const requestUpTo = (end: number) => {
      while (requested < Math.min(to, end)) pool.request(requested++)
    }
    requestUpTo(from + pool.slots.length)
    for (let step = from; step < to; step++) {
      const slot = await pool.take(step)
      const count = filler.countAt(step)
      // Copies (0.1 ms for 64 CIFAR images): onnxruntime does not accept shared memory, and callers may keep a batch.
      const images = slot.images.slice(0, count * filler.imageFloats)
      const labels = slot.labels.slice(0, count)
      requestUpTo(step + 1 + pool.slots.length)
      yield { step, epoch: filler.epochOf(step), images, labels, count }
    }
  } finally {
    await pool.close()
  }
}
