/**
 * How Resize reads its input along one axis: the inputs of each output and their weights.
 * Coordinates as ONNX defines them for `coordinate_transformation_mode`, computed in single precision like
 * onnxruntime's, so that nearest rounds the same way.
 */
import type { Node } from '../graph/graph.ts'
import { type AxisTaps, axisTaps, type Tap } from './axis-taps.ts'
import { unsupportedNode } from './define-op.ts'

export interface AxisMap {
  readonly size: number
  readonly out: number
  readonly scale: number
  /** Region read, as fractions of the axis (tf_crop_and_resize). */
  readonly roi: readonly number[]
}

const f = Math.fround

export function interpolation(node: Node, map: AxisMap): AxisTaps {
  const { size, out } = map
  const mode = node.string('mode', 'nearest')
  const crops = node.string('coordinate_transformation_mode', '') === 'tf_crop_and_resize'
  const rounding = node.string('nearest_mode', 'round_prefer_floor')
  const [a, excludes] = [node.float('cubic_coeff_a', -0.75), node.int('exclude_outside', 0) === 1]
  return axisTaps(size, out, (o) => {
    const x = original(node, o, map)
    // extrapolated positions are a constant
    if (crops && (x < 0 || x > size - 1)) return []
    if (mode === 'nearest') return [[Math.min(Math.max(nearest(x, rounding), 0), size - 1), 1]]
    if (mode === 'linear') return within(linearTaps(x, size), size, false)
    if (mode === 'cubic') return within(cubicTaps(x, a), size, excludes)
    throw unsupportedNode(node, `no gradient: resizing mode '${mode}'`)
  })
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
      return out === 1 ? 0 : f(f(o * (size - 1)) / (out - 1))
    case 'asymmetric':
      return f(o / s)
    case 'tf_crop_and_resize': {
      const [start, end] = [roi[0]!, roi[1]!]
      return out > 1
        ? f(f(start * (size - 1)) + f(f(f(o * f(end - start)) * (size - 1)) / (out - 1)))
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

/** Positions outside repeat the border, or are left out and the rest scaled to sum 1. */
function within(taps: readonly Tap[], size: number, excludeOutside: boolean): Tap[] {
  const used = excludeOutside ? taps.filter(([p]) => p >= 0 && p < size) : taps
  const total = excludeOutside ? used.reduce((s, [, w]) => s + w, 0) : 1
  return used.map(([p, w]) => [Math.min(Math.max(p, 0), size - 1), w / total])
}
