/**
 * A histogram of a stream of numbers in constant memory, of bins of equal ratio: the sign, the exponent and the first
 * mantissa bits of a float32. So it does not depend on how the stream was cut into batches, and one value may be 1e30 times
 * the others. Zeros are counted apart (after a ReLU they are most of it, and no scale gets them wrong).
 *
 * Searches look at it through linear bins up to a power of two (`view`), into which those of equal ratio fall whole: up to
 * the largest value, or less where most values would share a few bins; what lies beyond keeps bins of equal ratio.
 *
 * Activation scales from it, for integers lo..hi less the zero point:
 *   max         the smallest that clips nothing
 *   percentile  the smallest that clips nothing within that percentile of |x|
 *   mse         the least squared error over 200 scales, or as many by every hundredth of the largest value down to the
 *               others (bin centres stand for their values)
 *   entropy     the least KL(values || quantised values) over clipping points (Migacz, 8-bit inference with TensorRT,
 *               2017), on |x|
 */
import { modelError } from '../base/errors.ts'
import type { ElementType } from '../graph/types.ts'
import { quantizeValue, stepOfLeastError, stepWithout } from './quantizer.ts'

export type CalibrationMethod = 'mse' | 'max' | 'percentile' | 'entropy'

/** Linear bins on each side of zero. At least half of them are in use: 2048 for 16 to 256 levels. */
const BINS = 4096
const SCALE_STEPS = 200
/** The entropy search looks at this many clipping points. */
const ENTROPY_STEPS = 256

/** Mantissa bits that tell values apart: 0.05 %, and in the upper half of a linear range exactly its bins. */
const MANTISSA_BITS = 11
const PAGE = 2 ** MANTISSA_BITS
const DROPPED_BITS = 23 - MANTISSA_BITS
/** Exponents of float32, by sign. */
const EXPONENTS = 256

/**
 * Linear bins end where all but a hundredth of the values lie below a quarter of them: these then have 512 bins or more, and
 * no search would clip farther out.
 */
const BULK = 99
const HEADROOM = 4

const bits = new Uint32Array(1)
const asFloat = new Float32Array(bits.buffer)

/** The magnitude at which the bin of equal ratio `at` begins, all exponents one after another. */
function edge(at: number): number {
  if (at >= 255 * PAGE) return 2 ** 128
  bits[0] = at << DROPPED_BITS
  return asFloat[0]!
}

/** Counts of one side of zero. */
export interface Side {
  /** By linear bin. */
  readonly bins: Float64Array
  /** Beyond the last of them: centres and counts of the bins of equal ratio that are not empty. */
  readonly beyond: readonly (readonly [centre: number, count: number])[]
}

export interface View {
  /** Upper end of the last linear bin; 0 where all values are. */
  readonly range: number
  readonly positive: Side
  readonly negative: Side
}

export class Histogram {
  /** Counts by sign and exponent as float32 has them, then by mantissa; exponents that never came have none. */
  readonly #pages: (Float64Array | undefined)[] = []
  #view: View | null = null
  zeros = 0
  count = 0
  /** Element type of what the model computes, whether or not the file declares it. */
  elem: ElementType = 'float32'
  min = 0
  max = 0

  /** Adds values; a model error, naming `what`, for one that is not finite. */
  add(values: Float32Array, what: string): void {
    for (let i = 0; i < values.length; i++) {
      const v = values[i]!
      if (v < this.min) this.min = v
      else if (v > this.max) this.max = v
      else if (Number.isNaN(v)) throw notFinite(what)
    }
    if (this.#largest() === Number.POSITIVE_INFINITY) throw notFinite(what)
    this.#view = null
    this.count += values.length
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length)
    let zeros = 0
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!
      if ((word & 0x7fffffff) === 0) {
        zeros++
        continue
      }
      const at = word >>> DROPPED_BITS
      const exponent = at >>> MANTISSA_BITS
      let page = this.#pages[exponent]
      if (!page) this.#pages[exponent] = page = new Float64Array(PAGE)
      page[at & (PAGE - 1)]!++
    }
    this.zeros += zeros
  }

  #largest(): number {
    return Math.max(this.max, -this.min)
  }

  /** |x| that `percentile` percent of all values, zeros included, do not exceed, to one bin of equal ratio; not 0 unless all are. */
  magnitudeAt(percentile: number): number {
    return this.#magnitudeOf(Math.max(this.zeros + 1, (this.count * percentile) / 100))
  }

  /** The upper end of the bin that holds the `rank`th of all values by magnitude, or the largest. */
  #magnitudeOf(rank: number): number {
    let seen = this.zeros
    for (let exponent = 0; exponent < EXPONENTS; exponent++) {
      const sides = [this.#pages[exponent], this.#pages[exponent + EXPONENTS]]
      if (!sides[0] && !sides[1]) continue
      for (let k = 0; k < PAGE; k++) {
        seen += (sides[0]?.[k] ?? 0) + (sides[1]?.[k] ?? 0)
        if (seen >= rank && seen > this.zeros) return Math.min(this.#largest(), edge(exponent * PAGE + k + 1))
      }
    }
    return this.#largest()
  }

  /** What has been counted so far, in linear bins. */
  view(): View {
    this.#view ??= this.#viewUpTo(this.#linearRange())
    return this.#view
  }

  #linearRange(): number {
    const others = this.count - this.zeros
    if (others === 0) return 0
    // a power of two above the value, as bins hold no upper end
    const above = (x: number): number => 2 ** (Math.floor(Math.log2(x)) + 1)
    const rank = Math.max(1, Math.min(others - 1, Math.ceil((others * BULK) / 100)))
    return Math.min(above(this.#largest()), HEADROOM * above(this.#magnitudeOf(this.zeros + rank)))
  }

  #viewUpTo(range: number): View {
    const side = (sign: number): Side => {
      const bins = new Float64Array(BINS)
      const beyond: [number, number][] = []
      for (let exponent = 0; exponent < EXPONENTS; exponent++) {
        const page = this.#pages[sign * EXPONENTS + exponent]
        for (let k = 0; page && k < PAGE; k++) {
          if (page[k] === 0) continue
          const from = edge(exponent * PAGE + k)
          if (from < range) bins[Math.floor((from * BINS) / range)]! += page[k]!
          else beyond.push([(from + edge(exponent * PAGE + k + 1)) / 2, page[k]!])
        }
      }
      return { bins, beyond }
    }
    return { range, positive: side(0), negative: side(1) }
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
  if (method === 'mse') {
    // of each its fractions, down to a 200th: where a few values are far beyond the others, no scale is left out between
    const tops = [scaleWithin(h, h.view().range, lo, hi)]
    for (let s = unclipped; s > tops[0]!; s /= SCALE_STEPS / 2) tops.push(s)
    return stepOfLeastError(tops, h.elem, SCALE_STEPS, quantizationError(h, lo, hi))
  }
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
  const [positive, negative] = occupiedBins(h)
  return (s) => sideError(positive, s, lo, hi) + sideError(negative, s, lo, hi)
}

/** Centres and counts of the bins that are not empty; most are, for few values or for a long tail. */
interface Occupied {
  readonly centres: Float64Array
  readonly counts: Float64Array
}

/** Those above zero, and those below. */
export function occupiedBins(h: Histogram): readonly [positive: Occupied, negative: Occupied] {
  const { range, positive, negative } = h.view()
  const of = ({ bins, beyond }: Side, sign: number): Occupied => {
    const used: number[] = []
    for (let i = 0; i < BINS; i++) if (bins[i] !== 0) used.push(i)
    return {
      centres: Float64Array.from([
        ...used.map((i) => (sign * (i + 0.5) * range) / BINS),
        ...beyond.map(([centre]) => sign * centre),
      ]),
      counts: Float64Array.from([...used.map((i) => bins[i]!), ...beyond.map(([, count]) => count)]),
    }
  }
  return [of(positive, 1), of(negative, -1)]
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
  const { range, positive, negative } = h.view()
  const bins = positive.bins.map((n, i) => n + negative.bins[i]!)
  const outside = [...positive.beyond, ...negative.beyond].reduce((sum, [, count]) => sum + count, 0)
  const used = bins.findLastIndex((n) => n > 0) + 1
  let best = used
  let bestDivergence = Number.POSITIVE_INFINITY
  const step = Math.max(1, Math.floor((used - levels) / ENTROPY_STEPS))
  for (let end = used; end >= levels; end -= step) {
    const d = divergence(bins, outside, end, used, levels)
    if (d < bestDivergence) {
      best = end
      bestDivergence = d
    }
  }
  return (best * range) / BINS
}

function divergence(bins: Float64Array, outside: number, end: number, used: number, levels: number): number {
  let beyond = outside
  let total = outside
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
