/**
 * How Resize reads its input along one axis, and the gradient of that: dX_i = sum of weight dY_o over the outputs o that
 * read input i. As a product with the matrix of weights where that has no more elements than dY, or is small; else added
 * tap by tap (interpolation-taps.ts). The reading itself is written in the same two ways, transposed, where onnxruntime's
 * kernel will not do (resize.ts).
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { unsupportedNode } from './define-op.ts'
import { product, reshape } from './emit.ts'
import { addedAtTaps, type Form, readAtTaps } from './interpolation-taps.ts'
import { type AxisMap, original } from './resize-coordinates.ts'
import { elemOf } from './rules.ts'

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
  if (!isLong(dims, map)) return byMatrix(b, g, dims, axis, node, map, false)
  return addedAtTaps(b, g, dims, axis, node, { ...map, ...formOf(node) })
}

/** `x` of dims `dims`, inputs along `axis`, as its outputs. */
export function resized(b: Builder, x: Value, dims: readonly number[], axis: number, node: Node, map: AxisMap): Value {
  if (!isLong(dims, map)) return byMatrix(b, x, dims, axis, node, map, true)
  return readAtTaps(b, x, dims, axis, node, { ...map, ...formOf(node) })
}

/** Whether a matrix of inputs times outputs would have more elements than the tensor, and is not small. */
export const isLong = (dims: readonly number[], { size, out }: AxisMap): boolean =>
  size * out > Math.max(SMALL, product(dims))

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

/** y[.., i, ..] = sum_o m[i, o] x[.., o, ..] over the axis's outputs o, or forwards sum_i m[i, o] x[.., i, ..]. */
function byMatrix(
  b: Builder,
  v: Value,
  dims: readonly number[],
  axis: number,
  node: Node,
  map: AxisMap,
  forward: boolean,
): Value {
  const [from, to] = forward ? [map.size, map.out] : [map.out, map.size]
  const form = formOf(node)
  const result = dims.map((d, i) => (i === axis ? to : d))
  const after = product(dims.slice(axis + 1))
  const last = after === 1
  const m = new Float64Array(from * to)
  for (let o = 0; o < map.out; o++)
    for (const [i, w] of tapsAt(original(node, o, map), map.size, form)) {
      const [row, column] = forward ? [o, i] : [i, o]
      m[last ? column * to + row : row * from + column]! += w
    }
  const name = `${node.id}_resize_${axis}`
  const matrix = b.initializer(name, Tensor.from(elemOf(v), last ? [from, to] : [to, from], m))
  const before = product(dims.slice(0, axis))
  const y = last
    ? b.op('MatMul', [reshape(b, v, [before, from]), matrix])
    : b.op('MatMul', [matrix, reshape(b, v, [before, from, after])])
  return reshape(b, y, result)
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
