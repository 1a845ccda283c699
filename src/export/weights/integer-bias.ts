/**
 * The integers of a layer that runs between two quantisers, so that an integer kernel gives the same levels as the
 * float graph although its bias is an int32 multiple of scale(x) * scale(w).
 *
 * With integer operands the sum a over the weights is an integer, and level k or above is reached where
 *   a + b >= (k - 1/2) s,    b = bias / (scale(x) scale(w)),    s = scale(y) / (scale(x) scale(w)),
 * that is, where a >= A_k = ceil((k - 1/2) s - b). A kernel with weights m*w, bias B and a slightly different scale of
 * the weights has B/m for b and s' for s. It gives the same levels for every a where
 *   A_k - 1 < (k - 1/2) s' - B/m <= A_k    for all k,
 * which for given m and B is an interval of s'. Each output channel takes the m and B, and the middle of that interval,
 * that keep farthest from all thresholds. Where every interval is empty (many levels: 8-bit outputs) the kernel gets the
 * fraction nearest to b. Several quantisers that read the layer put their thresholds on one line, in steps of the first:
 * (k - 1/2) r with r = scale(their y) / scale(y).
 */

/**
 * Largest m * |w|: 64 * 255 * 2 = 32640 is under 2^15, so that kernels which add two products in 16 bits (AVX2 without
 * VNNI) do not saturate.
 */
export const SAFE_INTEGER = 64

/** The bound of |bias| + |sum of products| before rounding: half of 32 bits, signed. */
export const LARGEST_SUM = 2 ** 30

/** Least distance from a threshold, in units of a: kernels multiply in float32, which errs by 1e-7 of the sum. */
const MARGIN = 1e-4

export interface ChannelInput {
  /** Largest |integer weight| of the channel. */
  readonly largest: number
  /** Bound of |a|: sum of |integer weights| times the largest |integer input|. */
  readonly reach: number
  /** b above. */
  readonly bias: number
  /** s above, positive. */
  readonly step: number
  /** The quantisers that read the output. */
  readonly readers: readonly ReaderLevels[]
}

export interface ReaderLevels {
  /** r above: 1 for the quantiser whose step is `step`. */
  readonly ratio: number
  /** Levels, zero point subtracted. */
  readonly lo: number
  readonly hi: number
}

export interface ChannelForm {
  readonly multiplier: number
  /** B above. */
  readonly bias: number
  /** s' above. */
  readonly step: number
  /** Whether all levels are those of the float graph. */
  readonly exact: boolean
}

export function channelForm(c: ChannelInput): ChannelForm {
  const thresholds = thresholdsOf(c)
  const room = Math.floor((2 * LARGEST_SUM - 1) / (Math.abs(c.bias) + c.reach + 1))
  const most = Math.max(1, Math.min(SAFE_INTEGER, room, Math.floor(SAFE_INTEGER / Math.max(1, c.largest))))
  let best: ChannelForm = { multiplier: most, bias: Math.round(c.bias * most), step: c.step, exact: false }
  let depth = MARGIN
  for (let multiplier = most; multiplier >= 1; multiplier--)
    for (const bias of [Math.floor(c.bias * multiplier), Math.ceil(c.bias * multiplier)]) {
      const step = middleStep(thresholds, bias / multiplier, c.step)
      const d = depthOf(thresholds, bias / multiplier, step)
      if (d <= depth) continue
      depth = d
      best = { multiplier, bias, step, exact: true }
    }
  return best
}

interface Threshold {
  /** (k - 1/2) r */
  readonly at: number
  /** A_k */
  readonly first: number
}

/** Those that a sum can reach; the others do not constrain anything. */
function thresholdsOf({ readers, step, bias, reach }: ChannelInput): Threshold[] {
  const found: Threshold[] = []
  for (const { ratio, lo, hi } of readers)
    for (let k = lo + 1; k <= hi; k++) {
      const at = (k - 0.5) * ratio
      const first = Math.ceil(at * step - bias)
      if (Math.abs(first) <= reach + 1) found.push({ at, first })
    }
  return found
}

/** The middle of the scales that suit every threshold; `step` itself where nothing binds. */
function middleStep(thresholds: readonly Threshold[], bias: number, step: number): number {
  let low = Number.NEGATIVE_INFINITY
  let high = Number.POSITIVE_INFINITY
  for (const { at, first } of thresholds) {
    const [a, b] = [(first - 1 + bias) / at, (first + bias) / at]
    low = Math.max(low, Math.min(a, b))
    high = Math.min(high, Math.max(a, b))
  }
  const middle = (low + high) / 2
  return Number.isFinite(middle) && middle > 0 ? middle : step
}

/** Distance to the nearest threshold that would be crossed; negative where one is. */
function depthOf(thresholds: readonly Threshold[], bias: number, step: number): number {
  let depth = Number.POSITIVE_INFINITY
  for (const { at, first } of thresholds) {
    const t = at * step - bias
    depth = Math.min(depth, t - (first - 1), first - t)
  }
  return depth
}
