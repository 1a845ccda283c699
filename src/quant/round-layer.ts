/**
 * Rounds the weight of one layer onto the grid of its quantiser (nearest-plane.ts), given the moments of its inputs, and
 * returns what the layer's bias must become:
 *
 *   target layer     the layer's own product with its inputs x:           E |W x - Q x|^2
 *   target network   its product with the inputs r that it has in the float network:   E |W r - Q x|^2
 *                    (GPTAQ, Li et al., arXiv:2504.02692): W moves to W + W (E r x' - H) H^-1, `pull` times as far
 *
 * With a bias that may change, x and r count from their means (H becomes a covariance), and the bias takes up the rest,
 * W E r - Q E x. The steps are found by step-search.ts.
 */
import { Tensor } from '../graph/tensor.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { scaleIndices } from '../layers/scale-layout.ts'
import type { Moments } from './input-moments.ts'
import { multiplyRows } from './linear-algebra.ts'
import { type FactoredProblem, factored, type Rounded } from './nearest-plane.ts'
import { StepSearch, type StepSearchOptions, stepGrid } from './step-search.ts'
import { eachElement, gatherRows, type WeightRows } from './weight-rows.ts'

export interface RoundLayerOptions extends StepSearchOptions {
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

export function roundLayer(
  layer: WeightLayer,
  rows: WeightRows,
  moments: readonly Moments[],
  o: RoundLayerOptions,
): RoundedLayer {
  const quant = layer.quant!
  const grid = stepGrid(quant)
  const stepOf = scaleIndices(layer.tensor.dims, quant)
  const kept = layer.mask?.constant?.toFloat32() ?? null
  const latent = layer.tensor.toFloat32()
  const weights = kept && !o.compensates ? latent.map((w, i) => w * kept[i]!) : latent
  const problems = moments.map((m, g) => {
    const target = gatherRows(rows, g, weights)
    return factored(
      {
        ...{ n: rows.columns, target, mask: kept && Float32Array.from(gatherRows(rows, g, kept)) },
        ...{ gram: centred(m.gram, m.mean, m.mean, o.shifts), pull: pullOf(target, m, rows.columns, o) },
        stepOf: Int32Array.from(gatherRows(rows, g, stepOf)),
      },
      o,
    )
  })
  const solver = new StepSearch(problems, grid)
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
    out[row * n + order[at % n]!] = Math.fround(integers[at]! * s[steps[at]!]!)
  }
  return out
}
