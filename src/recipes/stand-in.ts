/**
 * Random pixels in place of a data set that is not there yet, so that a dry run can still time steps: the standard sets
 * have known sizes; for others only the shape that the model takes is known.
 */
import { Rng } from '../base/rng.ts'
import type { SampleSet } from '../data/array-set.ts'
import { Dataset, type Split, sharedBytes } from '../data/dataset.ts'
import { parseDataReference } from '../data/open.ts'
import { imageInput } from '../data/preprocess.ts'
import type { Model } from '../graph/model.ts'

/** Images of the standard sets' splits. */
const standardSizes: Readonly<Record<string, Readonly<Record<Split, number>>>> = {
  cifar10: { train: 50_000, test: 10_000 },
  cifar100: { train: 50_000, test: 10_000 },
  mnist: { train: 60_000, test: 10_000 },
}

export interface StandIn {
  readonly data: SampleSet
  /** Images of the real set; null where that is unknown. */
  readonly images: number | null
}

/** `images` random images that fit `model`. */
export function standIn(model: Model, reference: string, split: Split, images: number): StandIn {
  const input = imageInput(model)
  const { channels, height, width } = {
    channels: input.channels ?? 3,
    height: input.height ?? 32,
    width: input.width ?? 32,
  }
  const last = model.graph.outputs[0]?.type?.dims?.at(-1)
  const classes = typeof last === 'number' ? last : 10
  const rng = new Rng(0)
  const pixels = sharedBytes(images * channels * height * width)
  for (let i = 0; i < pixels.length; i++) pixels[i] = rng.integer(256)
  const labels = Int32Array.from({ length: images }, (_, i) => i % classes)
  const statistics = async () => ({
    mean: new Array<number>(channels).fill(0.5),
    std: new Array<number>(channels).fill(0.25),
  })
  const data = new Dataset({
    ...{ name: `random#${split}`, split, classes, channels, height, width, images: pixels, labels, statistics },
  })
  return { data, images: standardSizes[parseDataReference(reference).kind]?.[split] ?? null }
}
