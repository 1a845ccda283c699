/**
 * Resizing of float planes, separable, as a matrix of weights per axis. Bilinear is the triangle filter with half-pixel
 * centres, widened by the scale when shrinking so that nothing aliases (what PIL's BILINEAR and PyTorch's
 * `interpolate(antialias=True)` compute); enlarging, it is ONNX Resize `linear`, `half_pixel`. Nearest takes the pixel
 * at floor((i + 0.5) * in / out).
 */
export type ResizeMode = 'bilinear' | 'nearest'

/** For output i: weights[i*taps .. +taps] over inputs first[i].. . */
interface Axis {
  readonly taps: number
  readonly first: Int32Array
  readonly weights: Float32Array
}

function axis(from: number, to: number, mode: ResizeMode): Axis {
  const scale = from / to
  const first = new Int32Array(to)
  if (mode === 'nearest') {
    for (let i = 0; i < to; i++) first[i] = Math.min(from - 1, Math.floor((i + 0.5) * scale))
    return { taps: 1, first, weights: new Float32Array(to).fill(1) }
  }
  const reach = Math.max(1, scale)
  const taps = Math.min(from, Math.ceil(reach) * 2 + 1)
  const weights = new Float32Array(to * taps)
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale
    const low = Math.max(0, Math.min(from - taps, Math.floor(centre - reach)))
    first[i] = low
    const row = Array.from({ length: taps }, (_, t) => Math.max(0, 1 - Math.abs(low + t + 0.5 - centre) / reach))
    const sum = row.reduce((a, b) => a + b, 0)
    for (let t = 0; t < taps; t++) weights[i * taps + t] = row[t]! / sum
  }
  return { taps, first, weights }
}

/** Resizes planes of one size to another; the output may be strided (NHWC). */
export class Resizer {
  readonly #x: Axis
  readonly #y: Axis
  readonly #from: readonly [number, number]
  readonly #to: readonly [number, number]
  readonly #rows: Float32Array

  /** Sizes are [height, width]. */
  constructor(from: readonly [number, number], to: readonly [number, number], mode: ResizeMode) {
    this.#from = from
    this.#to = to
    this.#y = axis(from[0], to[0], mode)
    this.#x = axis(from[1], to[1], mode)
    this.#rows = new Float32Array(from[0] * to[1])
  }

  /** One plane from source[at..] to out[base + y*yStride + x*xStride]. */
  plane(source: Float32Array, at: number, out: Float32Array, base: number, yStride: number, xStride: number): void {
    const [height, width] = this.#from
    const [outHeight, outWidth] = this.#to
    const { first: fx, weights: wx, taps: tx } = this.#x
    const { first: fy, weights: wy, taps: ty } = this.#y
    const rows = this.#rows
    for (let y = 0; y < height; y++)
      for (let x = 0; x < outWidth; x++) {
        const from = at + y * width + fx[x]!
        let sum = 0
        for (let t = 0; t < tx; t++) sum += source[from + t]! * wx[x * tx + t]!
        rows[y * outWidth + x] = sum
      }
    for (let y = 0; y < outHeight; y++)
      for (let x = 0; x < outWidth; x++) {
        const from = fy[y]! * outWidth + x
        let sum = 0
        for (let t = 0; t < ty; t++) sum += rows[from + t * outWidth]! * wy[y * ty + t]!
        out[base + y * yStride + x * xStride] = sum
      }
  }
}
