/**
 * Rounding of weights to a grid so that the layer's output is preserved: for each row w of the weight, the integers q of
 * least
 *
 *   (w - s q) H (w - s q)'       H = mean of x x' over inputs x of the layer, as they arrive in the quantised network
 *
 * one after the other, the error of each carried over to those still to come. With H = L L' (Cholesky), from the last column
 * to the first,
 *
 *   q_j = clip(round((w_j + sum over i > j of e_i L_ij / L_jj) / s)),   e = w - s q
 *
 * This is GPTQ (Frantar, Ashkboos, Hoefler, Alistarh, arXiv:2210.17323; Optimal Brain Compression, arXiv:2208.11580),
 * written as Babai's nearest plane (Chen, Shabanzadeh, Crncevic, Hoefler, Alistarh, arXiv:2507.18553): the same integers as by
 * feedback with the factor of the inverse, from one factor and no inverse. Columns whose inputs are largest are decided first
 * where `order` puts them last. Then sweeps of coordinate descent: each integer anew, given all the others, which cannot
 * make the sum larger.
 *
 * A weight that a mask holds at zero gets 0, and what `target` wants of it is carried over like any error (SparseGPT,
 * Frantar and Alistarh, arXiv:2301.00774).
 */
import { choleskyInPlace, solveRows } from './linear-algebra.ts'
import { roundHalfEven } from './quantizer.ts'

/** Rows of one H: all output channels of a group. */
export interface RoundingProblem {
  /** Columns. */
  readonly n: number
  /** H, [n, n], both triangles, without damping; its columns as in `target`. */
  readonly gram: Float64Array
  /** What the rows should be, [rows, n]. */
  readonly target: Float64Array
  /** c where the rows should be target + c H^-1, [rows, n]; null for 0. */
  readonly pull: Float64Array | null
  /** 0 where the weight has to be 0; null for none. [rows, n] */
  readonly mask: Float32Array | null
  /** Which of the scales each number has, [rows, n]. */
  readonly stepOf: Int32Array
}

/** Integers that weights take, less the zero point, by scale. */
export interface RoundingGrid {
  readonly lo: Float64Array
  readonly hi: Float64Array
}

export interface RoundingOptions {
  /** Fraction of the mean diagonal of H that is added to the diagonal. */
  readonly damping: number
  readonly order: 'activation' | 'given'
  readonly sweeps: number
}

/** A problem with its columns in the order of decisions, last first, and H factored. */
export interface FactoredProblem extends RoundingProblem {
  /** Column of the weight that each column here is. */
  readonly order: Int32Array
  /** L; null where no input was ever other than zero: rounded to nearest. */
  readonly factor: Float64Array | null
}

export function factored(problem: RoundingProblem, { damping, order }: RoundingOptions): FactoredProblem {
  const { n, gram, target, pull, mask, stepOf } = problem
  const columns = Int32Array.from({ length: n }, (_, i) => i)
  const size = (i: number): number => gram[i * n + i]!
  if (order === 'activation') columns.sort((a, b) => size(a) - size(b) || a - b)
  const sorted = new Float64Array(n * n)
  let trace = 0
  for (let i = 0; i < n; i++) {
    trace += size(i)
    for (let j = 0; j < n; j++) sorted[i * n + j] = gram[columns[i]! * n + columns[j]!]!
  }
  for (let i = 0; i < n; i++) sorted[i * n + i]! += (damping * trace) / n
  const factor = Float64Array.from(sorted)
  const isDefinite = choleskyInPlace(factor, n)
  const inOrder = <T extends Float64Array | Float32Array | Int32Array>(a: T): T => {
    const out = a.slice() as T
    for (let row = 0; row < a.length; row += n) for (let i = 0; i < n; i++) out[row + i] = a[row + columns[i]!]!
    return out
  }
  const wanted = inOrder(target)
  if (pull && isDefinite) {
    const change = inOrder(pull)
    solveRows(factor, n, change)
    for (let i = 0; i < wanted.length; i++) wanted[i]! += change[i]!
  }
  return {
    ...problem,
    order: columns,
    gram: sorted,
    factor: isDefinite ? factor : null,
    target: wanted,
    pull: null,
    mask: mask && inOrder(mask),
    stepOf: inOrder(stepOf),
  }
}

export interface Rounded {
  /** Integers less the zero point, [rows, n], in the problem's order of columns. */
  readonly integers: Float64Array
  /** (w - s q) H (w - s q)' of each row. */
  readonly errors: Float64Array
}

/** The integers of all rows at these scales. */
export function roundRows(problem: FactoredProblem, steps: Float64Array, grid: RoundingGrid, sweeps: number): Rounded {
  const { n, target, stepOf } = problem
  const rows = target.length / n
  const integers = new Float64Array(rows * n)
  const errors = new Float64Array(rows)
  const error = new Float64Array(n)
  const carried = new Float64Array(n)
  for (let row = 0; row < rows; row++) {
    const at = row * n
    const own = stepOf.subarray(at, at + n)
    const of = (values: Float64Array): Float64Array => Float64Array.from(own, (step) => values[step]!)
    const [s, lo, hi] = [of(steps), of(grid.lo), of(grid.hi)]
    const w = target.subarray(at, at + n)
    const q = integers.subarray(at, at + n)
    const mask = problem.mask ? problem.mask.subarray(at, at + n) : null
    errors[row] = roundRow(problem, { w, q, mask, s, lo, hi, error, carried })
    if (sweeps > 0 && problem.factor)
      errors[row] = improveRow(problem, { w, q, mask, s, lo, hi, error, carried }, sweeps)
  }
  return { integers, errors }
}

interface Row {
  readonly w: Float64Array
  readonly q: Float64Array
  readonly mask: Float32Array | null
  /** Of each column. */
  readonly s: Float64Array
  readonly lo: Float64Array
  readonly hi: Float64Array
  /** w - s q. */
  readonly error: Float64Array
  readonly carried: Float64Array
}

const nearest = (x: number, s: number, lo: number, hi: number): number =>
  Math.min(hi, Math.max(lo, roundHalfEven(x / s)))

/** Nearest plane; returns the error. */
function roundRow({ n, factor }: FactoredProblem, row: Row): number {
  const { w, q, mask, s, lo, hi, error, carried } = row
  carried.fill(0)
  let sum = 0
  for (let j = n - 1; j >= 0; j--) {
    const diagonal = factor ? factor[j * n + j]! : 1
    const integer = mask && mask[j] === 0 ? 0 : nearest(w[j]! + carried[j]! / diagonal, s[j]!, lo[j]!, hi[j]!)
    const e = w[j]! - s[j]! * integer
    q[j] = integer
    error[j] = e
    sum += (e * diagonal + carried[j]!) ** 2
    if (factor && e !== 0) carryOver(factor, j, n, e, carried)
  }
  return sum
}

/** carried[k] += e * L[j][k] for k < j. */
function carryOver(factor: Float64Array, j: number, n: number, e: number, carried: Float64Array): void {
  const at = j * n
  for (let k = 0; k < j; k++) carried[k]! += e * factor[at + k]!
}

/** Coordinate descent from what `q` and `error` hold; returns the error. */
function improveRow({ n, gram }: FactoredProblem, row: Row, sweeps: number): number {
  const { w, q, mask, s, lo, hi, error, carried: slope } = row
  slope.fill(0)
  for (let i = 0; i < n; i++) if (error[i] !== 0) addRow(gram, i, n, error[i]!, slope)
  for (let sweep = 0; sweep < sweeps; sweep++) {
    let moved = false
    for (let j = n - 1; j >= 0; j--) {
      const curvature = gram[j * n + j]!
      if (!(curvature > 0) || (mask && mask[j] === 0)) continue
      const best = nearest(w[j]! - error[j]! + slope[j]! / curvature, s[j]!, lo[j]!, hi[j]!)
      if (best === q[j]) continue
      const change = s[j]! * (q[j]! - best)
      // improvements by float64 rounding alone would go on forever
      if (!(change * (2 * slope[j]! + change * curvature) < 0)) continue
      q[j] = best
      error[j] = w[j]! - s[j]! * best
      addRow(gram, j, n, change, slope)
      moved = true
    }
    if (!moved) break
  }
  let sum = 0
  for (let i = 0; i < n; i++) sum += error[i]! * slope[i]!
  return sum
}

/** out += x * row i of H. */
function addRow(gram: Float64Array, i: number, n: number, x: number, out: Float64Array): void {
  const at = i * n
  for (let k = 0; k < n; k++) out[k]! += x * gram[at + k]!
}
