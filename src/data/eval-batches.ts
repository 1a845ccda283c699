/** Batches for evaluation and calibration: file order, no augmentation, the last one possibly short. */
import { usageError } from '../base/errors.ts'
import { Tensor } from '../graph/tensor.ts'
import type { ElementType } from '../graph/types.ts'
import type { Dataset } from './dataset.ts'
import { ImageWriter } from './image-writer.ts'
import { checkBatchMemory } from './memory.ts'
import { readPixels } from './pixels.ts'
import type { Preprocess } from './preprocess.ts'

export interface Batch {
  /** count images in the model's layout, dims `batchDims(preprocess, count)`. */
  readonly images: Float32Array
  readonly labels: Int32Array
  readonly count: number
}

/** The dims of a batch of n images, as the model's input takes it. */
export function batchDims({ size: [h, w], mean, layout }: Preprocess, n: number): readonly number[] {
  return layout === 'NCHW' ? [n, mean.length, h, w] : [n, h, w, mean.length]
}

/** `count` images as the model's input takes them, in its element type (16-bit models read 16-bit images). */
export function imageTensor(preprocess: Preprocess, count: number, images: Float32Array, elem?: ElementType): Tensor {
  const dims = batchDims(preprocess, count)
  return elem === undefined || elem === 'float32' ? Tensor.float32(dims, images) : Tensor.from(elem, dims, images)
}

/** Every image of the set once; each batch has memory of its own. */
export async function* evalBatches(
  dataset: Dataset,
  preprocess: Preprocess,
  batchSize: number,
): AsyncGenerator<Batch, void, undefined> {
  if (!Number.isInteger(batchSize) || batchSize < 1) throw usageError(`a batch cannot have ${batchSize} images`)
  const set = dataset.sized(preprocess.size, preprocess.resize)
  const { pixels, imageBytes } = set
  const writer = new ImageWriter(set, preprocess)
  const most = Math.min(batchSize, dataset.size)
  checkBatchMemory(most, most * writer.imageFloats, preprocess)
  for (let start = 0; start < dataset.size; start += batchSize) {
    const count = Math.min(batchSize, dataset.size - start)
    const images = new Float32Array(count * writer.imageFloats)
    const indices = Uint32Array.from({ length: count }, (_, i) => start + i)
    let at = 0
    for await (const image of readPixels(pixels, imageBytes, indices)) {
      writer.write(image, 0, images, at)
      at += writer.imageFloats
    }
    yield { images, labels: dataset.labels.slice(start, start + count), count }
  }
}
