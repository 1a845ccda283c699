/**
 * Medians with confidence intervals from order statistics, which assume nothing about the distribution: of n values in
 * order, the median of the distribution that they are drawn from lies between the j-th and the k-th with a probability
 * that the binomial distribution gives (Conover, Practical Nonparametric Statistics, 3.2).
 */

export interface Estimate {
  readonly median: number
  /** 95 % confidence interval of the median; the range of all values if there are fewer than six, which give none. */
  readonly low: number
  readonly high: number
}

/** Fraction of the probability that a 95 % interval leaves out on each side. */
const TAIL = 0.025

export function estimate(values: readonly number[]): Estimate {
  const sorted = [...values].sort((a, b) => a - b)
  const n = sorted.length
  const cut = ranksOutside(n)
  const middle = n % 2 === 1 ? sorted[(n - 1) / 2]! : (sorted[n / 2 - 1]! + sorted[n / 2]!) / 2
  return { median: middle, low: sorted[cut]!, high: sorted[n - 1 - cut]! }
}

/** How many of the lowest, and of the highest, of n values the interval leaves out. */
function ranksOutside(n: number): number {
  // P(at most k of n fair coins show heads), in logarithms: 2^-n is not a double for large n
  let sum = 0
  let logTerm = -n * Math.LN2
  let cut = 0
  for (let k = 0; k < n; k++) {
    sum += Math.exp(logTerm)
    if (sum > TAIL) return cut
    cut = k
    logTerm += Math.log((n - k) / (k + 1))
  }
  return 0
}

/** Whether a ratio of 1 lies outside the interval. */
export const isSignificant = ({ low, high }: Estimate): boolean => low > 1 || high < 1
