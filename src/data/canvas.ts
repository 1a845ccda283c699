/**
 * The picture that augmentation works on: byte planes and a mask of exposed pixels, those that geometry or cutout left
 * without content. An exposed pixel holds the fill colour (so that later operations see something neutral) and becomes
 * exactly 0 after normalisation, which no byte value does.
 */
import type { ImageShape } from './image-shape.ts'

export class Canvas {
  readonly channels: number
  readonly height: number
  readonly width: number
  /** Bytes of one channel. */
  readonly plane: number
  /** The content of exposed pixels, one byte per channel. */
  readonly fill: Uint8Array
  pixels: Uint8Array
  /** 1 where exposed. Meaningful only while `exposed`. */
  mask: Uint8Array
  /** Whether any pixel is exposed. */
  exposed = false
  #sparePixels: Uint8Array
  #spareMask: Uint8Array

  constructor({ channels, height, width }: ImageShape, fill: ArrayLike<number>) {
    this.channels = channels
    this.height = height
    this.width = width
    this.plane = height * width
    this.fill = Uint8Array.from(fill)
    this.pixels = new Uint8Array(channels * this.plane)
    this.#sparePixels = new Uint8Array(channels * this.plane)
    this.mask = new Uint8Array(this.plane)
    this.#spareMask = new Uint8Array(this.plane)
  }

  /** Starts over with an image of images[from..], nothing exposed. */
  load(images: Uint8Array, from: number): void {
    this.pixels.set(images.subarray(from, from + this.pixels.length))
    this.exposed = false
  }

  /** Where an operation that cannot work in place writes; `swap` makes it the picture. */
  get spare(): Uint8Array {
    return this.#sparePixels
  }

  swap(): void {
    const { pixels } = this
    this.pixels = this.#sparePixels
    this.#sparePixels = pixels
  }

  /** Moves pixels: pixel p becomes what was at map[p], exposed where that is negative. */
  gather(map: Int32Array): void {
    const { plane, pixels, mask, exposed } = this
    const out = this.#sparePixels
    const outMask = this.#spareMask
    for (let c = 0; c < this.channels; c++) gatherBytes(pixels, c * plane, map, this.fill[c]!, out, c * plane)
    if (!exposed) mask.fill(0)
    gatherBytes(mask, 0, map, 1, outMask, 0)
    this.exposed = true
    this.swap()
    this.#spareMask = mask
    this.mask = outMask
  }

  /** Exposes a rectangle, cut off at the edges. */
  expose(top: number, left: number, height: number, width: number): void {
    const [y0, y1] = [Math.max(0, top), Math.min(this.height, top + height)]
    const [x0, x1] = [Math.max(0, left), Math.min(this.width, left + width)]
    if (!this.exposed) this.mask.fill(0)
    this.exposed = true
    for (let y = y0; y < y1; y++)
      for (let x = x0; x < x1; x++) {
        const p = y * this.width + x
        this.mask[p] = 1
        for (let c = 0; c < this.channels; c++) this.pixels[c * this.plane + p] = this.fill[c]!
      }
  }
}

/** out[at + p] = bytes[from + map[p]], or `fill` where the map is negative. */
function gatherBytes(
  bytes: Uint8Array,
  from: number,
  map: Int32Array,
  fill: number,
  out: Uint8Array,
  at: number,
): void {
  for (let p = 0; p < map.length; p++) {
    const source = map[p]!
    out[at + p] = source < 0 ? fill : bytes[from + source]!
  }
}
