/** Batches for a check, as the reference takes them. */
import type { SampleSet } from '../data/array-set.ts'
import { checkClasses, type Preprocess } from '../data/preprocess.ts'
import { sampleBatches } from '../data/sample-set.ts'
import type { Model } from '../graph/model.ts'
import type { CheckBatch } from './check.ts'

/** Batches of `dataset` for `reference`, and for models that take the same inputs. `batch`: samples in one. */
export async function* checkBatches(
  reference: Model,
  dataset: SampleSet,
  preprocess: Preprocess | undefined,
  batch: number,
): AsyncGenerator<CheckBatch, void, undefined> {
  if (dataset.isLabelled) checkClasses(reference, dataset)
  for await (const { feeds, labels, count } of sampleBatches(reference, dataset, preprocess, batch))
    yield { feeds, count, ...(labels && { labels }) }
}
