/**
 * A histogram of a stream of numbers in constant memory: when a value lies outside, the bins are merged by twos until
 * it fits, so the result does not depend on how the stream was cut into batches beyond that. Zeros are counted separately
 * (after a ReLU they are the majority, and no scale gets them wrong).
 *
 * One value may be 1e30 times the others: then all of them are in one bin. So magnitudes are counted a second time in
 * bins of equal ratio (the exponent and first mantissa bits of a float32), from which percentiles are read.
 *
 * Activation scales from it, for integers lo..hi less the zero point:
 *   max         the smallest that clips nothing
 *   percentile  the smallest that clips nothing within that percentile of |x|
 *   mse         the least squared error over 200 scales (bin centres stand for their values)
 *   entropy     the least KL(values || quantised values) over clipping points (Migacz, 8-bit inference with TensorRT,
 *               2017), on |x|
 */
import { modelError } from '../base/errors.ts'
import type { ElementType } from '../graph/types.ts'
import { quantizeValue, stepOfLeastError, stepWithout } from './quantizer.ts'

export type CalibrationMethod = 'mse' | 'max' | 'percentile' | 'entropy'

/** Bins on each side of zero. After a merge at least half of them are in use: 2048 for 16 to 256 levels. */
const BINS = 4096
const SCALE_STEPS = 200
/** The entropy search looks at this many clipping points. */
const ENTROPY_STEPS = 256

/** Mantissa bits that tell magnitudes apart: bins 0.1 % wide, so a percentile is at most that much too large. */
const MANTISSA_BITS = 10
const BINS_AN_EXPONENT = 2 ** MANTISSA_BITS
const DROPPED_BITS = 23 - MANTISSA_BITS

const bits = new Uint32Array(1)
const asFloat = new Float32Array(bits.buffer)

export class Histogram {
  /** Counts of |x|, by exponent as float32 has it, then by mantissa; exponents that never came have none. */
  readonly #ratios: (Float64Array | undefined)[] = []
  readonly positive = new Float64Array(BINS)
  readonly negative = new Float64Array(BINS)
  zeros = 0
  count = 0
  /** Element type of what the model computes, whether or not the file declares it. */
  elem: ElementType = 'float32'
  min = 0
  max = 0
  /** Upper end of the last bin of either side; 0 before the first non-zero value. */
  range = 0

  /** Adds values; a model error, naming `what`, for one that is not finite. */
  add(values: Float32Array, what: string): void {
    for (let i = 0; i < values.length; i++) {
      const v = values[i]!
      if (v < this.min) this.min = v
      else if (v > this.max) this.max = v
      else if (Number.isNaN(v)) throw notFinite(what)
    }
    const top = Math.max(this.max, -this.min)
    if (top === Number.POSITIVE_INFINITY) throw notFinite(what)
    if (top > 0 && top >= this.range) this.#widen(top)
    this.count += values.length
    const perUnit = this.range > 0 ? BINS / this.range : 0
    const { positive, negative } = this
    let zeros = 0
    for (let i = 0; i < values.length; i++) {
      const v = values[i]!
      if (v > 0) positive[Math.min(BINS - 1, Math.floor(v * perUnit))]!++
      else if (v < 0) negative[Math.min(BINS - 1, Math.floor(-v * perUnit))]!++
      else zeros++
    }
    this.zeros += zeros
    this.#countRatios(values)
  }

  #countRatios(values: Float32Array): void {
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
    for (let i = 0; i < words.length; i++) {
      const at = (words[i]! & 0x7fffffff) >>> DROPPED_BITS
      const exponent = at >>> MANTISSA_BITS
      let page = this.#ratios[exponent]
      if (!page) this.#ratios[exponent] = page = new Float64Array(BINS_AN_EXPONENT)
      page[at & (BINS_AN_EXPONENT - 1)]!++
    }
  }

  /** |x| that `percentile` percent of all values, zeros included, do not exceed, to one bin of equal ratio; not 0 unless all are. */
  magnitudeAt(percentile: number): number {
    const wanted = (this.count * percentile) / 100
    const largest = Math.max(this.max, -this.min)
    let seen = 0
    for (const [exponent, page] of this.#ratios.entries())
      for (let k = 0; page && k < BINS_AN_EXPONENT; k++) {
        seen += page[k]!
        if (seen < wanted || seen <= this.zeros) continue
        // the lower end of the bin after it
        bits[0] = (exponent * BINS_AN_EXPONENT + k + 1) << DROPPED_BITS
        return Math.min(largest, asFloat[0]!)
      }
    return largest
  }

  #widen(top: number): void {
    if (this.range === 0) {
      // a power of two, so that where bins end does not depend on the first batch; above `top`, as bins hold no upper end
      this.range = 2 ** (Math.floor(Math.log2(top)) + 1)
      return
    }
    while (this.range <= top) {
      for (const bins of [this.positive, this.negative]) {
        for (let i = 0; i < BINS / 2; i++) bins[i] = bins[2 * i]! + bins[2 * i + 1]!
        bins.fill(0, BINS / 2)
      }
      this.range *= 2
    }
  }

  /** Counts of |x| by bin. */
  magnitudes(): Float64Array {
    return this.positive.map((n, i) => n + this.negative[i]!)
  }

  centre(bin: number): number {
    return ((bin + 0.5) * this.range) / BINS
  }
}

function notFinite(what: string): Error {
  return modelError('not-finite', `'${what}' takes non-finite values on the calibration data`, {
    next: 'check the preprocessing (--mean --std --scale) and the model, or continue with --allow-nonfinite',
  })
}

/** The scale for integers lo..hi, of the values' type; 1 where all values were zero. `percentile` in (0, 100]. */
export function activationScale(
  h: Histogram,
  lo: number,
  hi: number,
  method: CalibrationMethod,
  percentile = 99.99,
): number {
  const unclipped = scaleWithin(h, Number.POSITIVE_INFINITY, lo, hi)
  if (!(unclipped > 0)) return 1
  if (method === 'mse') return stepOfLeastError(unclipped, h.elem, SCALE_STEPS, quantizationError(h, lo, hi))
  return stepWithout(scaleWithin(h, clippingPoint(h, lo, hi, method, percentile), lo, hi), h.elem)
}

/** The smallest scale that clips no value of at most `limit`, on either side of zero. */
const scaleWithin = (h: Histogram, limit: number, lo: number, hi: number): number =>
  Math.max(hi > 0 ? Math.min(h.max, limit) / hi : 0, lo < 0 ? Math.max(h.min, -limit) / lo : 0)

/** |x| beyond which a method clips, for integers lo..hi; Infinity where it clips nothing, or decides by scale. */
export function clippingPoint(
  h: Histogram,
  lo: number,
  hi: number,
  method: CalibrationMethod,
  percentile: number,
): number {
  if (method === 'percentile') return h.magnitudeAt(percentile)
  // the wider side of zero decides; zero is one of the positive integers
  if (method === 'entropy') return leastDivergence(h, Math.max(hi + 1, -lo))
  return Number.POSITIVE_INFINITY
}

/** The sum of squared errors as a function of the scale, with bin centres for their values. */
export function quantizationError(h: Histogram, lo: number, hi: number): (step: number) => number {
  const positive = occupied(h, h.positive, 1)
  const negative = occupied(h, h.negative, -1)
  return (s) => sideError(positive, s, lo, hi) + sideError(negative, s, lo, hi)
}

/** Centres and counts of the bins that are not empty; most are, of a few values or of a long tail. */
interface Occupied {
  readonly centres: Float64Array
  readonly counts: Float64Array
}

function occupied(h: Histogram, bins: Float64Array, sign: number): Occupied {
  const used: number[] = []
  for (let i = 0; i < BINS; i++) if (bins[i] !== 0) used.push(i)
  return {
    centres: Float64Array.from(used, (i) => sign * h.centre(i)),
    counts: Float64Array.from(used, (i) => bins[i]!),
  }
}

function sideError({ centres, counts }: Occupied, s: number, lo: number, hi: number): number {
  let sum = 0
  for (let i = 0; i < centres.length; i++) {
    const x = centres[i]!
    const d = x - quantizeValue(x, s, lo, hi) * s
    sum += counts[i]! * d * d
  }
  return sum
}

/**
 * The clipping point T of least KL(P || Q): P the values below T with all beyond counted into the last bin, Q the same
 * spread evenly within each of the levels.
 */
function leastDivergence(h: Histogram, levels: number): number {
  const bins = h.magnitudes()
  const used = Math.min(BINS, Math.ceil((Math.max(h.max, -h.min) * BINS) / h.range))
  let best = used
  let bestDivergence = Number.POSITIVE_INFINITY
  const step = Math.max(1, Math.floor((used - levels) / ENTROPY_STEPS))
  for (let end = used; end >= levels; end -= step) {
    const d = divergence(bins, end, used, levels)
    if (d < bestDivergence) {
      best = end
      bestDivergence = d
    }
  }
  return (best * h.range) / BINS
}

function divergence(bins: Float64Array, end: number, used: number, levels: number): number {
  let total = 0
  let beyond = 0
  for (let i = 0; i < used; i++) total += bins[i]!
  for (let i = end; i < used; i++) beyond += bins[i]!
  let kl = 0
  for (let level = 0; level < levels; level++) {
    const from = Math.floor((level * end) / levels)
    const to = Math.floor(((level + 1) * end) / levels)
    let mass = 0
    let occupied = 0
    for (let i = from; i < to; i++) {
      mass += bins[i]!
      if (bins[i]! > 0) occupied++
    }
    for (let i = from; i < to; i++) {
      const p = bins[i]! + (i === end - 1 ? beyond : 0)
      if (p === 0) continue
      // a level without mass of its own still has to carry what was clipped into it
      const q = occupied > 0 && bins[i]! > 0 ? mass / occupied : 1e-9 * total
      kl += (p / total) * Math.log((p * (total - beyond)) / (q * total))
    }
  }
  return kl
}
