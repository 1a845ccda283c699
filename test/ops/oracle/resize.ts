/** Resize along one axis as the matrix that the standard's reference implementation amounts to. */
import type { Node } from '../../../src/graph/graph.ts'

function sourceOf(node: Node, i: number, size: number, out: number, scale: number): number {
  switch (node.string('coordinate_transformation_mode', 'half_pixel')) {
    case 'asymmetric':
      return i / scale
    case 'align_corners':
      return out === 1 ? 0 : (i * (size - 1)) / (out - 1)
    case 'pytorch_half_pixel':
      return out > 1 ? (i + 0.5) / scale - 0.5 : 0
    case 'half_pixel_symmetric':
      return (size / 2) * (1 - out / (scale * size)) + (i + 0.5) / scale - 0.5
    default:
      return (i + 0.5) / scale - 0.5
  }
}

function nearestOf(node: Node, x: number): number {
  switch (node.string('nearest_mode', 'round_prefer_floor')) {
    case 'floor':
      return Math.floor(x)
    case 'ceil':
      return Math.ceil(x)
    case 'round_prefer_ceil':
      return Math.floor(x + 0.5)
    default:
      return Math.ceil(x - 0.5)
  }
}

/** Keys' cubic convolution kernel. */
function cubic(d: number, a: number): number {
  const t = Math.abs(d)
  if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1
  return t < 2 ? ((a * t - 5 * a) * t + 8 * a) * t - 4 * a : 0
}

/** [size, out], row-major: column o holds the weights of output o. */
export function resizeMatrix(node: Node, size: number, out: number, scale: number): number[] {
  const m = Array<number>(size * out).fill(0)
  const mode = node.string('mode', 'nearest')
  const clamp = (i: number): number => Math.min(Math.max(i, 0), size - 1)
  for (let o = 0; o < out; o++) {
    const x = sourceOf(node, o, size, out, scale)
    const base = Math.floor(x)
    const taps: [number, number][] =
      mode === 'nearest'
        ? [[nearestOf(node, x), 1]]
        : mode === 'linear'
          ? [base, base + 1].map((i) => [i, 1 - Math.abs(x - i)])
          : [-1, 0, 1, 2].map((k) => [base + k, cubic(x - base - k, node.float('cubic_coeff_a', -0.75))])
    const outside = node.int('exclude_outside', 0) === 1
    const used = outside ? taps.filter(([i]) => i >= 0 && i < size) : taps
    const total = outside ? used.reduce((s, [, w]) => s + w, 0) : 1
    for (const [i, w] of used) m[clamp(i) * out + o]! += w / total
  }
  return m
}
