/**
 * The error that quantisation causes in a matrix product, on sampled rows of its input, with the input's
 * channels divided by s and the weight's multiplied by it:
 *
 *   |Q(X / s) Q(s W) - X W|^2 / |X W|^2
 *
 * on at most OUTPUTS output channels. Widths of 0 leave a side as it is.
 */
import { maskedWeights, type WeightLayer } from '../layers/layers.ts'
import { fakeQuantize, fitWeightScales, integerRange, quantizeValue, stepOfLeastError } from './quantizer.ts'
import { weightRows } from './weight-rows.ts'

const OUTPUTS = 128
/** How many scales are tried for inputs. */
const FRACTIONS = 20

export interface Widths {
  readonly weightBits: number
  readonly activationBits: number
}

export interface SampledWeights {
  /** Rows of the weight, one for each output channel that is looked at. */
  readonly rows: Float32Array
  /** By input channel, the largest weight of all rows. */
  readonly largest: Float64Array
}

/** A string if the layer is not a product of matrices, which says why. */
export function sampledWeights(layer: WeightLayer): SampledWeights | string {
  const of = weightRows(layer)
  if (typeof of === 'string') return of
  if (of.groups > 1 || of.positions > 1) return 'it is no Gemm, MatMul or 1x1 Conv'
  const w = maskedWeights(layer)
  const count = Math.min(OUTPUTS, of.rows)
  const rows = new Float32Array(count * of.columns)
  for (let r = 0; r < count; r++) {
    const start = of.start(0, Math.floor((r * of.rows) / count))
    for (let i = 0; i < of.columns; i++) rows[r * of.columns + i] = w[start + i * of.inputStride]!
  }
  const largest = new Float64Array(of.columns)
  for (let r = 0; r < of.rows; r++)
    for (let i = 0; i < of.columns; i++)
      largest[i] = Math.max(largest[i]!, Math.abs(w[of.start(0, r) + i * of.inputStride]!))
  return { rows, largest }
}

/** The quantised inputs, channels divided by `s`, with the same number of rows. Unsigned, or with the zero point of their range. */
export function quantizedInputs(x: Float32Array, s: Float64Array, bits: number): Float32Array {
  const scaled = Float32Array.from(x, (v, i) => v / s[i % s.length]!)
  if (bits === 0) return scaled
  let [least, most] = [0, 0]
  for (const v of scaled) {
    least = Math.min(least, v)
    most = Math.max(most, v)
  }
  if (most === least) return scaled
  const [, hi] = integerRange(bits, false)
  const zero = Math.round((-least * hi) / (most - least))
  const rounded = (v: number, step: number): number => quantizeValue(v, step, -zero, hi - zero) * step
  const errorAt = (step: number): number => scaled.reduce((sum, v) => sum + (v - rounded(v, step)) ** 2, 0)
  const step = stepOfLeastError([(most - least) / hi], 'float32', FRACTIONS, errorAt)
  return scaled.map((v) => rounded(v, step))
}

export function quantizedWeights(w: Float32Array, s: Float64Array, bits: number): Float32Array {
  const scaled = Float32Array.from(w, (v, i) => v * s[i % s.length]!)
  if (bits === 0) return scaled
  const dims = [w.length / s.length, s.length]
  const rows = { axis: 0 }
  return fakeQuantize(scaled, dims, rows, fitWeightScales(scaled, dims, rows, bits, 'als'), bits)
}

/** [rows of x, rows of w], of `columns` numbers each. */
export function productOf(x: Float32Array, w: Float32Array, columns: number): Float64Array {
  const [n, m] = [x.length / columns, w.length / columns]
  const y = new Float64Array(n * m)
  for (let a = 0; a < n; a++)
    for (let b = 0; b < m; b++) {
      let sum = 0
      for (let i = 0, p = a * columns, q = b * columns; i < columns; i++) sum += x[p++]! * w[q++]!
      y[a * m + b] = sum
    }
  return y
}

export function relativeError(want: Float64Array, have: Float64Array): number {
  let [error, energy] = [0, 0]
  for (let i = 0; i < want.length; i++) {
    error += (want[i]! - have[i]!) ** 2
    energy += want[i]! ** 2
  }
  return energy > 0 ? error / energy : 0
}
