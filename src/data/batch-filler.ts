/**
 * Makes any training batch from its step number alone: the order of an epoch is a permutation drawn from (seed, epoch),
 * an image's augmentation from (seed, epoch, image). So batches do not depend on the thread or the order in which they
 * are made, and a run can start at any step.
 */
import { Rng } from '../base/rng.ts'
import { Augmenter } from './augment.ts'
import { type BatchShare, inShare } from './batch-share.ts'
import type { Dataset } from './dataset.ts'
import { readPixels } from './pixels.ts'
import type { AugmentPolicy } from './policy.ts'
import type { Preprocess } from './preprocess.ts'

/** All that a batch depends on; plain data, so that it goes to a thread. */
export interface FillerJob {
  readonly data: Pick<Dataset, 'pixels' | 'labels' | 'size' | 'channels' | 'height' | 'width'>
  readonly preprocess: Preprocess
  readonly policy: AugmentPolicy
  readonly batchSize: number
  readonly seed: number
  /** Leaves out the last, short batch of an epoch. */
  readonly dropLast: boolean
  /** Only the parts of this share, of so many images each; where absent, all images. Batches are whole then. */
  readonly share?: (BatchShare & { readonly part: number }) | undefined
}

export class BatchFiller {
  readonly stepsPerEpoch: number
  /** Floats of one image in the model's layout. */
  readonly imageFloats: number
  readonly #job: FillerJob
  readonly #augmenter: Augmenter
  readonly #rng = new Rng(0)
  #epoch = -1
  #order: Uint32Array = new Uint32Array(0)

  constructor(job: FillerJob) {
    const { data, batchSize } = job
    this.#job = job
    this.#augmenter = new Augmenter(data, job.preprocess, job.policy)
    this.imageFloats = this.#augmenter.writer.imageFloats
    this.stepsPerEpoch = job.dropLast ? Math.floor(data.size / batchSize) : Math.ceil(data.size / batchSize)
  }

  epochOf(step: number): number {
    return Math.floor(step / this.stepsPerEpoch)
  }

  /** Images in the batch of a step: batchSize (or this share of it), or the remainder at an epoch's end. */
  countAt(step: number): number {
    const { batchSize, data, share } = this.#job
    if (share) return batchSize / share.of
    return Math.min(batchSize, data.size - (step % this.stepsPerEpoch) * batchSize)
  }

  /** Writes the batch of a step to the start of both arrays. One at a time: the scratch is shared. */
  async fill(step: number, images: Float32Array, labels: Int32Array): Promise<void> {
    const { data, batchSize, seed, share } = this.#job
    const epoch = this.epochOf(step)
    if (epoch !== this.#epoch) {
      this.#order = new Rng(seed, epoch).permutation(data.size)
      this.#epoch = epoch
    }
    const imageBytes = data.channels * data.height * data.width
    const first = (step % this.stepsPerEpoch) * batchSize
    const whole = this.#order.subarray(first, first + batchSize)
    const indices = share ? inShare(whole, share.part, share) : whole
    let i = 0
    for await (const image of readPixels(data.pixels, imageBytes, indices)) {
      const index = indices[i]!
      this.#rng.reseed(seed, epoch, index)
      this.#augmenter.write(image, 0, this.#rng, images, i * this.imageFloats)
      labels[i++] = data.labels[index]!
    }
  }
}
