/**
 * The steps of one layer's weights, and the integers that they are rounded to with them (nearest-plane.ts):
 *
 *   keep       steps as they are
 *   weighted   for each, the least sum over columns j of H_jj (w_j - s q_j)^2, of 100
 *   search     of steps about the weighted ones and the old ones, those of the least error behind rounding, then those which fit
 *              the integers best, as long as they make the error smaller
 *
 * Rows that share a step, and steps that share a row (groups of weights), are chosen together. Those that fit the integers
 * best solve A s = b with A_uv = q_u H q_v', b_u = w H q_u', where q_u are the integers of step u: for one step a row
 * (w H q') / (q H q').
 */
import type { Tensor } from '../graph/tensor.ts'
import type { QuantPair } from '../layers/quant-pair.ts'
import { choleskyInPlace, multiplyRows, solveRows } from './linear-algebra.ts'
import {
  type FactoredProblem,
  type Rounded,
  type RoundingGrid,
  type RoundingOptions,
  roundRows,
} from './nearest-plane.ts'
import { quantizeValue, stepOf, stepOfLeastError } from './quantizer.ts'

export interface StepSearchOptions extends RoundingOptions {
  readonly steps: 'keep' | 'weighted' | 'search'
}

export interface StepGrid extends RoundingGrid {
  /** Of the scales. */
  readonly type: Tensor['type']
  readonly steps: Float64Array
}

/** The grid of a quantiser whose scales and zero points are constants. */
export function stepGrid({ scale, zeroPoint, lo, hi }: QuantPair): StepGrid {
  const steps = Float64Array.from(scale.constant!.toNumbers())
  const zeros = zeroPoint?.constant?.toNumbers()
  const less = (x: number): Float64Array => steps.map((_, i) => x - (zeros?.[zeros.length === 1 ? 0 : i] ?? 0))
  return { type: scale.constant!.type, steps, lo: less(lo), hi: less(hi) }
}

export interface Solution {
  readonly steps: Float64Array
  readonly rounded: readonly Rounded[]
  /** Of all rows of a unit, by its first step. */
  readonly errors: Float64Array
  readonly total: number
}

/** Scales that are tried, as multiples of the weighted one. */
const TRIED = [0.7, 0.76, 0.82, 0.88, 0.94, 1, 1.06, 1.12]
/** Steps that the weighted one is the best of. */
const WEIGHTED_STEPS = 100
/** Fits of scales to integers. */
const FITS = 3

/** All groups of channels of a layer, which may share scales. */
export class StepSearch {
  readonly #problems: readonly FactoredProblem[]
  readonly #grid: StepGrid
  /** The first of the steps that are chosen together with each. */
  readonly #unitOf: Int32Array

  constructor(problems: readonly FactoredProblem[], grid: StepGrid) {
    this.#problems = problems
    this.#grid = grid
    this.#unitOf = unitsOf(problems, grid.steps.length)
  }

  solve({ steps, sweeps }: StepSearchOptions): Solution {
    const kept = this.#grid.steps
    if (steps === 'keep') return this.#at(kept, sweeps)
    const weighted = this.#weighted()
    if (steps === 'weighted') return this.#at(weighted, sweeps)
    let best = this.#at(kept, 0)
    for (const k of TRIED)
      best = this.#better(
        best,
        weighted.map((s) => stepOf(s * k, this.#grid.type)),
        0,
      )
    best = this.#at(best.steps, sweeps)
    for (let i = 0; i < FITS; i++) {
      const next = this.#better(best, this.#fitted(best), sweeps)
      if (next.total >= best.total) break
      best = next
    }
    return best
  }

  /** The error of rounding to nearest at the old scales. */
  nearestError(): number {
    const { steps, lo, hi } = this.#grid
    let total = 0
    for (const { n, target, gram, stepOf: of } of this.#problems) {
      const error = target.map((w, at) => {
        const step = of[at]!
        return w - steps[step]! * quantizeValue(w, steps[step]!, lo[step]!, hi[step]!)
      })
      const product = new Float64Array(error.length)
      multiplyRows(error, gram, n, product)
      for (let i = 0; i < error.length; i++) total += error[i]! * product[i]!
    }
    return total
  }

  #at(steps: Float64Array, sweeps: number): Solution {
    const rounded = this.#problems.map((p) => roundRows(p, steps, this.#grid, sweeps))
    const errors = new Float64Array(steps.length)
    this.#problems.forEach((p, g) => {
      rounded[g]!.errors.forEach((error, row) => {
        errors[this.#unit(p, row)]! += error
      })
    })
    return { steps, rounded, errors, total: errors.reduce((a, b) => a + b, 0) }
  }

  #unit(p: FactoredProblem, row: number): number {
    return this.#unitOf[p.stepOf[row * p.n]!]!
  }

  /** For each unit, the solution with the smaller error. */
  #better(a: Solution, steps: Float64Array, sweeps: number): Solution {
    const b = this.#at(steps, sweeps)
    const takes = (unit: number): boolean => b.errors[unit]! < a.errors[unit]!
    const rounded = this.#problems.map((p, g) => {
      const integers = a.rounded[g]!.integers.slice()
      const errors = a.rounded[g]!.errors.map((error, row) => {
        if (!takes(this.#unit(p, row))) return error
        integers.set(b.rounded[g]!.integers.subarray(row * p.n, (row + 1) * p.n), row * p.n)
        return b.rounded[g]!.errors[row]!
      })
      return { integers, errors }
    })
    const errors = a.errors.map((e, unit) => Math.min(e, b.errors[unit]!))
    return {
      ...{ rounded, errors, total: errors.reduce((x, y) => x + y, 0) },
      steps: a.steps.map((s, step) => (takes(this.#unitOf[step]!) ? steps[step]! : s)),
    }
  }

  #weighted(): Float64Array {
    const { steps, lo, hi, type } = this.#grid
    const weights = weightsBySteps(this.#problems, steps.length)
    return steps.map((old, step) => {
      const [least, most] = [lo[step]!, hi[step]!]
      const { values, sizes } = weights[step]!
      let unclipped = 0
      for (const w of values) {
        const limit = w > 0 ? most : least
        if (limit !== 0) unclipped = Math.max(unclipped, w / limit)
      }
      if (!(unclipped > 0)) return old
      return stepOfLeastError([unclipped], type, WEIGHTED_STEPS, (s) => {
        let sum = 0
        for (let i = 0; i < values.length; i++) {
          const d = values[i]! - s * quantizeValue(values[i]!, s, least, most)
          sum += sizes[i]! * d * d
        }
        return sum
      })
    })
  }

  /** Those that fit the integers best, each unit's together. */
  #fitted({ steps, rounded }: Solution): Float64Array {
    const units = new Map<number, Fit>()
    this.#unitOf.forEach((unit, step) => {
      const fit = units.get(unit) ?? new Fit()
      units.set(unit, fit)
      fit.steps.push(step)
    })
    this.#problems.forEach((p, g) => {
      const rows = rounded[g]!.errors.length
      for (let row = 0; row < rows; row++) units.get(this.#unit(p, row))!.add(p, rounded[g]!.integers, row)
    })
    const next = steps.slice()
    for (const fit of units.values())
      fit.solve(steps).forEach((s, i) => {
        if (s > 0) next[fit.steps[i]!] = stepOf(s, this.#grid.type)
      })
    return next
  }
}

/** The weights of each step, with the second moments of what they are multiplied with. */
function weightsBySteps(problems: readonly FactoredProblem[], count: number) {
  const filled = new Int32Array(count)
  for (const p of problems) for (const step of p.stepOf) filled[step]!++
  const found = Array.from(filled, (size) => ({ values: new Float64Array(size), sizes: new Float64Array(size) }))
  filled.fill(0)
  for (const { n, target, gram, stepOf: of } of problems)
    for (const [at, step] of of.entries()) {
      const { values, sizes } = found[step]!
      const i = filled[step]!++
      values[i] = target[at]!
      sizes[i] = gram[(at % n) * (n + 1)]!
    }
  return found
}

/** The first of the steps that share rows with each, or rows that share steps with those, and so on. */
function unitsOf(problems: readonly FactoredProblem[], count: number): Int32Array {
  const first = Int32Array.from({ length: count }, (_, i) => i)
  const root = (step: number): number => {
    let at = step
    while (first[at] !== at) at = first[at]!
    return at
  }
  for (const { n, stepOf: of } of problems)
    of.forEach((step, at) => {
      const [a, b] = [root(of[at - (at % n)]!), root(step)]
      first[Math.max(a, b)] = Math.min(a, b)
    })
  return first.map((_, step) => root(step))
}

/** A s = b of a unit. */
class Fit {
  readonly steps: number[] = []
  #a = new Float64Array(0)
  #b = new Float64Array(0)

  add({ n, gram, target, stepOf: of }: FactoredProblem, integers: Float64Array, row: number): void {
    const k = this.steps.length
    if (this.#b.length === 0) [this.#a, this.#b] = [new Float64Array(k * k), new Float64Array(k)]
    const first = row * n
    const local = Int32Array.from({ length: n }, (_, j) => this.steps.indexOf(of[first + j]!))
    // q_u H of each step
    const products = Array.from({ length: k }, () => new Float64Array(n))
    for (let i = 0; i < n; i++) {
      const q = integers[first + i]!
      if (q === 0) continue
      const product = products[local[i]!]!
      for (let j = 0; j < n; j++) product[j]! += q * gram[i * n + j]!
    }
    products.forEach((product, u) => {
      for (let j = 0; j < n; j++) {
        this.#a[u * k + local[j]!]! += integers[first + j]! * product[j]!
        this.#b[u]! += target[first + j]! * product[j]!
      }
    })
  }

  /** 0 where there is nothing to fit to. */
  solve(old: Float64Array): Float64Array {
    const k = this.steps.length
    const [a, b] = [this.#a.slice(), this.#b.slice()]
    for (let u = 0; u < k; u++) if (!(a[u * k + u]! > 0)) [a[u * k + u], b[u]] = [1, old[this.steps[u]!]!]
    if (!choleskyInPlace(a, k)) return new Float64Array(k)
    solveRows(a, k, b)
    return b
  }
}
