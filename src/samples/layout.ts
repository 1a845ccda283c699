/** Samples in tensors: split along the batch axes, padded, and read one by one. */
import { Tensor } from '../graph/tensor.ts'

export interface InputLayout {
  /** At one sample. */
  readonly dims: readonly number[]
  /** Those that grow with the batch; none where all samples share the input. */
  readonly axes: readonly number[]
}

/**
 * Where the samples of a run are in an output: in consecutive parts of `rows` along `axis`; 'whole': the run has one
 * sample, and all of it belongs to that one; 'shared': the same for all samples.
 */
export type OutputLayout = { readonly axis: number; readonly rows: number } | 'whole' | 'shared'

/** Samples from..from+n-1 along `axes`, the last one repeated until there are `full`. */
export function sliceSamples(t: Tensor, axes: readonly number[], from: number, n: number, full: number): Tensor {
  return axes.reduce((part, axis) => sliceAxis(part, axis, from, n, full), t)
}

function sliceAxis(t: Tensor, axis: number, from: number, n: number, full: number): Tensor {
  const { dims, type } = t
  const size = dims[axis]!
  if (from === 0 && n === size && full === size) return t
  const outer = dims.slice(0, axis).reduce((p, d) => p * d, 1)
  const row = t.size === 0 ? 0 : t.byteLength / (outer * size)
  const to = dims.map((d, i) => (i === axis ? full : d))
  const { bytes } = t
  if (outer === 1 && n === full) return new Tensor(type, to, bytes.slice(from * row, (from + n) * row))
  const out = new Uint8Array(outer * full * row)
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < full; i++) {
      const at = (o * size + from + Math.min(i, n - 1)) * row
      out.set(bytes.subarray(at, at + row), (o * full + i) * row)
    }
  return new Tensor(type, to, out)
}

/** The values of each of a run's `n` samples in one of its outputs. */
export function rowsOf(t: Tensor, layout: OutputLayout, n: number): readonly ArrayLike<number>[] {
  const numbers = t.toNumbers()
  const values = numbers instanceof Float32Array ? numbers : Float64Array.from(numbers)
  if (typeof layout !== 'object') return Array.from({ length: n }, () => values)
  const { axis, rows } = layout
  const outer = t.dims.slice(0, axis).reduce((p, d) => p * d, 1)
  const inner = t.dims.slice(axis + 1).reduce((p, d) => p * d, 1)
  const run = rows * inner
  if (outer === 1) return Array.from({ length: n }, (_, i) => values.subarray(i * run, (i + 1) * run))
  return Array.from({ length: n }, (_, i) => {
    const out = new Float64Array(outer * run)
    for (let o = 0; o < outer; o++) {
      const at = (o * n + i) * run
      out.set(values.subarray(at, at + run), o * run)
    }
    return out
  })
}

/**
 * Values of one sample alone and among others may differ by this fraction, root mean square: kernels round differently at
 * other batches, and a quantiser now and then turns rounding into a whole level. The effect of samples on each other is
 * far larger.
 */
const ROUNDING = 1e-2

export function isNear(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a.length !== b.length) return false
  let [error, size] = [0, 0]
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i]!, b[i]!]
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue
    if (!Number.isFinite(x - y)) return false
    error += (x - y) ** 2
  }
  for (let i = 0; i < b.length; i++) if (Number.isFinite(b[i]!)) size += b[i]! ** 2
  return error <= ROUNDING ** 2 * size
}
