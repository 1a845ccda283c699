/**
 * A labelled image set in memory: pixels as bytes, one image after the other, channel planes one after the other
 * (N,C,H,W), in shared memory so that loader threads read them without a copy.
 */
import { bugError, usageError } from '../errors.ts'
import { Rng } from '../rng.ts'

export type Split = 'train' | 'test'

/** Per-channel mean and standard deviation of pixels / 255. */
export interface Statistics {
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

export interface DatasetInit {
  /** As error messages and logs name it, e.g. `cifar10:data#train`. */
  readonly name: string
  readonly split: Split
  readonly classes: number
  readonly channels: number
  readonly height: number
  readonly width: number
  /** size * channels * height * width bytes over a SharedArrayBuffer. */
  readonly images: Uint8Array
  /** Class of each image, 0..classes-1. */
  readonly labels: Int32Array
  readonly classNames?: readonly string[] | undefined
  /** Known or separately computed statistics of the training split; computed from these images where absent. */
  readonly statistics?: (() => Promise<Statistics>) | undefined
}

/** Bytes that every thread can see. */
export const sharedBytes = (length: number): Uint8Array => new Uint8Array(new SharedArrayBuffer(length))

export class Dataset {
  readonly name: string
  readonly split: Split
  readonly size: number
  readonly classes: number
  readonly channels: number
  readonly height: number
  readonly width: number
  readonly images: Uint8Array
  readonly labels: Int32Array
  readonly classNames: readonly string[] | undefined
  readonly #statistics: (() => Promise<Statistics>) | undefined

  constructor(init: DatasetInit) {
    this.name = init.name
    this.split = init.split
    this.size = init.labels.length
    this.classes = init.classes
    this.channels = init.channels
    this.height = init.height
    this.width = init.width
    this.images = init.images
    this.labels = init.labels
    this.classNames = init.classNames
    this.#statistics = init.statistics
    if (init.images.length !== this.size * this.imageBytes)
      throw bugError(`${init.name}: ${init.images.length} bytes for ${this.size} images of ${this.imageBytes}`)
    for (const label of init.labels)
      if (label < 0 || label >= init.classes)
        throw usageError(`${init.name}: label ${label} is outside 0..${init.classes - 1}`)
  }

  get imageBytes(): number {
    return this.channels * this.height * this.width
  }

  /** Image i, C*H*W bytes; a view, not a copy. */
  image(i: number): Uint8Array {
    return this.images.subarray(i * this.imageBytes, (i + 1) * this.imageBytes)
  }

  /** Mean and deviation of the training split: published for the standard sets, computed for the others. */
  async statistics(): Promise<Statistics> {
    return this.#statistics ? this.#statistics() : computeStatistics(this)
  }

  /** The first n images (all where n is larger), sharing memory with this set. */
  take(n: number): Dataset {
    if (!Number.isInteger(n) || n < 1)
      throw usageError(`cannot take ${n} images of ${this.name}`, 'give a whole number of at least 1')
    if (n >= this.size) return this
    return this.#with(this.images.subarray(0, n * this.imageBytes), this.labels.subarray(0, n))
  }

  /**
   * Holds out a part for validation: of each class the same fraction, chosen by `seed`; both parts keep the order of
   * the files. The fraction is rounded per class, with at least one image held out in all.
   */
  splitValidation(fraction: number, seed: number): { train: Dataset; validation: Dataset } {
    if (!(fraction > 0 && fraction < 1))
      throw usageError(`the validation part must be between 0 and 1, not ${fraction}`, 'e.g. --val-fraction 0.1')
    const byClass = Array.from({ length: this.classes }, (): number[] => [])
    for (let i = 0; i < this.size; i++) byClass[this.labels[i]!]!.push(i)
    const held = new Uint8Array(this.size)
    let owed = 0 // carries what rounding left, so that the total is right where classes are tiny
    for (const [label, members] of byClass.entries()) {
      owed += members.length * fraction
      const count = Math.min(members.length, Math.round(owed))
      owed -= count
      for (const i of new Rng(seed, label).shuffle(members).slice(0, count)) held[i] = 1
    }
    const chosen = (flag: number) => Array.from(held.keys()).filter((i) => held[i] === flag)
    const [kept, out] = [chosen(0), chosen(1)]
    if (out.length === 0 || kept.length === 0)
      throw usageError(`${this.name} has ${this.size} images: a part of ${fraction} leaves one side empty`)
    return { train: this.select(kept), validation: this.select(out) }
  }

  /** The named images, in that order, copied. */
  select(indices: readonly number[]): Dataset {
    const images = sharedBytes(indices.length * this.imageBytes)
    for (const [to, from] of indices.entries()) images.set(this.image(from), to * this.imageBytes)
    return this.#with(
      images,
      Int32Array.from(indices, (i) => this.labels[i]!),
    )
  }

  #with(images: Uint8Array, labels: Int32Array): Dataset {
    const { name, split, classes, channels, height, width, classNames } = this
    return new Dataset({
      ...{ name, split, classes, channels, height, width, classNames, images, labels },
      statistics: () => this.statistics(),
    })
  }
}

/** Mean and population standard deviation of pixels / 255, per channel; exact sums. */
export function computeStatistics(set: Dataset): Statistics {
  const plane = set.height * set.width
  const mean: number[] = []
  const std: number[] = []
  for (let c = 0; c < set.channels; c++) {
    let sum = 0
    let squares = 0
    for (let i = 0; i < set.size; i++) {
      const from = (i * set.channels + c) * plane
      for (let p = from; p < from + plane; p++) {
        const v = set.images[p]!
        sum += v
        squares += v * v
      }
    }
    const n = set.size * plane
    const m = sum / n
    mean.push(round6(m / 255))
    // A constant channel has no deviation to divide by.
    std.push(round6(Math.sqrt(Math.max(0, squares / n - m * m)) / 255) || 1)
  }
  return { mean, std }
}

/** Six decimals: more than float32 pixels can show, and short in a model's metadata. */
const round6 = (x: number): number => Math.round(x * 1e6) / 1e6
