/**
 * Sparse linear maps along one axis, as resizing is: output o is the sum of weight x input over its taps.
 * Their transpose, which is the gradient,
 *
 *   dX[.., i, ..] = sum of weight dY[.., o, ..] over the outputs o that read input i
 *
 * takes memory in proportion to dY and dX. As a product with the matrix where that has no more elements than dY (or is
 * small); else, with at most K taps an input and F an output, as K Gathers along the axis or F ScatterElements that add,
 * whichever are fewer.
 */
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { expand, product, reshape, zeros } from './emit.ts'
import { elemOf } from './rules.ts'

export interface AxisTaps {
  readonly size: number
  readonly out: number
  /** Taps of output o are those from first[o] up to first[o + 1]. */
  readonly first: Int32Array
  readonly input: Int32Array
  readonly weight: Float64Array
}

export type Tap = readonly [input: number, weight: number]

export function axisTaps(size: number, out: number, tapsOf: (o: number) => readonly Tap[]): AxisTaps {
  const first = new Int32Array(out + 1)
  let input = new Int32Array(out)
  let weight = new Float64Array(out)
  let count = 0
  for (let o = 0; o < out; o++) {
    for (const [i, w] of tapsOf(o)) {
      if (count === input.length) {
        input = grown(input, new Int32Array(2 * count + 1))
        weight = grown(weight, new Float64Array(2 * count + 1))
      }
      input[count] = i
      weight[count++] = w
    }
    first[o + 1] = count
  }
  return { size, out, first, input, weight }
}

function grown<T extends Int32Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}

/** Matrices up to this many elements are made whatever the size of the tensor: a quarter of a megabyte. */
const SMALL = 2 ** 16

/** The gradient of what `taps` describe, `g` of dims `dims` arriving at its outputs, along `axis`. */
export function transposedAlong(
  b: Builder,
  g: Value,
  dims: readonly number[],
  axis: number,
  taps: AxisTaps,
  name: string,
): Value {
  if (taps.size * taps.out <= Math.max(SMALL, product(dims))) return byMatrix(b, g, dims, axis, taps, name)
  const starts = inputStarts(taps)
  return mostOf(starts) <= mostOf(taps.first)
    ? byGather(b, g, dims, axis, rowsOf(...transposed(taps, starts)), name)
    : byScatter(b, g, dims, axis, taps.size, rowsOf(taps.first, taps.input, taps.weight), name)
}

/** The largest number of taps of one line. */
function mostOf(first: Int32Array): number {
  let most = 0
  for (let i = 1; i < first.length; i++) most = Math.max(most, first[i]! - first[i - 1]!)
  return most
}

/** The k-th tap of each line: an input of weight 0 where there are fewer. */
interface Row {
  readonly at: Int32Array
  readonly weight: Float64Array
}

function rowsOf(first: Int32Array, at: Int32Array, weight: Float64Array): Row[] {
  const lines = first.length - 1
  return Array.from({ length: mostOf(first) }, (_, k) => {
    const row = { at: new Int32Array(lines), weight: new Float64Array(lines) }
    for (let i = 0; i < lines; i++) {
      const from = first[i]! + k
      if (from >= first[i + 1]!) continue
      row.at[i] = at[from]!
      row.weight[i] = weight[from]!
    }
    return row
  })
}

/** By input: where its outputs begin in a list ordered by input. */
function inputStarts({ size, out, first, input }: AxisTaps): Int32Array {
  const starts = new Int32Array(size + 1)
  const count = first[out]!
  for (let k = 0; k < count; k++) starts[input[k]! + 1]!++
  for (let i = 0; i < size; i++) starts[i + 1]! += starts[i]!
  return starts
}

/** That list: outputs and weights. */
function transposed(taps: AxisTaps, starts: Int32Array): [Int32Array, Int32Array, Float64Array] {
  const { size, out, first, input, weight } = taps
  const next = starts.slice(0, size)
  const [outputs, weights] = [new Int32Array(first[out]!), new Float64Array(first[out]!)]
  for (let o = 0; o < out; o++)
    for (let k = first[o]!; k < first[o + 1]!; k++) {
      const to = next[input[k]!]!++
      outputs[to] = o
      weights[to] = weight[k]!
    }
  return [starts, outputs, weights]
}

/** y[.., i, ..] = sum_o m[i, o] x[.., o, ..] */
function byMatrix(b: Builder, v: Value, dims: readonly number[], axis: number, taps: AxisTaps, name: string): Value {
  const { size, out, first, input, weight } = taps
  const result = dims.map((d, i) => (i === axis ? size : d))
  const after = product(dims.slice(axis + 1))
  const last = after === 1
  const m = new Float64Array(size * out)
  for (let o = 0; o < out; o++)
    for (let k = first[o]!; k < first[o + 1]!; k++) m[last ? o * size + input[k]! : input[k]! * out + o]! += weight[k]!
  const matrix = b.initializer(name, Tensor.from(elemOf(v), last ? [out, size] : [size, out], m))
  const before = product(dims.slice(0, axis))
  const y = last
    ? b.op('MatMul', [reshape(b, v, [before, out]), matrix])
    : b.op('MatMul', [matrix, reshape(b, v, [before, out, after])])
  return reshape(b, y, result)
}

function byGather(b: Builder, g: Value, dims: readonly number[], axis: number, rows: readonly Row[], name: string) {
  const size = rows[0]!.at.length
  const type = { elem: elemOf(g), dims: dims.map((d, i) => (i === axis ? size : d)) }
  const terms = rows.map(({ at, weight }) => {
    const index = b.initializer(`${name}_at`, Tensor.from('int32', [size], at))
    return weighted(b, b.op('Gather', [g, index], { axis }, { type }), weight, dims, axis, name)
  })
  return terms.reduce((sum, t) => b.op('Add', [sum, t], {}, { type }))
}

function byScatter(
  b: Builder,
  g: Value,
  dims: readonly number[],
  axis: number,
  size: number,
  rows: readonly Row[],
  name: string,
): Value {
  const out = dims[axis]!
  const type = { elem: elemOf(g), dims: dims.map((d, i) => (i === axis ? size : d)) }
  return rows.reduce(
    (sum, { at, weight }) => {
      const line = b.initializer(`${name}_at`, Tensor.from('int32', along(dims, axis, out), at))
      const updates = weighted(b, g, weight, dims, axis, name)
      return b.op('ScatterElements', [sum, expand(b, line, dims), updates], { axis, reduction: 'add' }, { type })
    },
    zeros(b, type.dims, type.elem),
  )
}

/** Times a weight for each position along the axis. */
function weighted(b: Builder, v: Value, weight: Float64Array, dims: readonly number[], axis: number, name: string) {
  if (weight.every((w) => w === 1)) return v
  const factors = Tensor.from(elemOf(v), along(dims, axis, weight.length), weight)
  return b.op('Mul', [v, b.initializer(`${name}_weights`, factors)], {}, { type: v.type })
}

const along = (dims: readonly number[], axis: number, size: number): number[] =>
  dims.map((_, i) => (i === axis ? size : 1))
