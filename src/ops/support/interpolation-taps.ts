/**
 * Resize along a long axis, and the gradient of that: each output's taps, of which there are one (nearest), two (linear) or four
 * (cubic), are worked out in the graph from its position, and dY is added at (X is read at) each of them in turn. A long tensor's axis is
 * taken in pieces of dX (Y), each from the outputs that may read it, so that positions, weights and indices, which together
 * take several times the room of dY, exist for one piece at a time:
 *
 *   piece = what is added between its ends, of   zeros[.., 1 + length + 1, ..] + dY weight at tap - begin + 1
 *
 * whose first and last position collect what falls outside.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type ElementType, elementTypes } from '../../graph/types.ts'
import { cubicTaps } from './cubic-kernel.ts'
import { expand, notFolded, product, range, reshape, sameDims, typed, zeros } from './emit.ts'
import { type AxisMap, original, position } from './resize-coordinates.ts'
import { type Expression, elemOf, expressions } from './rules.ts'

export interface Form {
  readonly mode: string
  readonly rounding: string
  /** Positions outside read a constant. */
  readonly crops: boolean
  readonly a: number
  readonly excludes: boolean
}

/** A tap of every output along the axis: where, as whole numbers in floats, and its weight; null: 1. */
interface Taps {
  readonly index: Value
  readonly weight: Value | null
}

/** Tensors up to this many elements are taken whole; their positions are constants that the engine computes at load. */
const WHOLE = 2 ** 17
const MOST_PIECES = 32

/** Positions begin .. end - 1 of dX, and the outputs from .. to - 1, among which are all that read them. */
interface Piece {
  readonly begin: number
  readonly end: number
  readonly from: number
  readonly to: number
}

/** A value of dims `dims` to another, which differs in its size along `axis`. */
type AlongAxis = (b: Builder, v: Value, dims: readonly number[], axis: number, node: Node, map: AxisMap & Form) => Value

/** `g` of dims `dims`, which arrives at the outputs along `axis`, brought to the inputs. */
export const addedAtTaps: AlongAxis = (b, g, dims, axis, node, map) => {
  const { size, out } = map
  const elem = elemOf(g)
  const lines = product(dims) / out
  const count = Math.min(MOST_PIECES, size, Math.ceil((lines * Math.max(size, out)) / WHOLE))
  const pieces = piecesOf(node, map, count)
  const longest = Math.max(...pieces.map(({ from, to }) => to - from))
  const steps = b.initializer(`${node.id}_outputs_${axis}`, Tensor.from('int32', [longest], range(longest)))
  const counted = count > 1 ? notFolded(b, steps, g, dims) : steps
  const along = (n: number): number[] => dims.map((_, i) => (i === axis ? n : 1))
  const cut = (v: Value, on: number, begin: number, end: number): Value =>
    b.op('Slice', [v, b.ints([begin]), b.ints([end]), b.ints([on])])
  const sums = pieces.map(({ begin, end, from, to }) => {
    const type = { elem, dims: dims.map((d, i) => (i === axis ? end - begin : d)) }
    if (from === to) return zeros(b, type.dims, elem)
    const few = to - from === longest ? counted : cut(counted, 0, 0, to - from)
    const o = typed(b.op('Add', [few, b.scalar(from, 'int32')]), [to - from], 'int32')
    const read = to - from === out ? g : cut(g, axis, from, to)
    const readDims = dims.map((d, i) => (i === axis ? to - from : d))
    const outputs = reshape(b, o, along(to - from))
    return added(b, typed(read, readDims, elem), outputs, axis, node, { ...map, begin, end })
  })
  const type = { elem, dims: dims.map((d, i) => (i === axis ? size : d)) }
  return sums.length === 1 ? sums[0]! : b.op('Concat', sums, { axis }, { type })
}

/** `x` of dims `dims`, which holds the inputs along `axis`, read at the taps of the outputs: piece by piece of these. */
export const readAtTaps: AlongAxis = (b, x, dims, axis, node, map) => {
  const { size, out } = map
  const elem = elemOf(x)
  const count = Math.min(MOST_PIECES, out, Math.ceil(((product(dims) / size) * Math.max(size, out)) / WHOLE))
  const starts = range(count + 1).map((i) => Math.floor((i * out) / count))
  const longest = Math.ceil(out / count)
  const steps = b.initializer(`${node.id}_outputs_${axis}`, Tensor.from('int32', [longest], range(longest)))
  const counted = count > 1 ? notFolded(b, steps, x, dims) : steps
  const f = expressions(b, x)
  const parts = range(count).map((i) => {
    const length = starts[i + 1]! - starts[i]!
    const few = length === longest ? counted : b.op('Slice', [counted, b.ints([0]), b.ints([length]), b.ints([0])])
    const along = dims.map((_, k) => (k === axis ? length : 1))
    const o = reshape(b, typed(b.op('Add', [few, b.scalar(starts[i]!, 'int32')]), [length], 'int32'), along)
    const type = { elem, dims: dims.map((d, k) => (k === axis ? length : d)) }
    return tapsOf(f, placeOf(b, o, elem, node, map), map)
      .map(({ index, weight }) => {
        const whole = reshape(b, cast(b, index, 'int32', along), [length])
        const read = b.op('Gather', [x, whole], { axis }, { type })
        return weight ? f('Mul', read, weight) : read
      })
      .reduce((sum, tap) => f('Add', sum, tap))
  })
  const type = { elem, dims: dims.map((d, k) => (k === axis ? out : d)) }
  return parts.length === 1 ? typed(parts[0]!, type.dims, elem) : b.op('Concat', parts, { axis }, { type })
}

const cast = (b: Builder, v: Value, to: ElementType, dims: readonly number[]): Value =>
  b.op('Cast', [v], { to: elementTypes[to].code }, { type: { elem: to, dims } })

/** Positions in the input, computed in single precision, of outputs given as integers. */
function placeOf(b: Builder, outputs: Value, elem: ElementType, node: Node, map: AxisMap): Value {
  const single = cast(b, outputs, 'float32', outputs.dims)
  const at = position(expressions(b, single), node, single, map)
  return elem === 'float32' ? at : cast(b, at, elem, outputs.dims)
}

/** One piece of dX. */
function added(
  b: Builder,
  g: Value,
  outputs: Value,
  axis: number,
  node: Node,
  map: AxisMap & Form & Pick<Piece, 'begin' | 'end'>,
): Value {
  const { size, begin, end } = map
  const elem = elemOf(g)
  const f = expressions(b, g)
  const place = placeOf(b, outputs, elem, node, map)
  const read = map.crops ? f('Mul', g, inside(f, place, size)) : g
  // whole where nothing falls outside
  const margin = end - begin === size ? 0 : 1
  const type = { elem, dims: g.dims.map((d, i) => (i === axis ? end - begin + 2 * margin : d)) }
  let sum = zeros(b, type.dims, elem)
  for (const { index, weight } of tapsOf(f, place, map)) {
    const within = margin === 0 ? index : f('Clip', f('Sub', index, begin - 1), 0, end - begin + 1)
    const whole = cast(b, within, 'int32', outputs.dims)
    const spread = sameDims(outputs.dims, g.dims) ? whole : expand(b, whole, g.dims)
    const share = weight ? f('Mul', read, weight) : read
    sum = b.op('ScatterElements', [sum, spread, share], { axis, reduction: 'add' }, { type })
  }
  if (margin === 0) return sum
  const own = { elem, dims: g.dims.map((d, i) => (i === axis ? end - begin : d)) }
  return b.op('Slice', [sum, b.ints([1]), b.ints([end - begin + 1]), b.ints([axis])], {}, { type: own })
}

/** Equal pieces of the inputs. Positions never fall, or (a region from its end to its start) never rise. */
function piecesOf(node: Node, map: AxisMap, count: number): Piece[] {
  const { size, out } = map
  const at = (o: number): number => original(node, o, map)
  const rises = at(0) <= at(out - 1)
  // the first of the outputs from which on `holds` is true
  const first = (holds: (x: number) => boolean): number => {
    let [low, high] = [0, out]
    while (low < high) {
      const middle = Math.floor((low + high) / 2)
      if (holds(at(middle))) high = middle
      else low = middle + 1
    }
    return low
  }
  return range(count).map((i) => {
    const [begin, end] = [Math.floor((i * size) / count), Math.floor(((i + 1) * size) / count)]
    // taps are at most two positions away; those outside the input are read at its ends
    const low = begin === 0 ? -Infinity : begin - 2
    const high = end === size ? Infinity : end + 2
    const from = first((x) => (rises ? x >= low : x <= high))
    return { begin, end, from, to: first((x) => (rises ? x > high : x < low)) }
  })
}

/** 1 at outputs whose position is in the input, 0 elsewhere. */
const inside = (f: Expression, at: Value, size: number): Value =>
  f('Sub', 1, f('Sign', f('Abs', f('Sub', at, f('Clip', at, 0, size - 1)))))

function tapsOf(f: Expression, at: Value, { mode, rounding, a, excludes, size }: Form & AxisMap): Taps[] {
  if (mode === 'nearest') return [{ index: f('Clip', rounded(f, at, rounding), 0, size - 1), weight: null }]
  if (mode === 'linear') {
    const p = f('Clip', at, 0, size - 1)
    const low = f('Floor', p)
    const t = f('Sub', p, low)
    return [
      { index: low, weight: f('Sub', 1, t) },
      { index: f('Min', f('Add', low, 1), size - 1), weight: t },
    ]
  }
  const low = f('Floor', at)
  const taps = cubicTaps(f, f('Sub', at, low), a).map(({ offset, weight }) => {
    const given = f('Add', low, offset)
    const index = f('Clip', given, 0, size - 1)
    // 0 outside, 1 inside
    const known = (): Value => f('Sub', 1, f('Min', f('Abs', f('Sub', given, index)), 1))
    return { index, weight: excludes ? f('Mul', weight, known()) : weight }
  })
  if (!excludes) return taps
  const total = taps.map((t) => t.weight).reduce((sum, w) => f('Add', sum, w))
  return taps.map(({ index, weight }) => ({ index, weight: f('Div', weight, total) }))
}

function rounded(f: Expression, at: Value, rounding: string): Value {
  if (rounding === 'floor') return f('Floor', at)
  if (rounding === 'ceil') return f('Ceil', at)
  // the fraction is exact, at + 0.5 is not: 0.49999997 + 0.5 is 1 in single precision
  const low = f('Floor', at)
  const past = f('Sub', f('Sub', at, low), 0.5)
  // -1, 0 (a half) or 1; 1 where it goes up
  const sign = f('Sign', past)
  return f(
    'Add',
    low,
    f('Max', rounding === 'round_prefer_ceil' ? f('Floor', f('Add', f('Mul', sign, 0.5), 1)) : sign, 0),
  )
}
