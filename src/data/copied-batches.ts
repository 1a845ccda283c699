/**
 * Cropped and mirrored copies of all images of a set, round after round, as training makes them by default (`--augment standard`): the
 * order and each copy follow from the round and the image alone.
 */
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { BatchFiller } from './batch-filler.ts'
import type { Dataset } from './dataset.ts'
import { imageTensor } from './eval-batches.ts'
import { loadPolicy } from './policy-file.ts'
import { imageInput, type Preprocess } from './preprocess.ts'

export async function* copiedBatches(
  model: Model,
  set: Dataset,
  preprocess: Preprocess,
  batchSize: number,
  rounds: number,
): AsyncGenerator<{ readonly feeds: Readonly<Record<string, Tensor>>; readonly count: number }, void, undefined> {
  const { name } = imageInput(model)
  const elem = model.graph.find(name)?.type?.elem
  const data = set.sized(preprocess.size, preprocess.resize)
  const filler = new BatchFiller({
    ...{ data, preprocess, policy: loadPolicy('standard'), batchSize, seed: 0, dropLast: false },
  })
  for (let step = 0; step < rounds * filler.stepsPerEpoch; step++) {
    const count = filler.countAt(step)
    const images = new Float32Array(count * filler.imageFloats)
    await filler.fill(step, images, new Int32Array(count))
    yield { feeds: { [name]: imageTensor(preprocess, count, images, elem) }, count }
  }
}
