/**
 * The arithmetic of uniform quantisers, as pure functions on typed arrays, bit for bit as onnxruntime's QuantizeLinear
 * and DequantizeLinear compute it: float32 division, rounding half to even, saturation.
 *
 * Weight scales per output channel or group of weights, symmetric, integers -2^(b-1) .. 2^(b-1)-1, zero point 0:
 *   als  alternating least squares from max|w| / 2^(b-1): q = clip(round(w/s)), s = <w,q> / <q,q>, up to 100 rounds
 *   mse  the best of 100 fractions of the scale that clips nothing
 *   max  the smallest scale that clips nothing
 */
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../base/float16.ts'
import { type ElementType, elementCount } from '../graph/types.ts'
import { type ScaleLayout, scaleDims, scaleIndices } from '../layers/scale-layout.ts'

export const weightScaleMethods = ['als', 'mse', 'max'] as const
export type WeightScaleMethod = (typeof weightScaleMethods)[number]

/** Rounds of alternating least squares, as published for the pipeline; DenseNet's weights settle in 5 to 30. */
const ALS_ROUNDS = 100
const MSE_STEPS = 100

/** Adding and subtracting 1.5 * 2^52 leaves a double with no fraction bits, rounded half to even. */
const ROUNDER = 1.5 * 2 ** 52
export const roundHalfEven = (x: number): number => (Math.abs(x) < 2 ** 51 ? x + ROUNDER - ROUNDER : x)

/** Range of `bits`-wide integers. */
export const integerRange = (bits: number, signed: boolean): readonly [lo: number, hi: number] =>
  signed ? [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] : [0, 2 ** bits - 1]

/** The integer (zero point 0) of x at `scale`. */
export function quantizeValue(x: number, scale: number, lo: number, hi: number): number {
  const q = roundHalfEven(Math.fround(x / scale))
  return Math.min(hi, Math.max(lo, q))
}

/** The least scale of a type: float32 below its normal range divides to infinity or is flushed to zero by some hardware. */
const leastStep = (elem: ElementType): number => (elem === 'float16' ? 2 ** -24 : 2 ** -126)

/**
 * The scale of type `elem` that is nearest to `s`: what the file will hold, and therefore what a search should evaluate. Never 0
 * nor infinity. Scales of float16 go down to its smallest number: onnxruntime widens them before it divides.
 */
export function stepOf(s: number, elem: ElementType): number {
  const least = leastStep(elem)
  if (!(s > least)) return least
  if (elem === 'float16') return Math.min(float16ToNumber(numberToFloat16(s)), 65504)
  if (elem === 'bfloat16') return bfloat16ToNumber(numberToBfloat16(Math.min(s, 3.38e38)))
  return Math.min(Math.fround(s), 3.4028234663852886e38)
}

/**
 * The scale that clips nothing where `s` does not: for float16, whose scales are far apart near 0, the next one if the
 * nearest is smaller.
 */
export function stepWithout(s: number, elem: ElementType): number {
  const near = stepOf(s, elem)
  if (elem !== 'float16' || near >= s || near === 65504) return near
  return float16ToNumber(numberToFloat16(near) + 1)
}

/**
 * The scales of a tensor, numbers of type `elem`; never 0 (zeros get 2^-14). Weights that are not finite do not count.
 */
export function fitWeightScales(
  weights: Float32Array,
  dims: readonly number[],
  layout: ScaleLayout,
  bits: number,
  method: WeightScaleMethod,
  elem: ElementType = 'float32',
): Float32Array {
  const [lo, hi] = integerRange(bits, true)
  const count = elementCount(scaleDims(dims, layout))
  return Float32Array.from(byScale(weights, scaleIndices(dims, layout), count), (group) =>
    fitScale(group, { lo, hi, elem }, method),
  )
}

/** The weights of each scale. */
function byScale(weights: Float32Array, indices: Int32Array, count: number): Float32Array[] {
  if (count === 1) return [weights]
  const sizes = new Int32Array(count)
  for (const s of indices) sizes[s]!++
  const groups = Array.from(sizes, (size) => new Float32Array(size))
  sizes.fill(0)
  for (let i = 0; i < weights.length; i++) groups[indices[i]!]![sizes[indices[i]!]!++] = weights[i]!
  return groups
}

interface Grid {
  readonly lo: number
  readonly hi: number
  /** Type of the scale. */
  readonly elem: ElementType
}

/**
 * onnxruntime's integer kernels round a layer's bias to whole multiples of scale(x) scale(w): where all weights are zero, a
 * bias is all there is, and a scale of 1 would leave two digits of it. Float16 holds this one as a normal number.
 */
const SCALE_OF_ZEROS = 2 ** -14

function fitScale(all: Float32Array, grid: Grid, method: WeightScaleMethod): number {
  const { lo, hi, elem } = grid
  const w = all.every(Number.isFinite) ? all : all.filter(Number.isFinite)
  let top = 0
  let bottom = 0
  for (let i = 0; i < w.length; i++) {
    if (w[i]! > top) top = w[i]!
    if (w[i]! < bottom) bottom = w[i]!
  }
  const unclipped = Math.max(top / hi, bottom / lo)
  // zeros, and what rounds to zero at the least scale
  if (!(unclipped * Math.max(hi, -lo) > leastStep(elem) / 2)) return SCALE_OF_ZEROS
  if (method === 'max') return stepWithout(unclipped, elem)
  if (method === 'mse') return stepOfLeastError([unclipped], elem, MSE_STEPS, (s) => squaredError(w, s, lo, hi))
  return alternate(w, stepWithout(Math.max(top, -bottom) / -lo, elem), grid)
}

function alternate(w: Float32Array, start: number, { lo, hi, elem }: Grid): number {
  let s = start
  for (let round = 0; round < ALS_ROUNDS; round++) {
    let wq = 0
    let qq = 0
    for (let i = 0; i < w.length; i++) {
      const q = quantizeValue(w[i]!, s, lo, hi)
      wq += w[i]! * q
      qq += q * q
    }
    if (!(wq / qq > 0)) break
    const next = stepOf(wq / qq, elem)
    // the fitted scale may no longer be better once it is rounded
    if (next === s || (elem !== 'float32' && squaredError(w, next, lo, hi) >= squaredError(w, s, lo, hi))) break
    s = next
  }
  return s
}

/**
 * Of the scale that clips nothing, which is the largest of `tops`, and the fractions k / `fractions` of each, the one of
 * least error, the first and largest of equal ones; a number of type `elem`.
 */
export function stepOfLeastError(
  tops: readonly number[],
  elem: ElementType,
  fractions: number,
  errorAt: (step: number) => number,
): number {
  const unclipped = Math.max(...tops)
  let best = stepWithout(unclipped, elem)
  let bestError = errorAt(best)
  for (const top of new Set(tops))
    for (let k = fractions; k > 0; k--) {
      const s = stepOf((top * k) / fractions, elem)
      const error = errorAt(s)
      if (error < bestError) {
        best = s
        bestError = error
      }
    }
  return best
}

function squaredError(w: Float32Array, s: number, lo: number, hi: number): number {
  let sum = 0
  for (let i = 0; i < w.length; i++) {
    const d = w[i]! - quantizeValue(w[i]!, s, lo, hi) * s
    sum += d * d
  }
  return sum
}

/** The values that a fake-quantised tensor takes: q * scale. */
export function fakeQuantize(
  weights: Float32Array,
  dims: readonly number[],
  layout: ScaleLayout,
  scales: Float32Array,
  bits: number,
): Float32Array {
  const [lo, hi] = integerRange(bits, true)
  const indices = scaleIndices(dims, layout)
  const out = new Float32Array(weights.length)
  for (let i = 0; i < out.length; i++) {
    const s = scales[indices[i]!]!
    out[i] = quantizeValue(weights[i]!, s, lo, hi) * s
  }
  return out
}
