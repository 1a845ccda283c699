/**
 * Rounds the weight of one layer onto the grid of its quantiser (nearest-plane.ts), given the moments of its inputs, and
 * returns what the layer's bias must become:
 *
 *   target layer     the layer's own product with its inputs x:           E |W x - Q x|^2
 *   target network   its product with the inputs r that it has in the float network:   E |W r - Q x|^2
 *                    (GPTAQ, Li et al., arXiv:2504.02692): W moves to W + W (E r x' - H) H^-1, `pull` times as far
 *
 * With a bias that may change, x and r count from their means (H becomes a covariance), and the bias takes up the rest,
 * W E r - Q E x. Steps:
 *
 *   keep       as they are
 *   weighted   the least sum over columns j of H_jj (w_j - s q_j)^2, of 100 steps
 *   search     of steps about the weighted one and the old one, that of the least error behind rounding, then that which fits the
 *              integers best, (w H q') / (q H q'), as long as it makes the error smaller
 */
import { Tensor } from '../graph/tensor.ts'
import type { WeightLayer } from '../layers/layers.ts'
import type { QuantPair } from '../layers/quant-pair.ts'
import type { Moments } from './input-moments.ts'
import { multiplyRows } from './linear-algebra.ts'
import { type FactoredProblem, factored, type Rounded, type RoundingOptions, roundRows } from './nearest-plane.ts'
import { quantizeValue, stepOf, stepOfLeastError } from './quantizer.ts'
import { eachElement, gatherRows, type WeightRows } from './weight-rows.ts'

export interface RoundLayerOptions extends RoundingOptions {
  readonly steps: 'keep' | 'weighted' | 'search'
  /** Part of the way to the target of the float network, where moments of that are there. */
  readonly pull: number
  /** The layer's bias may change. */
  readonly shifts: boolean
  /** Weights that a mask holds at zero are to be compensated for: the target is the weight as it would be without the mask. */
  readonly compensates: boolean
}

export interface RoundedLayer {
  /** Of the weight's type and dims, each element an integer times its scale. */
  readonly weight: Tensor
  readonly scale: Tensor
  /** To be added to each output channel of the product; null where the bias stays. */
  readonly shift: Float64Array | null
  /** Sum of the expected squared errors of all outputs: of rounding to nearest at the old scales, and now. */
  readonly before: number
  readonly after: number
}

/** Scales that are tried, as multiples of the weighted one. */
const TRIED = [0.7, 0.76, 0.82, 0.88, 0.94, 1, 1.06, 1.12]
/** Steps that the weighted one is the best of. */
const WEIGHTED_STEPS = 100
/** Fits of scales to integers. */
const FITS = 3

export function roundLayer(
  layer: WeightLayer,
  rows: WeightRows,
  moments: readonly Moments[],
  o: RoundLayerOptions,
): RoundedLayer {
  const quant = layer.quant!
  const grid = gridOf(quant)
  const kept = layer.mask?.constant?.toFloat32() ?? null
  const latent = layer.tensor.toFloat32()
  const weights = kept && !o.compensates ? latent.map((w, i) => w * kept[i]!) : latent
  const problems = moments.map((m, g) => {
    const target = gatherRows(rows, g, weights)
    const stepAt = (row: number): number => (grid.steps.length === 1 ? 0 : rows.channel(g, row))
    return factored(
      {
        ...{ n: rows.columns, target, mask: kept && Float32Array.from(gatherRows(rows, g, kept)) },
        ...{ gram: centred(m.gram, m.mean, m.mean, o.shifts), pull: pullOf(target, m, rows.columns, o) },
        stepOf: Int32Array.from({ length: rows.rows }, (_, row) => stepAt(row)),
      },
      o,
    )
  })
  const solver = new Solver(problems, grid)
  const before = solver.nearestError()
  const best = solver.solve(o)
  const values = new Float32Array(latent.length)
  const channels = rows.groups * rows.rows
  const shift = o.shifts ? new Float64Array(channels) : null
  problems.forEach((p, g) => {
    const rounded = unsorted(p, best.rounded[g]!, best.steps)
    eachElement(rows, g, (at, index) => {
      values[index] = rounded[at]!
    })
    if (shift) shift.set(shiftOf(p.n, gatherRows(rows, g, weights), rounded, moments[g]!), g * rows.rows)
  })
  return {
    weight: Tensor.from(layer.tensor.type, layer.tensor.dims, values),
    scale: Tensor.from(grid.type, quant.scale.constant!.dims, best.steps),
    ...{ shift, before, after: best.total },
  }
}

interface Grid {
  readonly type: Tensor['type']
  readonly steps: Float64Array
  readonly lo: Float64Array
  readonly hi: Float64Array
}

function gridOf({ scale, zeroPoint, lo, hi }: QuantPair): Grid {
  const steps = Float64Array.from(scale.constant!.toNumbers())
  const zeros = zeroPoint?.constant?.toNumbers()
  const less = (x: number): Float64Array => steps.map((_, i) => x - (zeros?.[zeros.length === 1 ? 0 : i] ?? 0))
  return { type: scale.constant!.type, steps, lo: less(lo), hi: less(hi) }
}

/** The second moment, about the means if so requested. */
function centred(gram: Float64Array, left: Float64Array, right: Float64Array, isCentred: boolean): Float64Array {
  if (!isCentred) return gram
  const n = right.length
  return gram.map((x, i) => x - left[Math.floor(i / n)]! * right[i % n]!)
}

/** W (E r x' - H), as far as it is to be followed; null if there is no float network to follow. */
function pullOf(target: Float64Array, m: Moments, n: number, o: RoundLayerOptions): Float64Array | null {
  if (!m.cross || !m.referenceMean || o.pull === 0) return null
  const gram = centred(m.gram, m.mean, m.mean, o.shifts)
  const apart = centred(m.cross, m.referenceMean, m.mean, o.shifts)
  for (let i = 0; i < apart.length; i++) apart[i] = o.pull * (apart[i]! - gram[i]!)
  const out = new Float64Array(target.length)
  multiplyRows(target, apart, n, out)
  return out
}

/** W E r - Q E x of each row. */
function shiftOf(n: number, weights: Float64Array, rounded: Float64Array, m: Moments): Float64Array {
  const shift = new Float64Array(weights.length / n)
  const there = m.referenceMean ?? m.mean
  for (let at = 0; at < weights.length; at++)
    shift[Math.floor(at / n)]! += weights[at]! * there[at % n]! - rounded[at]! * m.mean[at % n]!
  return shift
}

/** s q of all rows with the columns as in the weight. */
function unsorted({ n, order, stepOf: steps }: FactoredProblem, { integers }: Rounded, s: Float64Array): Float64Array {
  const out = new Float64Array(integers.length)
  for (let at = 0; at < integers.length; at++) {
    const row = Math.floor(at / n)
    out[row * n + order[at % n]!] = Math.fround(integers[at]! * s[steps[row]!]!)
  }
  return out
}

interface Solution {
  readonly steps: Float64Array
  readonly rounded: readonly Rounded[]
  /** By scale. */
  readonly errors: Float64Array
  readonly total: number
}

/** All groups of a layer, which may share scales. */
class Solver {
  readonly #problems: readonly FactoredProblem[]
  readonly #grid: Grid

  constructor(problems: readonly FactoredProblem[], grid: Grid) {
    this.#problems = problems
    this.#grid = grid
  }

  solve({ steps, sweeps }: RoundLayerOptions): Solution {
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
        const step = of[Math.floor(at / n)]!
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
      p.stepOf.forEach((step, row) => {
        errors[step]! += rounded[g]!.errors[row]!
      })
    })
    return { steps, rounded, errors, total: errors.reduce((a, b) => a + b, 0) }
  }

  /** For each scale, the solution with the smaller error. */
  #better(a: Solution, steps: Float64Array, sweeps: number): Solution {
    const b = this.#at(steps, sweeps)
    const takes = (step: number): boolean => b.errors[step]! < a.errors[step]!
    const rounded = this.#problems.map((p, g) => {
      const integers = a.rounded[g]!.integers.slice()
      const errors = a.rounded[g]!.errors.slice()
      p.stepOf.forEach((step, row) => {
        if (!takes(step)) return
        integers.set(b.rounded[g]!.integers.subarray(row * p.n, (row + 1) * p.n), row * p.n)
        errors[row] = b.rounded[g]!.errors[row]!
      })
      return { integers, errors }
    })
    const errors = a.errors.map((e, step) => Math.min(e, b.errors[step]!))
    return {
      ...{ rounded, errors, total: errors.reduce((x, y) => x + y, 0) },
      steps: a.steps.map((s, step) => (takes(step) ? steps[step]! : s)),
    }
  }

  #weighted(): Float64Array {
    const { steps, lo, hi, type } = this.#grid
    const rows: { p: FactoredProblem; at: number }[][] = Array.from(steps, () => [])
    for (const p of this.#problems) p.stepOf.forEach((step, row) => void rows[step]!.push({ p, at: row * p.n }))
    return steps.map((old, step) => {
      const [least, most] = [lo[step]!, hi[step]!]
      let unclipped = 0
      for (const { p, at } of rows[step]!)
        for (let i = at; i < at + p.n; i++) {
          const w = p.target[i]!
          const limit = w > 0 ? most : least
          if (limit !== 0) unclipped = Math.max(unclipped, w / limit)
        }
      if (!(unclipped > 0)) return old
      return stepOfLeastError([unclipped], type, WEIGHTED_STEPS, (s) => {
        let sum = 0
        for (const { p, at } of rows[step]!)
          for (let i = 0; i < p.n; i++) {
            const w = p.target[at + i]!
            const d = w - s * quantizeValue(w, s, least, most)
            sum += p.gram[i * p.n + i]! * d * d
          }
        return sum
      })
    })
  }

  /** (w H q') / (q H q') of each scale. */
  #fitted({ steps, rounded }: Solution): Float64Array {
    const wq = new Float64Array(steps.length)
    const qq = new Float64Array(steps.length)
    this.#problems.forEach((p, g) => {
      const { integers } = rounded[g]!
      const product = new Float64Array(integers.length)
      multiplyRows(integers, p.gram, p.n, product)
      for (let at = 0; at < integers.length; at++) {
        const step = p.stepOf[Math.floor(at / p.n)]!
        wq[step]! += p.target[at]! * product[at]!
        qq[step]! += integers[at]! * product[at]!
      }
    })
    return steps.map((s, i) => (wq[i]! > 0 && qq[i]! > 0 ? stepOf(wq[i]! / qq[i]!, this.#grid.type) : s))
  }
}
