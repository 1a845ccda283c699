/**
 * Sound at another rate: band-limited interpolation (J. O. Smith, "Digital Audio Resampling", 1984) with the sinc low-pass that
 * resampy calls `kaiser_best`:
 *
 *   y[n] = sum_k x[k] c h(c (n from / to - k)),   h(t) = sinc(t) I0(beta sqrt(1 - (t / zeros)^2)) / I0(beta) for |t| < zeros
 *
 * with c = rolloff min(1, to / from), 64 zero crossings a side, beta 14.77 and rolloff 0.9476. What is above the lower of
 * the two Nyquist frequencies is gone (below -80 dB); before and behind the sound there is silence. n samples become
 * ceil(n to / from).
 */
const ZEROS = 64
const BETA = 14.769656459379492
const ROLLOFF = 0.9475937167399596
/** Rates without a common divisor have many phases, whose filters are not kept. */
const MOST_KEPT = 2 ** 22

export const resampledLength = (samples: number, from: number, to: number): number => Math.ceil((samples * to) / from)

export class SoundResampler {
  readonly #from: number
  readonly #to: number
  readonly #cutoff: number
  /** Samples a side that a filter reaches. */
  readonly #reach: number
  /** Filters by phase, n mod `to`. */
  readonly #filters = new Map<number, Float64Array>()

  /** Of samples a second. */
  constructor(from: number, to: number) {
    const divisor = greatestDivisor(from, to)
    this.#from = from / divisor
    this.#to = to / divisor
    this.#cutoff = ROLLOFF * Math.min(1, to / from)
    this.#reach = Math.ceil(ZEROS / this.#cutoff)
  }

  /** The first `most` samples, or all. */
  run(x: Float32Array, most = Number.POSITIVE_INFINITY): Float32Array {
    const [from, to, reach] = [this.#from, this.#to, this.#reach]
    const out = new Float32Array(Math.min(most, resampledLength(x.length, from, to)))
    for (let n = 0; n < out.length; n++) {
      const base = Math.floor((n * from) / to)
      out[n] = product(x, base - reach + 1, this.#filter((n * from) % to))
    }
    return out
  }

  /** Weights of 2 * reach samples, the middle between the two that enclose the point. */
  #filter(phase: number): Float64Array {
    const known = this.#filters.get(phase)
    if (known) return known
    const reach = this.#reach
    const filter = Float64Array.from({ length: 2 * reach }, (_, i) => {
      const t = this.#cutoff * (phase / this.#to + reach - 1 - i)
      return this.#cutoff * sinc(t) * kaiser(t / ZEROS)
    })
    if (this.#filters.size * filter.length < MOST_KEPT) this.#filters.set(phase, filter)
    return filter
  }
}

function product(x: Float32Array, from: number, filter: Float64Array): number {
  let sum = 0
  const end = Math.min(filter.length, x.length - from)
  for (let i = Math.max(0, -from); i < end; i++) sum += x[from + i]! * filter[i]!
  return sum
}

const sinc = (t: number): number => (t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t))
const kaiser = (t: number): number => (Math.abs(t) >= 1 ? 0 : bessel(BETA * Math.sqrt(1 - t * t)) / bessel(BETA))

/** I0, by its series. */
function bessel(x: number): number {
  let [sum, term] = [1, 1]
  for (let k = 1; term > sum * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2
    sum += term
  }
  return sum
}

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b))
