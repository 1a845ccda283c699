/**
 * Writes one image into a batch of floats: normalised by a table per channel, resized where sizes differ, in the
 * model's layout. `normalise` is (pixel / scale - mean) / std in double precision, rounded once to float32.
 */
import { bugError } from '../base/errors.ts'
import type { ImageShape } from './image-shape.ts'
import type { Preprocess } from './preprocess.ts'
import { Resizer } from './resize.ts'

export class ImageWriter {
  /** Floats one image takes in the batch. */
  readonly imageFloats: number
  /** Channels of the model's input. */
  readonly channels: number
  /** tables[c][pixel]: the normalised value. */
  readonly tables: readonly Float32Array[]
  readonly #shape: ImageShape
  readonly #preprocess: Preprocess
  readonly #resizer: Resizer | null
  readonly #planes: Float32Array

  constructor(shape: ImageShape, preprocess: Preprocess) {
    const { size, mean, std, scale } = preprocess
    this.#shape = shape
    this.#preprocess = preprocess
    this.channels = mean.length
    if (shape.channels !== this.channels && shape.channels !== 1)
      throw bugError(`preprocessing for ${this.channels} channels does not fit images with ${shape.channels}`)
    this.imageFloats = this.channels * size[0] * size[1]
    const same = shape.height === size[0] && shape.width === size[1]
    this.#resizer = same ? null : new Resizer([shape.height, shape.width], size, preprocess.resize ?? 'bilinear')
    this.#planes = new Float32Array(
      same && preprocess.layout === 'NCHW' ? 0 : this.channels * shape.height * shape.width,
    )
    this.tables = mean.map((m, c) => Float32Array.from({ length: 256 }, (_, v) => (v / scale - m) / std[c]!))
  }

  /**
   * Where the caller writes normalised planes (C,H,W at the images' own size): straight into the batch when nothing is
   * left to do, otherwise into scratch memory. Follow with `finish`.
   */
  target(out: Float32Array, base: number): { planes: Float32Array; at: number } {
    return this.#planes.length > 0 ? { planes: this.#planes, at: 0 } : { planes: out, at: base }
  }

  /** Brings what was written to `target` to its place: resizes, transposes. */
  finish(out: Float32Array, base: number): void {
    if (this.#planes.length === 0) return
    const [height, width] = this.#preprocess.size
    const nhwc = this.#preprocess.layout === 'NHWC'
    const [cStride, yStride, xStride] = nhwc ? [1, width * this.channels, this.channels] : [height * width, width, 1]
    const plane = this.#shape.height * this.#shape.width
    for (let c = 0; c < this.channels; c++) {
      const at = base + c * cStride
      if (this.#resizer) this.#resizer.plane(this.#planes, c * plane, out, at, yStride, xStride)
      else for (let p = 0; p < plane; p++) out[at + p * xStride] = this.#planes[c * plane + p]!
    }
  }

  /** A whole image without augmentation: bytes images[from..] (C,H,W) to out[base..]. */
  write(images: Uint8Array, from: number, out: Float32Array, base: number): void {
    const { planes, at } = this.target(out, base)
    const plane = this.#shape.height * this.#shape.width
    for (let c = 0; c < this.channels; c++) {
      const source = from + (this.#shape.channels === 1 ? 0 : c * plane)
      lookUp(images, source, plane, this.tables[c]!, planes, at + c * plane)
    }
    this.finish(out, base)
  }
}

/**
 * Looks `count` bytes up in the table and writes what it says into `planes`. Functions of their own, so that the loops
 * contain nothing else.
 */
type LookUp = (
  bytes: Uint8Array,
  from: number,
  count: number,
  table: Float32Array,
  planes: Float32Array,
  at: number,
) => void

/** planes[at + i] = table[bytes[from + i]]. */
export const lookUp: LookUp = (bytes, from, count, table, planes, at) => {
  for (let i = 0; i < count; i++) planes[at + i] = table[bytes[from + i]!]!
}

/** planes[at - i] = table[bytes[from + i]]. */
export const lookUpBackwards: LookUp = (bytes, from, count, table, planes, at) => {
  for (let i = 0; i < count; i++) planes[at - i] = table[bytes[from + i]!]!
}
