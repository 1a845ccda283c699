/**
 * How Resize reads its input along one axis, and the gradient of that: dX_i = sum of weight dY_o over the outputs o that
 * read input i. As a product with the matrix of weights where that has no more elements than dY, or is small. Else each
 * output's taps, of which there are one (nearest), two (linear) or four (cubic), are worked out in the graph from its
 * position, and dY is added at each of them in turn: memory in proportion to dY and dX, however long the axis.
 *
 * Coordinates as ONNX defines them for `coordinate_transformation_mode`, computed in single precision like
 * onnxruntime's, so that nearest rounds the same way.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementTypes } from '../../graph/types.ts'
import { cubicTaps } from './cubic-kernel.ts'
import { unsupportedNode } from './define-op.ts'
import { expand, product, reshape, sameDims, zeros } from './emit.ts'
import { type Expression, elemOf, expressions } from './rules.ts'

export interface AxisMap {
  readonly size: number
  readonly out: number
  readonly scale: number
  /** Region read, as fractions of the axis (tf_crop_and_resize). */
  readonly roi: readonly number[]
}

const f = Math.fround

interface Form {
  readonly mode: string
  readonly rounding: string
  /** Positions outside read a constant. */
  readonly crops: boolean
  readonly a: number
  readonly excludes: boolean
}

function formOf(node: Node): Form {
  const mode = node.string('mode', 'nearest')
  if (!['nearest', 'linear', 'cubic'].includes(mode))
    throw unsupportedNode(node, `no gradient: resizing mode '${mode}'`)
  return {
    ...{ mode, rounding: node.string('nearest_mode', 'round_prefer_floor') },
    crops: node.string('coordinate_transformation_mode', '') === 'tf_crop_and_resize',
    ...{ a: node.float('cubic_coeff_a', -0.75), excludes: node.int('exclude_outside', 0) === 1 },
  }
}

/** Matrices up to this many elements are made whatever the size of the tensor: a quarter of a megabyte. */
const SMALL = 2 ** 16

/** `g` of dims `dims`, which arrives at the outputs along `axis`, brought to the inputs. */
export function unresized(
  b: Builder,
  g: Value,
  dims: readonly number[],
  axis: number,
  node: Node,
  map: AxisMap,
): Value {
  if (map.size * map.out <= Math.max(SMALL, product(dims))) return byMatrix(b, g, dims, axis, node, map)
  return byPositions(b, g, dims, axis, node, map)
}

/** k where output o reads input o / k alone: every element repeated k times. Null for anything else. */
export function repetition(node: Node, map: AxisMap): number | null {
  const { mode, rounding, crops } = formOf(node)
  const { size, out } = map
  const k = out / size
  if (!Number.isInteger(k) || crops || (mode !== 'nearest' && (mode !== 'linear' || size > 1))) return null
  for (let o = 0; o < out && size > 1; o++)
    if (nearestIn(original(node, o, map), rounding, size) !== Math.floor(o / k)) return null
  return k
}

type Tap = readonly [input: number, weight: number]

/** The inputs that an output at position `x` reads. */
function tapsAt(x: number, size: number, { mode, rounding, crops, a, excludes }: Form): readonly Tap[] {
  if (crops && (x < 0 || x > size - 1)) return []
  if (mode === 'nearest') return [[nearestIn(x, rounding, size), 1]]
  return mode === 'linear' ? within(linearTaps(x, size), size, false) : within(keysTaps(x, a), size, excludes)
}

/** y[.., i, ..] = sum_o m[i, o] x[.., o, ..] */
function byMatrix(b: Builder, g: Value, dims: readonly number[], axis: number, node: Node, map: AxisMap): Value {
  const { size, out } = map
  const form = formOf(node)
  const result = dims.map((d, i) => (i === axis ? size : d))
  const after = product(dims.slice(axis + 1))
  const last = after === 1
  const m = new Float64Array(size * out)
  for (let o = 0; o < out; o++)
    for (const [i, w] of tapsAt(original(node, o, map), size, form)) m[last ? o * size + i : i * out + o]! += w
  const name = `${node.id}_resize_${axis}`
  const matrix = b.initializer(name, Tensor.from(elemOf(g), last ? [out, size] : [size, out], m))
  const before = product(dims.slice(0, axis))
  const y = last
    ? b.op('MatMul', [reshape(b, g, [before, out]), matrix])
    : b.op('MatMul', [matrix, reshape(b, g, [before, out, after])])
  return reshape(b, y, result)
}

/** A tap of every output along the axis: where, as whole numbers in floats, and its weight; null: 1. */
interface Taps {
  readonly index: Value
  readonly weight: Value | null
}

function byPositions(b: Builder, g: Value, dims: readonly number[], axis: number, node: Node, map: AxisMap): Value {
  const { size, out } = map
  const form = formOf(node)
  const elem = elemOf(g)
  const f = expressions(b, g)
  const at = new Float32Array(out)
  for (let o = 0; o < out; o++) {
    const x = original(node, o, map)
    at[o] = form.mode === 'nearest' ? nearestIn(x, form.rounding, size) : x
  }
  const along = dims.map((_, i) => (i === axis ? out : 1))
  const position = b.initializer(`${node.id}_positions_${axis}`, Tensor.from(elem, along, at))
  const read = form.crops ? f('Mul', g, cropMask(b, node, map, along, g)) : g
  const type = { elem, dims: dims.map((d, i) => (i === axis ? size : d)) }
  let sum = zeros(b, type.dims, elem)
  for (const { index, weight } of tapsOf(f, position, size, form)) {
    const whole = b.op('Cast', [index], { to: elementTypes.int32.code }, { type: { elem: 'int32', dims: along } })
    const share = weight ? f('Mul', read, weight) : read
    const attributes = { axis, reduction: 'add' }
    sum = b.op('ScatterElements', [sum, sameDims(along, dims) ? whole : expand(b, whole, dims), share], attributes, {
      type,
    })
  }
  return sum
}

function tapsOf(f: Expression, position: Value, size: number, { mode, a, excludes }: Form): Taps[] {
  if (mode === 'nearest') return [{ index: position, weight: null }]
  if (mode === 'linear') {
    const p = f('Clip', position, 0, size - 1)
    const low = f('Floor', p)
    const t = f('Sub', p, low)
    return [
      { index: low, weight: f('Sub', 1, t) },
      { index: f('Min', f('Add', low, 1), size - 1), weight: t },
    ]
  }
  const low = f('Floor', position)
  const taps = cubicTaps(f, f('Sub', position, low), a).map(({ offset, weight }) => {
    const given = f('Add', low, offset)
    const index = f('Clip', given, 0, size - 1)
    // 0 outside, 1 inside
    const inside = (): Value => f('Sub', 1, f('Min', f('Abs', f('Sub', given, index)), 1))
    return { index, weight: excludes ? f('Mul', weight, inside()) : weight }
  })
  if (!excludes) return taps
  const total = taps.map((t) => t.weight).reduce((sum, w) => f('Add', sum, w))
  return taps.map(({ index, weight }) => ({ index, weight: f('Div', weight, total) }))
}

/** 0 at outputs whose position is outside. */
function cropMask(b: Builder, node: Node, map: AxisMap, along: readonly number[], like: Value): Value {
  const mask = new Float32Array(map.out)
  for (let o = 0; o < map.out; o++) {
    const x = original(node, o, map)
    mask[o] = x < 0 || x > map.size - 1 ? 0 : 1
  }
  return b.initializer(`${node.id}_crop`, Tensor.from(elemOf(like), along, mask))
}

/** The position in the input that output position `o` stands for. */
function original(node: Node, o: number, { size, out, scale, roi }: AxisMap): number {
  const s = f(scale)
  const mode = node.string('coordinate_transformation_mode', 'half_pixel')
  switch (mode) {
    case 'half_pixel':
      return f(f((o + 0.5) / s) - 0.5)
    case 'half_pixel_symmetric': {
      // the output is centred over the input when scale * size is not whole
      const adjustment = f(out / f(s * size))
      const offset = f((size / 2) * (1 - adjustment))
      return f(offset + f(f((o + 0.5) / s) - 0.5))
    }
    case 'pytorch_half_pixel':
      return out > 1 ? f(f((o + 0.5) / s) - 0.5) : 0
    case 'align_corners':
      return out === 1 ? 0 : f(f(o * (size - 1)) / (out - 1))
    case 'asymmetric':
      return f(o / s)
    case 'tf_crop_and_resize': {
      const [start, end] = [roi[0]!, roi[1]!]
      return out > 1
        ? f(f(start * (size - 1)) + f(f(f(o * f(end - start)) * (size - 1)) / (out - 1)))
        : f(0.5 * (start + end) * (size - 1))
    }
    default:
      throw unsupportedNode(node, `no gradient: coordinate_transformation_mode '${mode}'`)
  }
}

const nearestIn = (x: number, mode: string, size: number): number => Math.min(Math.max(nearest(x, mode), 0), size - 1)

function nearest(x: number, mode: string): number {
  if (mode === 'floor') return Math.floor(x)
  if (mode === 'ceil') return Math.ceil(x)
  if (mode === 'round_prefer_ceil') return Math.floor(x + 0.5)
  return x === Math.floor(x) + 0.5 ? Math.floor(x) : Math.floor(x + 0.5)
}

function linearTaps(x: number, size: number): Tap[] {
  const at = Math.min(Math.max(x, 0), size - 1)
  const low = Math.floor(at)
  return [
    [low, 1 - (at - low)],
    [low + 1, at - low],
  ]
}

/** Keys' cubic convolution with coefficient a. */
function keysTaps(x: number, a: number): Tap[] {
  const low = Math.floor(x)
  const t = x - low
  const near = (d: number): number => ((a + 2) * d - (a + 3)) * d * d + 1
  const far = (d: number): number => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
  return [
    [low - 1, far(t + 1)],
    [low, near(t)],
    [low + 1, near(1 - t)],
    [low + 2, far(2 - t)],
  ]
}

/** Positions outside repeat the border, or are left out and the rest scaled to sum 1. */
function within(taps: readonly Tap[], size: number, excludeOutside: boolean): Tap[] {
  const used = excludeOutside ? taps.filter(([p]) => p >= 0 && p < size) : taps
  const total = excludeOutside ? used.reduce((s, [, w]) => s + w, 0) : 1
  return used.map(([p, w]) => [Math.min(Math.max(p, 0), size - 1), w / total])
}
