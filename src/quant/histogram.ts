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

const bits = new Int32Array(1)
const asFloat = new Float32Array(bits.buffer)
const SIGN = 1 << 31
/** Of a magnitude. */
const INFINITY = 0x7f800000

function floatOf(word: number): number {
  bits[0] = word
  return asFloat[0]!
}

/** The magnitude at which the bin of equal ratio `at` begins, all exponents one after another. */
function edge(at: number): number {
  return at >= 255 * PAGE ? 2 ** 128 : floatOf(at << DROPPED_BITS)
}

/** Counts of one side of zero. */
export interface Side {
  /** By linear bin. */
  readonly bins: Float64Array
  /** Sums of the bins before each and, last, of all: of counts, of counts times centres, of counts times their squares. */
  readonly sums: readonly [Float64Array, Float64Array, Float64Array]
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
  /** Where in the counts the page of each sign and exponent begins, as float32 has them; -1: it never came. */
  readonly #pageOf = new Int32Array(2 * EXPONENTS).fill(-1)
  /** By page, then by mantissa. */
  #counts = new Float64Array(PAGE)
  #pages = 0
  #view: View | null = null
  count = 0
  /** Element type of what the model computes, whether or not the file declares it. */
  elem: ElementType = 'float32'
  min = 0
  max = 0

  /** Adds values; a model error, naming `what`, for one that is not finite. */
  add(values: Float32Array, what: string): void {
    this.#view = null
    const words = new Int32Array(values.buffer, values.byteOffset, values.length)
    const pageOf = this.#pageOf
    let counts = this.#counts
    // magnitudes, which are in the order of their bits; numbers of the other sign are below them
    let positive = 0
    let negative = 0
    // no branch that depends on the values: mispredicted ones take five times as long as all else
    for (let i = 0; i < words.length; i++) {
      const word = words[i]!
      positive = Math.max(positive, word)
      negative = Math.max(negative, word ^ SIGN)
      let page = pageOf[word >>> 23]!
      if (page < 0) {
        page = this.#addPage(word >>> 23)
        counts = this.#counts
      }
      counts[page + ((word >>> DROPPED_BITS) & (PAGE - 1))]!++
    }
    this.count += values.length
    if (Math.max(positive, negative) >= INFINITY) throw notFinite(what)
    this.max = Math.max(this.max, floatOf(positive))
    this.min = Math.min(this.min, 0 - floatOf(negative))
  }

  /** How many are zero, or less than 1e-41, which no scale tells from it. */
  get zeros(): number {
    return (this.#page(0)?.[0] ?? 0) + (this.#page(EXPONENTS)?.[0] ?? 0)
  }

  #addPage(at: number): number {
    const page = this.#pages++ * PAGE
    if (page === this.#counts.length) {
      const old = this.#counts
      this.#counts = new Float64Array(2 * old.length)
      this.#counts.set(old)
    }
    this.#pageOf[at] = page
    return page
  }

  /** Counts of one exponent; undefined where it never came. */
  #page(at: number): Float64Array | undefined {
    const page = this.#pageOf[at]!
    return page < 0 ? undefined : this.#counts.subarray(page, page + PAGE)
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
    const zeros = this.zeros
    let seen = 0
    for (let exponent = 0; exponent < EXPONENTS; exponent++) {
      const sides = [this.#page(exponent), this.#page(exponent + EXPONENTS)]
      if (!sides[0] && !sides[1]) continue
      for (let k = 0; k < PAGE; k++) {
        seen += (sides[0]?.[k] ?? 0) + (sides[1]?.[k] ?? 0)
        if (seen >= rank && seen > zeros) return Math.min(this.#largest(), edge(exponent * PAGE + k + 1))
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
        const page = this.#page(sign * EXPONENTS + exponent)
        for (let k = exponent === 0 ? 1 : 0; page && k < PAGE; k++) {
          if (page[k] === 0) continue
          const from = edge(exponent * PAGE + k)
          if (from < range) bins[Math.floor((from * BINS) / range)]! += page[k]!
          else beyond.push([(from + edge(exponent * PAGE + k + 1)) / 2, page[k]!])
        }
      }
      return { bins, sums: sumsOf(bins, range / BINS), beyond }
    }
    return { range, positive: side(0), negative: side(1) }
  }
}

function sumsOf(bins: Float64Array, width: number): Side['sums'] {
  const sums = [0, 1, 2].map(() => new Float64Array(BINS + 1)) as [Float64Array, Float64Array, Float64Array]
  for (let i = 0; i < BINS; i++) {
    const centre = (i + 0.5) * width
    let term = bins[i]!
    for (const sum of sums) {
      sum[i + 1] = sum[i]! + term
      term *= centre
    }
  }
  return sums
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
  const { range, positive, negative } = h.view()
  const width = range / BINS
  return (s) => sideError(positive, width, s, Math.max(0, hi)) + sideError(negative, width, s, Math.max(0, -lo))
}

/**
 * Of magnitudes rounded to 0 .. `most` times s. With sums N, X and Y of counts, of values and of their squares over the bins that
 * round to q, linear bins give Y - 2 q s X + (q s)^2 N for each q: as many terms as there are integers, not as bins.
 */
function sideError({ sums, beyond }: Side, width: number, s: number, most: number): number {
  const [n, x, y] = sums
  let error = 0
  let from = 0
  for (let q = 0; from < BINS && width > 0; q++) {
    // the bins whose centres lie below the middle between two integers
    const to = q === most ? BINS : Math.min(BINS, Math.max(from, Math.ceil(((q + 0.5) * s) / width - 0.5)))
    if (to > from) error += y[to]! - y[from]! - q * s * (2 * (x[to]! - x[from]!) - q * s * (n[to]! - n[from]!))
    from = to
  }
  for (const [centre, count] of beyond) {
    const d = centre - quantizeValue(centre, s, 0, most) * s
    error += count * d * d
  }
  return error
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
