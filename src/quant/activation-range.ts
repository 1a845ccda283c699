/**
 * From a histogram to an activation quantiser: unsigned integers 0 .. 2^b-1 with a scale and a zero point z, so that the
 * float range is [-z s, (2^b-1-z) s].
 *
 *   unsigned    z = 0               values that cannot be negative
 *   symmetric   z = 2^(b-1)         the integers -2^(b-1) .. 2^(b-1)-1 less the zero point
 *   zero-point  as uneven as the values are; zero itself is still exact. z is the ratio of the extremes (of what is not
 *               clipped); for `mse` the best of the candidates
 *
 * Never signed types: onnxruntime 1.30 makes uint8 quantisers of int8 ones on x64, and of those that it moved across a
 * Reshape, pool or Transpose before, it changes the zero point alone: the file does not load.
 *
 * An h-swish ends at -0.375 and goes up to several units: of 16 symmetric integers it uses 8 or 9.
 */
import {
  activationScale,
  type CalibrationMethod,
  clippingPoint,
  type Histogram,
  quantizationError,
} from './histogram.ts'
import { integerRange } from './quantizer.ts'

export const signedForms = ['symmetric', 'zero-point'] as const
export type SignedForm = (typeof signedForms)[number]

export interface ActivationRange {
  readonly scale: number
  readonly zeroPoint: number
}

export interface ActivationOptions {
  readonly bits: number
  readonly nonNegative: boolean
  readonly signedInputs: SignedForm
  readonly calibration: CalibrationMethod
  readonly percentile: number
}

export function activationRange(h: Histogram, o: ActivationOptions): ActivationRange {
  const [, hi] = integerRange(o.bits, false)
  const scaleFor = (z: number): number => activationScale(h, -z, hi - z, o.calibration, o.percentile)
  const candidates = o.nonNegative ? [0] : o.signedInputs === 'symmetric' ? [2 ** (o.bits - 1)] : zeroPoints(h, hi, o)
  let best = { scale: 1, zeroPoint: candidates[0]! }
  let bestError = Number.POSITIVE_INFINITY
  for (const zeroPoint of candidates) {
    const scale = scaleFor(zeroPoint)
    const error = candidates.length === 1 ? 0 : quantizationError(h, -zeroPoint, hi - zeroPoint)(scale)
    if (error >= bestError) continue
    best = { scale, zeroPoint }
    bestError = error
  }
  return best
}

/** One quantiser for what several hold: from the lowest end to the highest, integers 0 .. `most`. */
export function commonRange(ranges: readonly ActivationRange[], most = 255): ActivationRange {
  const low = Math.max(...ranges.map((r) => r.zeroPoint * r.scale))
  const high = Math.max(...ranges.map((r) => (most - r.zeroPoint) * r.scale))
  const same = ranges.every((r) => r.scale === ranges[0]!.scale && r.zeroPoint === ranges[0]!.zeroPoint)
  if (same) return ranges[0]!
  const zeroPoint = Math.round((low * most) / (low + high))
  const within = (extent: number, levels: number): number => (levels > 0 ? extent / levels : 0)
  return { scale: Math.fround(Math.max(within(low, zeroPoint), within(high, most - zeroPoint))), zeroPoint }
}

/** Zero points to try: that of the whole range, and for mse also others (all of up to 16, else 17). */
function zeroPoints(h: Histogram, hi: number, { calibration, percentile }: ActivationOptions): number[] {
  const within = (limit: number): number => {
    const [least, most] = [Math.max(h.min, -limit), Math.min(h.max, limit)]
    return most > least ? Math.round((-least * hi) / (most - least)) : 0
  }
  const whole = within(Number.POSITIVE_INFINITY)
  if (calibration !== 'mse') return [within(clippingPoint(h, -whole, hi - whole, calibration, percentile))]
  if (hi <= 15) return Array.from({ length: hi }, (_, z) => z)
  return [...new Set(Array.from({ length: 17 }, (_, k) => Math.min(hi, Math.round((whole * k) / 8))))]
}
