/**
 * The weight gradient of a convolution, for stride s, dilation d, pads p:
 *
 *   dw[o,c,k] = sum over images n and positions q of dy[n,o,q] * x[n,c, q s + k d - p]
 *
 * as one batched MatMul over positions. Stride-1 convolutions of one group in one or two dimensions work on flat
 * positions: with both operands laid out in lines of the same length, moving by a kernel offset is moving by a number of
 * elements. So the operands' rows are put together by one Concat each, of the operand and runs of zeros, long pieces that
 * it copies on all cores (Pad and Slice copy line by line on one: they took half of a ResNet-20 step). What a move along
 * the line carries over its end would meet the next line's start: those columns are zeroed beforehand (`clean`).
 *
 * Kernel rows and columns may be moved on either operand. Where channels are about equal, kernel rows on one side and
 * columns on the other copy least ([3 O] x [3 C] rows for 3x3); where one side has few channels, all offsets go there
 * (48 in, 12 out in a DenseNet: [9 O] x [C]).
 *
 * Small images are joined into longer rows, so that one product has enough work: 16 images of 8x8 per row. A stride above
 * 1 is split off first: of the s x s phases of x, every one meets dy with stride 1. Other forms (groups, three
 * dimensions, dilation with stride) are copied once per offset by Slice.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import { keepWide, markWeightGradient } from '../../graph/hints.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { ElementType } from '../../graph/types.ts'
import type { Geometry } from './conv-geometry.ts'
import { product, range, reshape, transpose } from './emit.ts'
import { elemOf } from './rules.ts'

/** Elements of an image above which the copies of whole rows cost more memory than they save time: 16 MB of float32. */
const LARGE_IMAGE = 2 ** 22

/** [Cout, Cin / group, ...kernel] */
export function convWeightGradient(x: Value, dy: Value, c: Geometry, b: Builder): Value {
  const unpadded = [...c.begin, ...c.end].every((p) => p === 0)
  const plain = c.stride.every((s) => s === 1)
  if (c.group === 1 && product(c.kernel) === 1 && unpadded) {
    const read = plain ? x : strided(x, c, b)
    return reshape(b, overPositions(dy, c.cout, read, c.cin, c, b), [c.cout, c.cin, ...c.kernel])
  }
  if (c.group !== 1 || c.kernel.length > 2 || product(x.dims.slice(1)) > LARGE_IMAGE) return byShiftedInput(x, dy, c, b)
  const g = inTwoDimensions(c)
  if (plain) return reshape(b, byFlatShifts(x, dy, g, b), [c.cout, c.cin, ...c.kernel])
  if (c.dilation.some((d) => d !== 1)) return byShiftedInput(x, dy, c, b)
  return reshape(b, byPhases(x, dy, g, b), [c.cout, c.cin, ...c.kernel])
}

/** A 1-D convolution is a 2-D one of one line. */
function inTwoDimensions(c: Geometry): Geometry {
  if (c.kernel.length === 2) return c
  const one = (v: readonly number[], fill: number): number[] => [fill, ...v]
  return {
    ...{ ...c, kernel: one(c.kernel, 1), stride: one(c.stride, 1), dilation: one(c.dilation, 1) },
    ...{ begin: one(c.begin, 0), end: one(c.end, 0), inSize: one(c.inSize, 1), outSize: one(c.outSize, 1) },
  }
}

const strided = (x: Value, c: Geometry, b: Builder): Value => {
  const axes = c.stride.map((_, i) => i + 2)
  const ends = c.outSize.map((o, i) => (o - 1) * c.stride[i]! + 1)
  return b.op('Slice', [x, b.ints(axes.map(() => 0)), b.ints(ends), b.ints(axes), b.ints(c.stride)])
}

/** sum over n and positions of left[n,i,.] * right[n,j,.] -> [i,j]; both have the output's positions. One is one product. */
function overPositions(left: Value, rows: number, right: Value, columns: number, c: Geometry, b: Builder): Value {
  const positions = product(c.outSize)
  if (positions === 1) {
    const [l, r] = [left, right].map((v, i) => b.op('Reshape', [v, b.ints([c.n, i === 0 ? rows : columns])]))
    return keepWide(b.op('MatMul', [b.op('Transpose', [l!], { perm: [1, 0] }), r!]))
  }
  const l = b.op('Reshape', [left, b.ints([c.n, rows, positions])])
  const r = b.op('Reshape', [right, b.ints([c.n, columns, positions])])
  return summedProduct(l, r, b)
}

/** sum over i of left[i] right[i]^T, of [i, rows, length] each. */
function summedProduct(left: Value, right: Value, b: Builder): Value {
  const each = keepWide(b.op('MatMul', [left, b.op('Transpose', [right], { perm: [0, 2, 1] })]))
  return b.op('ReduceSum', [each, b.ints([0])], { keepdims: 0 })
}

// --- stride 1 --------------------------------------------------------------------------------------------------------

/** One operand: [images, channels, size], lines of `pitch` elements of which the first `width` are its own. */
interface Operand {
  readonly value: Value
  readonly channels: number
  readonly width: number
  readonly size: number
}

/** A copy of an operand in a row: which kernel column it is cleaned for (null: none), and where in the row it starts. */
interface Place {
  readonly column: number | null
  readonly at: number
}

function byFlatShifts(x: Value, dy: Value, c: Geometry, b: Builder): Value {
  const [kh, kw] = c.kernel as readonly [number, number]
  const [dh, dw] = c.dilation as readonly [number, number]
  const pitch = Math.max(c.inSize[1]!, c.outSize[1]!)
  const line = dh * pitch
  // position q of dy meets position q + kernel offset - origin of x
  const origin = c.begin[0]! * pitch + c.begin[1]!
  const reach = (kh - 1) * line + (kw - 1) * dw
  const sizes = { x: c.inSize[0]! * pitch, dy: c.outSize[0]! * pitch }
  const apart = Math.max(sizes.dy + reach - origin, sizes.x + origin, sizes.x, sizes.dy)
  const images = imagesPerRow(c.n, pitch * Math.ceil(apart / pitch))
  const operand = (v: Value, channels: number, [rows, width]: readonly number[]): Operand => {
    const lines = pitched(v, [c.n, channels, rows!, width!], pitch, b)
    const value = joined(lines, [c.n, channels, rows! * pitch], images, b)
    return { value, channels, width: width!, size: images ? images.count * images.length : rows! * pitch }
  }
  const [X, DY] = [operand(x, c.cin, c.inSize), operand(dy, c.cout, c.outSize)]
  const batch = images ? c.n / images.count : c.n
  const { left, right, order } = arrangement(c, line, origin)
  const length = Math.max(...left.map((p) => p.at + DY.size), ...right.map((p) => p.at + X.size))
  const clean = (o: Operand, other: Operand, sign: number) => (column: number) =>
    cleaned(o, other, sign * (column * dw - c.begin[1]!), pitch, b)
  const l = rowsOf(DY, left, clean(DY, X, -1), batch, length, b)
  const r = rowsOf(X, right, clean(X, DY, 1), batch, length, b)
  const sum = summedProduct(l, r, b)
  const gradient = order(reshape(b, sum, [c.cout, left.length, c.cin, right.length]), b)
  markWeightGradient(gradient, x, dy, c)
  return gradient
}

/**
 * Where the copies of dy (left) and of x (right) go so that offset (i, j) is at.left - at.right + origin = i line + j d.
 * Of the four ways the one that copies least; `order` brings [Cout, left, Cin, right] into [Cout, Cin, kh, kw].
 */
function arrangement(c: Geometry, line: number, origin: number) {
  const [kh, kw] = c.kernel as readonly [number, number]
  const dw = c.dilation[1]!
  const lines = range(kh).map((i) => ({ column: null, by: i * line }))
  const columns = range(kw).map((j) => ({ column: j, by: j * dw }))
  const all = range(kh * kw).map((k) => ({ column: k % kw, by: Math.floor(k / kw) * line + (k % kw) * dw }))
  const one = [{ column: null, by: 0 }]
  const ways = [
    { left: lines, right: columns, perm: [0, 2, 1, 3] },
    { left: columns, right: lines, perm: [0, 2, 3, 1] },
    { left: all, right: one, perm: [0, 2, 1, 3] },
    { left: one, right: all, perm: [0, 2, 1, 3] },
  ]
  const copied = (side: readonly { column: number | null }[], channels: number): number =>
    channels * (side.length + new Set(side.map((p) => p.column)).size - 1)
  const cost = ways.map((w) => copied(w.left, c.cout) + copied(w.right, c.cin))
  const { left, right, perm } = ways[cost.indexOf(Math.min(...cost))]!
  const base = Math.max(origin, ...right.map((p) => p.by))
  return {
    left: left.map((p): Place => ({ column: p.column, at: base - origin + p.by })),
    right: right.map((p): Place => ({ column: p.column, at: base - p.by })),
    order: (v: Value, b: Builder): Value => transpose(b, v, perm),
  }
}

/** [n, channels, rows, width] with lines of `pitch` elements, flat: [n, channels, rows * pitch]. */
function pitched(v: Value, dims: readonly number[], pitch: number, b: Builder): Value {
  const [n, channels, rows, width] = dims as readonly [number, number, number, number]
  const filled =
    width === pitch ? v : concat(b, [reshape(b, v, dims), gap(b, v, [n, channels, rows, pitch - width])], 3)
  return reshape(b, filled, [n, channels, rows * pitch])
}

/** Below this many positions an image's rows are joined with others': measured, 64 x 8x8 and 64 x 16x16. */
const MIN_ROW = 1024

/** How many images make a row, and the elements that each takes there, so that none meets another; null: one. */
function imagesPerRow(n: number, length: number): { count: number; length: number } | null {
  let count = 1
  while (count * length < MIN_ROW && n % (2 * count) === 0) count *= 2
  return count === 1 ? null : { count, length }
}

/** [n, channels, size] as [n / count, channels, count * length], zeros between the images. */
function joined(v: Value, dims: readonly number[], images: ReturnType<typeof imagesPerRow>, b: Builder): Value {
  if (!images) return v
  const [n, channels, size] = dims as readonly [number, number, number]
  const { count, length } = images
  const turned = transpose(b, reshape(b, v, [n / count, count, channels, size]), [0, 2, 1, 3])
  const between = [n / count, channels, count, length - size]
  const spaced = length === size ? turned : concat(b, [turned, gap(b, v, between)], 3)
  return reshape(b, spaced, [n / count, channels, count * length])
}

/** The operand without the columns that, moved by `shift` along the line, would meet the other operand's next line. */
function cleaned(o: Operand, other: Operand, shift: number, pitch: number, b: Builder): Value {
  const from = shift > 0 ? 0 : pitch + shift
  const to = shift > 0 ? other.width + shift - pitch : o.width
  if (shift === 0 || from >= to) return o.value
  const keep = Float64Array.from({ length: o.size }, (_, i) => (i % pitch >= from && i % pitch < to ? 0 : 1))
  const name = `columns_${o.size}_${pitch}_without_${from}_${to}`
  const mask = b.shared(name, Tensor.from(elemOf(o.value), [o.size], keep))
  return b.op('Mul', [o.value, mask], {}, { type: o.value.type })
}

/** [batch, channels * places, length]: each place's copy of the operand, zeros around it. */
function rowsOf(
  o: Operand,
  places: readonly Place[],
  clean: (column: number) => Value,
  batch: number,
  length: number,
  b: Builder,
): Value {
  const copies = new Map<number | null, Value>([[null, o.value]])
  const copyFor = (column: number | null): Value => {
    const v = copies.get(column) ?? clean(column!)
    copies.set(column, v)
    return v
  }
  const parts: Value[] = []
  let empty = 0
  const fill = (): void => {
    if (empty > 0) parts.push(gap(b, o.value, [batch, o.channels, empty]))
    empty = 0
  }
  for (const { column, at } of places) {
    empty += at
    fill()
    parts.push(copyFor(column))
    empty = length - at - o.size
  }
  fill()
  return reshape(b, concat(b, parts, 2), [batch, o.channels * places.length, length])
}

/** Zeros of the type of `v`, made once for each size. */
function gap(b: Builder, v: Value, dims: readonly number[]): Value {
  const elem = elemOf(v)
  const name = `gap_${elem}_${dims.join('_')}`
  const value = Tensor.from(elem, [1], [0])
  const found = b.graph.find(name)
  if (found?.producer?.op === 'ConstantOfShape') return found
  return b.op('ConstantOfShape', [b.ints(dims)], { value }, { name, type: { elem, dims } })
}

const concat = (b: Builder, parts: readonly Value[], axis: number): Value =>
  parts.length === 1 ? parts[0]! : b.op('Concat', parts, { axis })

// --- other strides ---------------------------------------------------------------------------------------------------

/**
 * x split into s x s phases, [n, s s Cin, rows / s, columns / s]: a convolution with stride 1 and a kernel of few taps,
 * whose weight gradient holds the wanted one (and what lies before and beyond the kernel, which is cut off). Tap j of
 * phase a is kernel offset s (j - before) + a + begin, `before` being the taps that lie before the first position.
 */
function byPhases(x: Value, dy: Value, c: Geometry, b: Builder): Value {
  const [sh, sw] = c.stride as readonly [number, number]
  const before = c.begin.map((p, i) => Math.ceil(p / c.stride[i]!))
  const kernel = c.kernel.map((k, i) => before[i]! + Math.floor((k - 1 - c.begin[i]!) / c.stride[i]!) + 1)
  // rows and columns of each phase: as many as the taps read, and as x has
  const read = c.outSize.map((o, i) => o - 1 + kernel[i]! - before[i]!)
  const size = c.inSize.map((n, i) => Math.max(Math.ceil(n / c.stride[i]!), read[i]!))
  const missing = size.map((n, i) => n * c.stride[i]! - c.inSize[i]!)
  const image = x.dims.length === 4 ? x : reshape(b, x, [c.n, c.cin, ...c.inSize])
  const padded = missing.every((m) => m === 0) ? image : b.op('Pad', [image, b.ints([0, 0, 0, 0, 0, 0, ...missing])])
  const phases = phasesOf(padded, { elem: elemOf(x), dims: [c.n, sh * sw * c.cin, ...size] }, c.stride, b)
  const end = read.map((r, i) => r - size[i]!)
  const inner = { ...c, cin: sh * sw * c.cin, kernel, stride: [1, 1], begin: before, end, inSize: size }
  const [kh, kw] = kernel as [number, number]
  const taken = b.op('Reshape', [byFlatShifts(phases, dy, inner, b), b.ints([c.cout, sh, sw, c.cin, kh, kw])])
  const ordered = b.op('Transpose', [taken], { perm: [0, 3, 4, 1, 5, 2] })
  const whole = b.op('Reshape', [ordered, b.ints([c.cout, c.cin, kh * sh, kw * sw])])
  const first = before.map((t, i) => c.stride[i]! * t - c.begin[i]!)
  return b.op('Slice', [whole, b.ints(first), b.ints(first.map((f, i) => f + c.kernel[i]!)), b.ints([2, 3])])
}

interface StaticType {
  readonly elem: ElementType
  readonly dims: readonly number[]
}

function phasesOf(x: Value, type: StaticType, stride: readonly number[], b: Builder): Value {
  const [sh, sw] = stride as [number, number]
  if (sh === sw) return b.op('SpaceToDepth', [x], { blocksize: sh }, { type })
  const [n, channels, rows, columns] = type.dims as readonly [number, number, number, number]
  const open = reshape(b, x, [n, channels / (sh * sw), rows, sh, columns, sw])
  return reshape(b, transpose(b, open, [0, 3, 5, 1, 2, 4]), type.dims)
}

// --- the general form ------------------------------------------------------------------------------------------------

/** Kernel offsets in row-major order. */
function* kernelOffsets(kernel: readonly number[]): Generator<number[]> {
  const total = product(kernel)
  for (let k = 0; k < total; k++) {
    const at: number[] = []
    for (let i = kernel.length - 1, rest = k; i >= 0; i--) {
      at.unshift(rest % kernel[i]!)
      rest = Math.floor(rest / kernel[i]!)
    }
    yield at
  }
}

/** The general form: x is padded and copied once per offset, as many offsets at a time as there is room for. */
export function byShiftedInput(x: Value, dy: Value, c: Geometry, b: Builder): Value {
  const axes = c.kernel.map((_, i) => i + 2)
  const noPads = [...c.begin, ...c.end].every((p) => p === 0)
  const padded = noPads ? x : b.op('Pad', [x, b.ints([0, 0, ...c.begin, 0, 0, ...c.end])])
  const shifted = (at: readonly number[]): Value => {
    const starts = at.map((k, i) => k * c.dilation[i]!)
    const ends = starts.map((s, i) => s + (c.outSize[i]! - 1) * c.stride[i]! + 1)
    return b.op('Slice', [padded, b.ints(starts), b.ints(ends), b.ints(axes), b.ints(c.stride)])
  }
  const copied = c.n * c.cin * product(c.outSize)
  const room = Math.max(LARGE_IMAGE, product(x.dims), product(dy.dims))
  const parts = inParts([...kernelOffsets(c.kernel)], Math.max(1, Math.floor(room / copied))).map((offsets) =>
    ofOffsets(dy, offsets.map(shifted), c, b),
  )
  const offsets = product(c.kernel)
  const sums = parts.length === 1 ? parts[0]! : b.op('Concat', parts, { axis: 1 })
  const split = b.op('Reshape', [sums, b.ints([c.cout, offsets, c.cin / c.group])])
  const ordered = b.op('Transpose', [split], { perm: [0, 2, 1] })
  if (c.group === c.cin && c.group === c.cout && c.kernel.length === 2) markWeightGradient(ordered, x, dy, c)
  return b.op('Reshape', [ordered, b.ints([c.cout, c.cin / c.group, ...c.kernel])])
}

const inParts = <T>(all: readonly T[], size: number): T[][] =>
  range(Math.ceil(all.length / size)).map((i) => all.slice(i * size, (i + 1) * size))

/** From copies of x, one per kernel offset: [Cout, offsets, Cin / group]. */
function ofOffsets(dy: Value, shifted: readonly Value[], c: Geometry, b: Builder): Value {
  const offsets = shifted.length
  const all = offsets === 1 ? shifted[0]! : b.op('Concat', shifted, { axis: 1 })
  const perGroupIn = c.cin / c.group
  const perGroupOut = c.cout / c.group
  const positions = product(c.outSize)
  const result = (v: Value): Value => b.op('Reshape', [v, b.ints([c.cout, offsets, perGroupIn])])
  if (c.group === 1) return result(overPositions(dy, c.cout, all, offsets * c.cin, c, b))
  if (perGroupIn === 1 && perGroupOut === 1) {
    // depthwise: no dot products over channels, a product and a sum
    const spread = b.op('Reshape', [all, b.ints([c.n, offsets, c.cin, positions])])
    const weight = b.op('Reshape', [dy, b.ints([c.n, 1, c.cout, positions])])
    const sum = b.op('ReduceSum', [keepWide(b.op('Mul', [spread, weight])), b.ints([0, 3])], { keepdims: 0 })
    return result(b.op('Transpose', [sum], { perm: [1, 0] }))
  }
  const spread = b.op('Reshape', [all, b.ints([c.n, offsets, c.group, perGroupIn, positions])])
  const right = b.op('Transpose', [spread], { perm: [0, 2, 4, 1, 3] })
  const flat = b.op('Reshape', [right, b.ints([c.n, c.group, positions, offsets * perGroupIn])])
  const left = b.op('Reshape', [dy, b.ints([c.n, c.group, perGroupOut, positions])])
  return result(b.op('ReduceSum', [keepWide(b.op('MatMul', [left, flat])), b.ints([0])], { keepdims: 0 }))
}
