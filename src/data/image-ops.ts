/**
 * Pixel operations, equal to the Python Imaging Library's (ImageOps, ImageEnhance) to the byte: integer luma, float32
 * blending that truncates, histograms over all pixels. Byte planes, grey or RGB.
 */
import type { Canvas } from './canvas.ts'

/** pixel -> table[pixel] in the channels from..to. */
function point(canvas: Canvas, table: ArrayLike<number>, from = 0, to = canvas.channels): void {
  const { pixels, plane } = canvas
  const end = to * plane
  for (let i = from * plane; i < end; i++) pixels[i] = table[pixels[i]!]!
}

const tableOf = (f: (v: number) => number): Uint8Array => Uint8Array.from({ length: 256 }, (_, v) => f(v))

const inverted = tableOf((v) => 255 - v)

export const invert = (canvas: Canvas): void => point(canvas, inverted)

/** Inverts what is at or above the threshold. */
export function solarize(canvas: Canvas, threshold: number): void {
  point(
    canvas,
    tableOf((v) => (v < threshold ? v : 255 - v)),
  )
}

/** Keeps the upper bits. */
export function posterize(canvas: Canvas, bits: number): void {
  const mask = ~(2 ** (8 - Math.trunc(bits)) - 1)
  point(
    canvas,
    tableOf((v) => v & mask),
  )
}

function histogram(canvas: Canvas, channel: number): Int32Array {
  const counts = new Int32Array(256)
  const { pixels, plane } = canvas
  const end = (channel + 1) * plane
  for (let i = channel * plane; i < end; i++) counts[pixels[i]!]!++
  return counts
}

/** Stretches each channel so that its darkest pixel is 0 and its brightest 255. */
export function autoContrast(canvas: Canvas): void {
  for (let c = 0; c < canvas.channels; c++) {
    const counts = histogram(canvas, c)
    const low = counts.findIndex((n) => n > 0)
    const high = counts.findLastIndex((n) => n > 0)
    if (high <= low) continue
    const scale = 255 / (high - low)
    const offset = -low * scale
    const table = tableOf((v) => Math.max(0, Math.min(255, Math.trunc(v * scale + offset))))
    point(canvas, table, c, c + 1)
  }
}

/** Flattens each channel's histogram. */
export function equalize(canvas: Canvas): void {
  for (let c = 0; c < canvas.channels; c++) {
    const counts = histogram(canvas, c)
    const last = counts.findLast((n) => n > 0) ?? 0
    const step = Math.floor((canvas.plane - last) / 255)
    if (step === 0) continue
    let n = Math.floor(step / 2)
    const table = new Uint8Array(256)
    for (let v = 0; v < 256; v++) {
      table[v] = Math.min(255, Math.floor(n / step))
      n += counts[v]!
    }
    point(canvas, table, c, c + 1)
  }
}

/** PIL's luma of an RGB pixel. */
const luma = (r: number, g: number, b: number): number => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16

/** factor * (to - from) in float32, at [to - from + 255]. */
function differences(factor: number): Float32Array {
  const alpha = Math.fround(factor)
  return Float32Array.from({ length: 511 }, (_, i) => alpha * (i - 255))
}

/** PIL's blend from `from` towards a pixel at the tabled difference: float32, truncated, clipped beyond 0..1. */
function blend(from: number, to: number, scaled: Float32Array): number {
  const v = Math.fround(from + scaled[to - from + 255]!)
  return v <= 0 ? 0 : v >= 255 ? 255 : Math.trunc(v)
}

/** Factor 0 is black. */
export function brightness(canvas: Canvas, factor: number): void {
  const scaled = differences(factor)
  point(
    canvas,
    tableOf((v) => blend(0, v, scaled)),
  )
}

/** Factor 0 is the mean luma everywhere. */
export function contrast(canvas: Canvas, factor: number): void {
  const { pixels, plane, channels } = canvas
  let sum = 0
  if (channels === 1) for (let p = 0; p < plane; p++) sum += pixels[p]!
  else for (let p = 0; p < plane; p++) sum += luma(pixels[p]!, pixels[plane + p]!, pixels[2 * plane + p]!)
  const mean = Math.trunc(sum / plane + 0.5)
  const scaled = differences(factor)
  point(
    canvas,
    tableOf((v) => blend(mean, v, scaled)),
  )
}

/** Factor 0 is grey; nothing to do on a grey picture. */
export function color(canvas: Canvas, factor: number): void {
  const { pixels, plane, channels } = canvas
  if (channels === 1 || factor === 1) return
  const scaled = differences(factor)
  for (let p = 0; p < plane; p++) {
    const grey = luma(pixels[p]!, pixels[plane + p]!, pixels[2 * plane + p]!)
    for (let i = p; i < 3 * plane; i += plane) pixels[i] = blend(grey, pixels[i]!, scaled)
  }
}

/** Factor 0 is PIL's SMOOTH filter: the pixel five times and its neighbours once, over 13; the border stays. */
export function sharpness(canvas: Canvas, factor: number): void {
  const { pixels, spare, plane, channels, height, width } = canvas
  const scaled = differences(factor)
  spare.set(pixels)
  for (let c = 0; c < channels; c++)
    for (let y = 1; y < height - 1; y++) {
      const row = c * plane + y * width
      for (let i = row + 1; i < row + width - 1; i++) {
        const [up, down] = [i - width, i + width]
        const above = pixels[up - 1]! + pixels[up]! + pixels[up + 1]!
        const below = pixels[down - 1]! + pixels[down]! + pixels[down + 1]!
        const sum = above + below + pixels[i - 1]! + 5 * pixels[i]! + pixels[i + 1]!
        // Thirteenths are never halfway, so PIL's float32 sum rounds to the same byte.
        const smooth = Math.floor((2 * sum + 13) / 26)
        spare[i] = blend(smooth, pixels[i]!, scaled)
      }
    }
  canvas.swap()
}
