/**
 * The interpolation matrix of Resize along one axis: row o holds the weights with which output o reads the inputs.
 * Coordinates as ONNX defines them for `coordinate_transformation_mode`, computed in single precision like
 * onnxruntime's, so that nearest rounds the same way.
 */
import type { Node } from '../graph/graph.ts'
import { unsupportedNode } from './define-op.ts'

export interface AxisMap {
  readonly size: number
  readonly out: number
  readonly scale: number
  /** Region read, as fractions of the axis (tf_crop_and_resize). */
  readonly roi: readonly number[]
}

const f = Math.fround

/** Row-major [out, size]. */
export function interpolation(node: Node, map: AxisMap): Float64Array {
  const { size, out } = map
  const m = new Float64Array(out * size)
  const mode = node.string('mode', 'nearest')
  const crops = node.string('coordinate_transformation_mode', '') === 'tf_crop_and_resize'
  for (let o = 0; o < out; o++) {
    const x = original(node, o, map)
    // extrapolated positions are a constant
    if (crops && (x < 0 || x > size - 1)) continue
    if (mode === 'nearest') {
      const at = Math.min(Math.max(nearest(x, node.string('nearest_mode', 'round_prefer_floor')), 0), size - 1)
      m[o * size + at] = 1
    } else if (mode === 'linear') addTaps(m, o, size, linearTaps(x, size), false)
    else if (mode === 'cubic')
      addTaps(m, o, size, cubicTaps(x, node.float('cubic_coeff_a', -0.75)), node.int('exclude_outside', 0) === 1)
    else throw unsupportedNode(node, `no gradient: resizing mode '${mode}'`)
  }
  return m
}

/** The position in the input that output position `o` stands for. */
function original(node: Node, o: number, { size, out, scale, roi }: AxisMap): number {
  const s = f(scale)
  const mode = node.string('coordinate_transformation_mode', 'half_pixel')
  switch (mode) {
    case 'half_pixel':
      return f(f((o + 0.5) / s) - 0.5)
    case 'half_pixel_symmetric': {
      // the output is centred over the input when scale * size is not whole
      const adjustment = f(out / f(s * size))
      const offset = f((size / 2) * (1 - adjustment))
      return f(offset + f(f((o + 0.5) / s) - 0.5))
    }
    case 'pytorch_half_pixel':
      return out > 1 ? f(f((o + 0.5) / s) - 0.5) : 0
    case 'align_corners':
      return out === 1 ? 0 : f((o * (size - 1)) / (out - 1))
    case 'asymmetric':
      return f(o / s)
    case 'tf_crop_and_resize': {
      const [start, end] = [roi[0]!, roi[1]!]
      return out > 1
        ? f(start * (size - 1) + (o * (end - start) * (size - 1)) / (out - 1))
        : f(0.5 * (start + end) * (size - 1))
    }
    default:
      throw unsupportedNode(node, `no gradient: coordinate_transformation_mode '${mode}'`)
  }
}

function nearest(x: number, mode: string): number {
  if (mode === 'floor') return Math.floor(x)
  if (mode === 'ceil') return Math.ceil(x)
  if (mode === 'round_prefer_ceil') return Math.floor(x + 0.5)
  return x === Math.floor(x) + 0.5 ? Math.floor(x) : Math.floor(x + 0.5)
}

type Tap = readonly [position: number, weight: number]

function linearTaps(x: number, size: number): Tap[] {
  const at = Math.min(Math.max(x, 0), size - 1)
  const low = Math.floor(at)
  return [
    [low, 1 - (at - low)],
    [low + 1, at - low],
  ]
}

/** Keys' cubic convolution with coefficient a. */
function cubicTaps(x: number, a: number): Tap[] {
  const low = Math.floor(x)
  const t = x - low
  const near = (d: number): number => ((a + 2) * d - (a + 3)) * d * d + 1
  const far = (d: number): number => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
  return [
    [low - 1, far(t + 1)],
    [low, near(t)],
    [low + 1, near(1 - t)],
    [low + 2, far(2 - t)],
  ]
}

/** Adds taps to row o: positions outside repeat the border, or are left out and the rest scaled to sum 1. */
function addTaps(m: Float64Array, o: number, size: number, taps: readonly Tap[], excludeOutside: boolean): void {
  const inside = (p: number): boolean => p >= 0 && p < size
  const used = excludeOutside ? taps.filter(([p]) => inside(p)) : taps
  const total = excludeOutside ? used.reduce((s, [, w]) => s + w, 0) : 1
  for (const [p, w] of used) {
    const at = o * size + Math.min(Math.max(p, 0), size - 1)
    m[at] = m[at]! + w / total
  }
}
