/**
 * Pad.
 *
 *   constant: dX = dY cropped by the pads (a negative pad, which crops, is padded back); dvalue = sum dY - sum dX
 *   edge, reflect, wrap: along each padded axis Y consists of pieces of X, each the way it is, backwards, or one
 *   position over and over, so dX = the sum of the pieces of dY, turned back and put in their places
 *
 * Pads and axes must be constants. Forms: an attribute `paddings`/`pads` below opset 11, an input since; `axes` since 18.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, type GradientContext, noCost, unsupportedNode } from './support/define-op.ts'
import { constantNumbers, range, reshape, sumAxes } from './support/emit.ts'
import { intsToInput } from './support/rewrite.ts'
import { axisFromFront, elemOf, scalarOf } from './support/rules.ts'

/** Pads at the begin and end of every axis. */
function padsOf(node: Node): { begin: number[]; end: number[] } {
  const rank = node.input(0).dims.length
  const pads = constantNumbers(node, 1, 'pads') ?? []
  const axes = (constantNumbers(node, 3, 'axes') ?? range(rank)).map((a) => axisFromFront(a, rank))
  const begin = Array<number>(rank).fill(0)
  const end = Array<number>(rank).fill(0)
  axes.forEach((axis, i) => {
    begin[axis] = pads[i]!
    end[axis] = pads[i + axes.length]!
  })
  return { begin, end }
}

/** The position of X (size n) that position `o` of Y copies. */
function source(mode: string, o: number, begin: number, n: number): number {
  const i = o - begin
  if (mode === 'edge') return Math.min(Math.max(i, 0), n - 1)
  if (mode === 'wrap') return ((i % n) + n) % n
  if (n === 1) return 0
  const period = 2 * (n - 1)
  const at = ((i % period) + period) % period
  return at < n ? at : period - at
}

/** Positions start .. start + count - 1 of Y copy those of X from `from` on: forwards, backwards, or that one alone. */
interface Piece {
  readonly start: number
  count: number
  readonly from: number
  step: -1 | 0 | 1
}

interface Padding {
  readonly mode: string
  /** Of Y. */
  readonly dims: readonly number[]
  readonly axis: number
  readonly begin: number
  /** Positions of X along the axis. */
  readonly n: number
}

/** The gradient of X along one axis, of what arrives at Y. */
function unpadded(b: Builder, g: Value, { mode, dims, axis, begin, n }: Padding): Value {
  const pieces = piecesOf(mode, begin, dims[axis]!, n)
  if (pieces.length <= MANY_PIECES) return piecesAdded(b, g, dims, axis, n, pieces)
  const period = mode === 'wrap' ? n : 2 * (n - 1)
  const once = dims.map((d, i) => (i === axis ? period : d))
  return piecesAdded(b, onePeriod(b, g, dims, axis, begin, period), once, axis, n, piecesOf(mode, 0, period, n))
}

/** `v` of dims `dims` between zeros along an axis. */
function placed(b: Builder, v: Value, dims: readonly number[], axis: number, low: number, high: number): Value {
  const pads = [low, high].flatMap((p) => dims.map((_, i) => (i === axis ? p : 0)))
  const type = { elem: elemOf(v), dims: dims.map((d, i) => (i === axis ? low + d + high : d)) }
  return b.op('Pad', [v, b.ints(pads)], {}, { type })
}

/** A pad of many times the tensor's own length is added up period by period first. */
const MANY_PIECES = 8

/** Sums over all periods of a Y that repeats itself along `axis`; position 0 is that of X. */
function onePeriod(b: Builder, g: Value, dims: readonly number[], axis: number, begin: number, period: number): Value {
  const ahead = -begin - Math.floor(-begin / period) * period
  const periods = Math.ceil((ahead + dims[axis]!) / period)
  const whole = placed(b, g, dims, axis, ahead, periods * period - ahead - dims[axis]!)
  const [before, after] = [dims.slice(0, axis), dims.slice(axis + 1)]
  const apart = reshape(b, whole, [...before, periods, period, ...after])
  return sumAxes(b, apart, [...before, periods, period, ...after], [axis], false)
}

function piecesOf(mode: string, begin: number, out: number, n: number): Piece[] {
  const pieces: Piece[] = []
  let piece: Piece | null = null
  for (let o = 0; o < out; o++) {
    const at = source(mode, o, begin, n)
    if (piece?.count === 1 && Math.abs(at - piece.from) <= 1) piece.step = (at - piece.from) as -1 | 0 | 1
    if (piece && at === piece.from + piece.count * piece.step && (piece.count > 1 || Math.abs(at - piece.from) <= 1))
      piece.count++
    else {
      piece = { start: o, count: 1, from: at, step: 1 }
      pieces.push(piece)
    }
  }
  return pieces
}

/** `g` of dims `dims`, its pieces along `axis` turned back and added up to `n` positions. */
function piecesAdded(
  b: Builder,
  g: Value,
  dims: readonly number[],
  axis: number,
  n: number,
  pieces: readonly Piece[],
): Value {
  const elem = elemOf(g)
  const type = (size: number) => ({ elem, dims: dims.map((d, i) => (i === axis ? size : d)) })
  const terms = pieces.map(({ start, count, from, step }) => {
    const [first, last, by] = step < 0 ? [start + count - 1, start - 1 - dims[axis]!, -1] : [start, start + count, 1]
    const cut = b.op(
      'Slice',
      [g, b.ints([first]), b.ints([last]), b.ints([axis]), b.ints([by])],
      {},
      { type: type(count) },
    )
    const width = step === 0 ? 1 : count
    const own = width === count ? cut : b.op('ReduceSum', [cut, b.ints([axis])], { keepdims: 1 }, { type: type(1) })
    const low = step < 0 ? from - count + 1 : from
    return width === n ? own : placed(b, own, type(width).dims, axis, low, n - width - low)
  })
  return terms.reduce((sum, t) => b.op('Add', [sum, t], {}, { type: type(n) }))
}

function gradient({ node, dy, needs, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const { begin, end } = padsOf(node)
  const mode = node.string('mode', 'constant')
  const x = node.input(0).dims
  if (mode !== 'constant') {
    if (!['edge', 'reflect', 'wrap'].includes(mode)) throw unsupportedNode(node, `no gradient: unknown mode '${mode}'`)
    let dims: readonly number[] = node.output.dims
    let sum = g
    x.forEach((n, axis) => {
      if (begin[axis] === 0 && end[axis] === 0) return
      // what is cropped is cropped first
      const [low, high] = [Math.max(0, -begin[axis]!), Math.max(0, -end[axis]!)]
      const kept = dims.map((d, i) => (i === axis ? n - low - high : d))
      sum = unpadded(b, sum, { mode, dims, axis, begin: Math.max(0, begin[axis]!), n: kept[axis]! })
      if (low + high > 0) sum = placed(b, sum, kept, axis, low, high)
      dims = dims.map((d, i) => (i === axis ? n : d))
    })
    return [sum]
  }
  const axes = range(x.length).filter((i) => begin[i] !== 0 || end[i] !== 0)
  const crops = [...begin, ...end].every((p) => p >= 0)
  const dX =
    axes.length === 0
      ? g
      : crops
        ? b.op('Slice', [
            g,
            b.ints(axes.map((i) => begin[i]!)),
            b.ints(axes.map((i) => begin[i]! + x[i]!)),
            b.ints(axes),
          ])
        : b.op('Pad', [g, b.ints([...begin, ...end].map((p) => -p))])
  if (!needs[2]) return [dX]
  const total = (v: Value): Value => b.op('ReduceSum', [v], { keepdims: 0 })
  return [dX, null, reshape(b, b.op('Sub', [total(g), total(dX)]), node.input(2).dims)]
}

const ints = (values: readonly number[]) => ({ dims: [values.length], type: 'int64' as const, values })

/** Whether batch and channels are left alone, as far as constants tell. */
function spatialOnly(node: Node): boolean {
  const pads = constantOf(node.inputs[1])?.toNumbers()
  if (!pads || node.inputs[3]) return false
  const rank = pads.length / 2
  return [0, 1, rank, rank + 1].every((i) => pads[i] === 0)
}

/** Whether it pads with a number and not with parts of its input. */
const fills = (node: Node): boolean => node.string('mode', 'constant') === 'constant'

/** The number; null where it is computed. */
const filling = (node: Node): number | null => (node.inputs[2] ? scalarOf(node.inputs[2]) : node.float('value', 0))

export const pad = defineOp({
  op: 'Pad',
  half: true,
  channels: (node) => (spatialOnly(node) ? 'same' : null),
  homogeneous: (node) => (fills(node) && filling(node) !== 0 ? null : 'channel'),
  zerosAlong(node, axis) {
    const pads = constantOf(node.inputs[1])?.toNumbers() ?? (node.inputs[1] ? null : node.ints('pads', []))
    if (!pads || node.inputs[3] || !fills(node) || filling(node) !== 0) return null
    const [before, after] = [pads[axis] ?? 0, pads[axis + pads.length / 2] ?? 0]
    return before >= 0 && after >= 0 ? [before, after] : null
  },
  since: [2, 11, 13, 18, 19, 21, 23, 24, 25],
  gradient,
  cost: () => noCost,
  nonNegative: (node, input) => input(0) && (!node.inputs[2] || input(2)),
  upgrades: [
    {
      to: 11,
      apply: (node) => {
        const value = node.float('value', 0)
        node.setAttribute('value', null)
        intsToInput(node, 'pads', 1)
        // the type of the data may not be known: left out, the value is zero in every type
        if (value === 0) return
        const elem = elemOf(node.input(0))
        node.setInput(2, node.graph.before(node).scalar(value, elem))
      },
    },
  ],
  samples: [
    { name: 'zeros', inputs: [{ dims: [1, 2, 3, 3] }, ints([0, 0, 1, 1, 0, 0, 2, 0])] },
    { name: 'a value', inputs: [{ dims: [2, 3] }, ints([1, 0, 0, 2]), { dims: [], values: [0.5] }] },
    { name: 'negative pads', inputs: [{ dims: [4, 5] }, ints([-1, 1, 0, -2])] },
    { name: 'axes', inputs: [{ dims: [2, 3, 4] }, ints([1, 2]), null, ints([-1])] },
    {
      name: 'reflect',
      inputs: [{ dims: [1, 2, 4, 5] }, ints([0, 0, 2, 1, 0, 0, 1, 3])],
      attributes: { mode: 'reflect' },
    },
    { name: 'edge', inputs: [{ dims: [2, 3, 4] }, ints([1, 0, 2, 0, 1, 1])], attributes: { mode: 'edge' } },
    { name: 'wrap', inputs: [{ dims: [2, 4] }, ints([0, 2, 0, 1])], attributes: { mode: 'wrap' } },
    ...['reflect', 'edge', 'wrap'].map((mode) => ({
      name: `${mode} of a long line`,
      inputs: [{ dims: [1, 300] }, ints([0, 20, 0, 7])],
      attributes: { mode },
    })),
    {
      name: 'edge, cropped and padded',
      inputs: [{ dims: [5, 3] }, ints([-1, 2, 1, -1])],
      attributes: { mode: 'edge' },
    },
    { name: 'opset 7', inputs: [{ dims: [2, 3] }], attributes: { pads: [0, 1, 1, 0] }, opset: 7 },
    {
      name: 'opset 10 with a value',
      inputs: [{ dims: [2, 3] }],
      attributes: { pads: [0, 1, 1, 0], value: { kind: 'float', value: -0.25 } },
      opset: 10,
    },
  ],
})
