/** Labelled batches for a check, preprocessed as the reference says, in the batch size that both models take. */
import type { Dataset } from '../data/dataset.ts'
import { evalBatches, imageTensor } from '../data/eval-batches.ts'
import { imageInput, type Preprocess } from '../data/preprocess.ts'
import type { Model } from '../graph/model.ts'
import type { CheckBatch } from './check.ts'

/** Batches of `dataset` for `reference` (and `model`, which takes the same input). `batch`: images in one. */
export async function* checkBatches(
  reference: Model,
  model: Model,
  dataset: Dataset,
  preprocess: Preprocess,
  batch: number,
): AsyncGenerator<CheckBatch, void, undefined> {
  const { name } = imageInput(reference)
  const elem = reference.graph.find(name)?.type?.elem
  const fixed = [reference, model]
    .map((m) => m.graph.inputs.find((v) => !v.constant)?.type?.dims?.[0])
    .find((d) => typeof d === 'number')
  const size = typeof fixed === 'number' ? fixed : batch
  for await (const { images, labels, count } of evalBatches(dataset, preprocess, size)) {
    // a fixed batch dimension wants its last batch filled up
    const full = typeof fixed === 'number' ? size : count
    const values = new Float32Array((images.length / count) * full)
    values.set(images)
    yield { feeds: { [name]: imageTensor(preprocess, full, values, elem) }, labels, count }
  }
}
