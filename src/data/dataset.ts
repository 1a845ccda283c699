/**
 * A labelled image set: pixels as bytes, channel planes one after the other (C,H,W), in shared memory so that loader
 * threads read them without a copy, or in picture files that are decoded as they are needed, to the requested size.
 */
import { createHash } from 'node:crypto'
import { bugError, usageError } from '../base/errors.ts'
import { heldOut } from './held-out.ts'
import { sharedBytes } from './picture-store.ts'
import { hashFiles, type Pictures } from './pictures.ts'
import { type Pixels, readPixels, viewOf } from './pixels.ts'
import type { ResizeMode } from './resize.ts'

/** Part of a data set. */
export type Split = 'train' | 'test'

/** Per-channel mean and standard deviation of pixels / 255. */
export interface Statistics {
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

/** Some of the picture files of a folder. */
export interface PictureSet {
  readonly pictures: Pictures
  readonly slots: Uint32Array
}

export interface DatasetInit {
  /** As error messages and logs name it, e.g. `cifar10:data#train`. */
  readonly name: string
  readonly split: Split
  readonly classes: number
  readonly channels: number
  readonly height: number
  readonly width: number
  /** size * channels * height * width bytes over a SharedArrayBuffer, or one picture file per image. */
  readonly images: Uint8Array | PictureSet
  /** How pictures of another size are brought to this one; bilinear by default. */
  readonly resize?: ResizeMode | undefined
  /** Class of each image, 0..classes-1. */
  readonly labels: Int32Array
  /** false: there are no labels, and those given stand for nothing. */
  readonly isLabelled?: boolean | undefined
  readonly classNames?: readonly string[] | undefined
  /** What someone who uses the set should know, a sentence each: what was left out, how pixels were read. */
  readonly notes?: readonly string[] | undefined
  /** Known or separately computed statistics of the training split; computed from these images where absent. */
  readonly statistics?: ((at: Size) => Promise<Statistics>) | undefined
}

/** What picture files are decoded to. */
export interface Size {
  readonly height: number
  readonly width: number
  readonly resize: ResizeMode
}

/** No classifier has so many classes; a larger label means a damaged file, and must not determine the size of anything. */
export const MOST_CLASSES = 2 ** 20

export { sharedBytes }

/** Pictures with their labels, which become a model's input as its preprocessing says. */
export class Dataset {
  readonly name: string
  readonly split: Split
  readonly size: number
  readonly classes: number
  readonly channels: number
  readonly height: number
  readonly width: number
  readonly resize: ResizeMode
  readonly labels: Int32Array
  readonly isLabelled: boolean
  readonly classNames: readonly string[] | undefined
  readonly notes: readonly string[]
  readonly #images: Uint8Array | PictureSet
  readonly #statistics: DatasetInit['statistics']
  #hash: string | undefined

  constructor(init: DatasetInit) {
    this.name = init.name
    this.split = init.split
    this.size = init.labels.length
    this.classes = init.classes
    this.channels = init.channels
    this.height = init.height
    this.width = init.width
    this.resize = init.resize ?? 'bilinear'
    this.#images = init.images
    this.labels = init.labels
    this.isLabelled = init.isLabelled ?? true
    this.classNames = init.classNames
    this.notes = init.notes ?? []
    this.#statistics = init.statistics
    if (this.size === 0) throw usageError(`${init.name} holds no images`)
    if (!(this.imageBytes > 0))
      throw usageError(`${init.name}: its images of size ${init.height}x${init.width} have no pixels`)
    const held = init.images instanceof Uint8Array ? init.images.length / this.imageBytes : init.images.slots.length
    if (held !== this.size) throw bugError(`${init.name}: ${held} images for ${this.size} labels`)
    if (init.classes > MOST_CLASSES)
      throw usageError(`${init.name} has ${init.classes} classes; at most ${MOST_CLASSES} are supported`)
    for (const label of this.isLabelled ? init.labels : [])
      if (label < 0 || label >= init.classes)
        throw usageError(`${init.name}: label ${label} is outside 0..${init.classes - 1}`)
  }

  /** Bytes of images in memory: none of picture files, which are decoded as they are needed. */
  get heldBytes(): number {
    return this.#images instanceof Uint8Array ? this.#images.buffer.byteLength : 0
  }

  get imageBytes(): number {
    return this.channels * this.height * this.width
  }

  /** Where the pixels are; `readPixels` reads them. */
  get pixels(): Pixels {
    const images = this.#images
    return images instanceof Uint8Array ? images : images.pictures.at(images.slots, this.#shape, this.resize)
  }

  get #shape() {
    const { channels, height, width } = this
    return { channels, height, width }
  }

  /** The pixels of a set that is not a folder of pictures. */
  get images(): Uint8Array {
    if (this.#images instanceof Uint8Array) return this.#images
    throw bugError(`${this.name} is decoded while it is read: its pixels are not in memory`)
  }

  /**
   * Pictures of a folder at the size of a model's input, decoded to it: the shorter side scaled, the centre cropped.
   * Other sets stay as they are, since their images are resized whole, on the way into a batch.
   */
  sized([height, width]: readonly [number, number], resize: ResizeMode = 'bilinear'): Dataset {
    if (this.#images instanceof Uint8Array) return this
    if (height === this.height && width === this.width && resize === this.resize) return this
    return this.#with({ height, width, resize })
  }

  /** Image i of a set that is in memory, C*H*W bytes; a view, not a copy. */
  image(i: number): Uint8Array {
    return viewOf(this.images, this.imageBytes, i)
  }

  /** SHA-256 of all labels and pixels; of picture files their sizes, first and last 32 KB in place of the pixels. */
  contentHash(): string {
    this.#hash ??= this.#computeHash()
    return this.#hash
  }

  #computeHash(): string {
    const { labels } = this
    const images = this.#images
    const hash = createHash('sha256')
    if (images instanceof Uint8Array) hash.update(images)
    else hash.update(hashFiles(Array.from(images.slots, (i) => images.pictures.files[i]!)))
    hash.update(new Uint8Array(labels.buffer, labels.byteOffset, labels.byteLength))
    return hash.update(JSON.stringify([this.classes, this.channels, this.height, this.width])).digest('hex')
  }

  /** Mean and deviation of the training split: published for the standard sets, computed for the others. */
  async statistics(): Promise<Statistics> {
    return this.#statistics ? this.#statistics(this) : statisticsOf(this)
  }

  /** The first n images (all where n is larger), sharing memory with this set. */
  take(n: number): Dataset {
    if (!Number.isInteger(n) || n < 1)
      throw usageError(`cannot take ${n} images of ${this.name}`, 'give a whole number of at least 1')
    if (n >= this.size) return this
    const images = this.#images
    const first =
      images instanceof Uint8Array
        ? images.subarray(0, n * this.imageBytes)
        : { ...images, slots: images.slots.subarray(0, n) }
    return this.#with({ images: first, labels: this.labels.subarray(0, n) })
  }

  /**
   * Holds out a part for validation: of each class the same fraction, chosen by `seed`; both parts keep the order of
   * the files. The fraction is rounded per class, with at least one image held out in all.
   */
  splitValidation(fraction: number, seed: number): { train: Dataset; validation: Dataset } {
    const { kept, out } = heldOut(this, fraction, seed)
    return { train: this.select(kept), validation: this.select(out) }
  }

  /** The named images, in that order; those in memory are copied. */
  select(indices: readonly number[]): Dataset {
    const labels = Int32Array.from(indices, (i) => this.labels[i]!)
    const images = this.#images
    if (!(images instanceof Uint8Array))
      return this.#with({ images: { ...images, slots: Uint32Array.from(indices, (i) => images.slots[i]!) }, labels })
    const copied = sharedBytes(indices.length * this.imageBytes)
    for (const [to, from] of indices.entries()) copied.set(this.image(from), to * this.imageBytes)
    return this.#with({ images: copied, labels })
  }

  /** The same images with other labels: the former class `i` is class `to[i]` of `classNames`. */
  relabelled(classNames: readonly string[], to: (label: number) => number): Dataset {
    return this.#with({ classes: classNames.length, classNames, labels: this.labels.map(to) })
  }

  #with(changes: Partial<DatasetInit>): Dataset {
    const { name, split, classes, classNames, resize, labels, isLabelled, notes } = this
    return new Dataset({
      ...{ name, split, classes, ...this.#shape, classNames, resize, images: this.#images, labels, isLabelled, notes },
      statistics: this.#statistics ?? (() => statisticsOf(this)),
      ...changes,
    })
  }
}

/** Mean and population standard deviation of pixels / 255, per channel; exact sums. */
export async function statisticsOf(set: Dataset): Promise<Statistics> {
  const sums = new PixelSums(set.channels)
  const all = Uint32Array.from({ length: set.size }, (_, i) => i)
  for await (const image of readPixels(set.pixels, set.imageBytes, all)) sums.add(image)
  return sums.result()
}

/** The same, at once, of a set that is in memory. */
export function computeStatistics(set: Dataset): Statistics {
  const sums = new PixelSums(set.channels)
  for (let i = 0; i < set.size; i++) sums.add(set.image(i))
  return sums.result()
}

class PixelSums {
  #pixels = 0
  readonly #sums: Float64Array
  readonly #squares: Float64Array

  constructor(channels: number) {
    this.#sums = new Float64Array(channels)
    this.#squares = new Float64Array(channels)
  }

  add(image: Uint8Array): void {
    const channels = this.#sums.length
    const plane = image.length / channels
    for (let c = 0; c < channels; c++) {
      let sum = 0
      let squares = 0
      for (let p = c * plane; p < (c + 1) * plane; p++) {
        const v = image[p]!
        sum += v
        squares += v * v
      }
      this.#sums[c]! += sum
      this.#squares[c]! += squares
    }
    this.#pixels += plane
  }

  result(): Statistics {
    const means = Array.from(this.#sums, (sum) => sum / this.#pixels)
    const deviations = means.map((m, c) => Math.sqrt(Math.max(0, this.#squares[c]! / this.#pixels - m * m)))
    // A constant channel has no deviation to divide by.
    return { mean: means.map((m) => round6(m / 255)), std: deviations.map((d) => round6(d / 255) || 1) }
  }
}

/** Six decimals: more than float32 pixels can show, and short in a model's metadata. */
const round6 = (x: number): number => Math.round(x * 1e6) / 1e6
