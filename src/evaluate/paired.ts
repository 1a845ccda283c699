/**
 * How much accuracy two models differ by on the same n samples, with a 95 % confidence interval. Of the samples, b are right
 * with the first model only and c with the second only; the difference is (b - c) / n. The interval is Newcombe's hybrid
 * score interval for paired proportions (Statistics in Medicine 17, 1998, method 10): with Wilson's limits l, u of each
 * proportion and the correlation phi of the two,
 *
 *   d - sqrt( (p1-l1)^2 - 2 phi (p1-l1)(u2-p2) + (u2-p2)^2 )  ..  d + sqrt( (u1-p1)^2 - 2 phi (u1-p1)(p2-l2) + (p2-l2)^2 )
 *
 * It holds for few samples and for no disagreement at all, where b - c = 0 would seem to leave no doubt.
 */

/** Two-sided 95 %. */
export const Z = 1.959963984540054

export interface Difference {
  readonly samples: number
  /** Accuracy of the first less that of the second. */
  readonly drop: number
  readonly low: number
  readonly high: number
  /** Share of the samples on which one of the two is right and the other is not. */
  readonly disagree: number
}

/** 1 where the sample's answer is right. */
export function pairedDifference(first: ArrayLike<number>, second: ArrayLike<number>): Difference {
  const n = first.length
  let [both, b, c] = [0, 0, 0]
  for (let i = 0; i < n; i++) {
    if (first[i] && second[i]) both++
    else if (first[i]) b++
    else if (second[i]) c++
  }
  const neither = n - both - b - c
  const [one, two] = [wilson(both + b, n), wilson(both + c, n)]
  const phi = correlation(both, b, c, neither)
  const reach = (x: number, y: number): number => Math.sqrt(Math.max(0, x * x - 2 * phi * x * y + y * y))
  const drop = (b - c) / n
  return {
    samples: n,
    drop,
    low: drop - reach(one.p - one.low, two.high - two.p),
    high: drop + reach(one.high - one.p, two.p - two.low),
    disagree: (b + c) / n,
  }
}

/** With Newcombe's correction: a correlation that chance alone may have made counts as none. */
function correlation(a: number, b: number, c: number, d: number): number {
  const margins = (a + b) * (c + d) * (a + c) * (b + d)
  if (margins === 0) return 0
  const n = a + b + c + d
  const product = a * d - b * c
  const corrected = product > n / 2 ? product - n / 2 : Math.min(product, 0)
  return corrected / Math.sqrt(margins)
}

export interface Proportion {
  readonly p: number
  readonly low: number
  readonly high: number
}

/** Wilson's score interval (Journal of the American Statistical Association 22, 1927). */
export function wilson(count: number, n: number): Proportion {
  const p = count / n
  const z2 = Z * Z
  const middle = p + z2 / (2 * n)
  const half = Z * Math.sqrt((p * (1 - p)) / n + z2 / (4 * n * n))
  const whole = 1 + z2 / n
  return { p, low: Math.max(0, (middle - half) / whole), high: Math.min(1, (middle + half) / whole) }
}

/**
 * The same difference where only the shares are known: of unrelated samples (phi = 0). On the same samples the interval that
 * counts each of them is narrower.
 */
export function difference(first: Proportion, second: Proportion): Pick<Difference, 'drop' | 'low' | 'high'> {
  const drop = first.p - second.p
  return {
    drop,
    low: drop - Math.hypot(first.p - first.low, second.high - second.p),
    high: drop + Math.hypot(first.high - first.p, second.p - second.low),
  }
}

/** Of two good models on a set of middling difficulty; what is measured takes its place. */
export const USUAL_DISAGREEMENT = 0.03

/**
 * Samples with which a model that loses nothing could be told from one that loses `drop`: the half width of the interval,
 * z sqrt(disagree / n), is then no more than `drop`.
 */
export const samplesNeeded = (drop: number, disagree = USUAL_DISAGREEMENT): number =>
  drop <= 0 ? Number.POSITIVE_INFINITY : Math.ceil((Z * Z * Math.max(disagree, drop / 10)) / (drop * drop))

/** Samples with which it could be told that no more than `most` is lost. That few of few samples disagreed says little about more of them. */
export function samplesToTell(most: number, { drop, disagree, samples }: Difference): number {
  const room = most - Math.max(0, drop)
  const needed = samplesNeeded(room, disagree)
  return disagree > 0 && needed > samples ? needed : samplesNeeded(room)
}
