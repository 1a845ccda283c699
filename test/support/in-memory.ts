/** A data set with all its pixels decoded, for inspection. */
import { Dataset, sharedBytes } from '../../src/data/dataset.ts'
import { readPixels } from '../../src/data/pixels.ts'

export async function inMemory(set: Dataset): Promise<Dataset> {
  const images = sharedBytes(set.size * set.imageBytes)
  let at = 0
  for await (const image of readPixels(set.pixels, set.imageBytes, [...Array(set.size).keys()])) {
    images.set(image, at)
    at += set.imageBytes
  }
  const { name, split, classes, classNames, channels, height, width, labels, notes } = set
  return new Dataset({ name, split, classes, classNames, channels, height, width, labels, notes, images })
}
