/** Labelled batches for a check, preprocessed as the reference says. */
import { inModelOrder } from '../data/class-order.ts'
import type { Dataset } from '../data/dataset.ts'
import { evalBatches, imageTensor } from '../data/eval-batches.ts'
import { checkClasses, imageInput, type Preprocess } from '../data/preprocess.ts'
import type { Model } from '../graph/model.ts'
import type { CheckBatch } from './check.ts'

/** Batches of `dataset` for `reference`, and for models that take the same input. `batch`: images in one. */
export async function* checkBatches(
  reference: Model,
  dataset: Dataset,
  preprocess: Preprocess,
  batch: number,
): AsyncGenerator<CheckBatch, void, undefined> {
  checkClasses(reference, dataset)
  const { name } = imageInput(reference)
  const elem = reference.graph.find(name)?.type?.elem
  for await (const { images, labels, count } of evalBatches(inModelOrder(reference, dataset), preprocess, batch))
    yield { feeds: { [name]: imageTensor(preprocess, count, images, elem) }, labels, count }
}
