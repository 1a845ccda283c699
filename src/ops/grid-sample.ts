/**
 * GridSample and AffineGrid. A sample at position p (per axis, in pixels) is the sum over taps of weight(p) X[index(p)]:
 *
 *   nearest  one tap at round(p)        linear  two, 1 - f and f, f = p - floor(p)
 *   cubic    four, Keys' kernel with a = -0.75
 *
 *   dX = weight(p) dY added at index(p), tap by tap        dp = sum over taps of weight'(p) <dY, X[index(p)]>
 *
 * One combination of taps at a time, so that memory does not grow with their number: 16 of them in a cubic plane. Padding:
 * border and reflection move the position (cubic: each index) into the image, zeros gives outside taps no weight. Forms:
 * GridSample 20 renamed the modes. AffineGrid is differentiated as one product with a constant grid.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { constantOf } from './support/constant-of.ts'
import { cubicTaps } from './support/cubic-kernel.ts'
import {
  defineOp,
  type GradientContext,
  noCost,
  type OpSample,
  outputSize,
  unsupportedNode,
} from './support/define-op.ts'
import { expand, product, range, reshape, typed, zeros } from './support/emit.ts'
import { substitute } from './support/rewrite.ts'
import { type Expression, elemOf, expressions } from './support/rules.ts'

/** Keys' constant, as the standard gives it. */
const A = -0.75

interface Tap {
  /** A whole number, as a float. */
  readonly index: Value
  readonly weight: Value | null
  /** Derivative of the weight by the position. */
  readonly slope: Value | null
}

interface Axis {
  readonly size: number
  readonly aligned: boolean
  readonly padding: string
}

interface Moved {
  readonly at: Value
  /** Derivative by the position before; null: 1. */
  readonly slope: Value | null
}

const times = (f: Expression, a: Value, b: Value | null): Value => (b ? f('Mul', a, b) : a)

function tapsOf(f: Expression, mode: string, position: Value, axis: Axis): Tap[] {
  if (mode === 'nearest') return [{ index: f('Round', inside(f, position, axis).at), weight: null, slope: null }]
  const { at, slope } = mode === 'cubic' ? { at: position, slope: null } : inside(f, position, axis)
  const floor = f('Floor', at)
  const t = f('Sub', at, floor)
  if (mode === 'linear') {
    const rise = slope ?? f('Add', f('Mul', t, 0), 1)
    return [
      { index: floor, weight: f('Sub', 1, t), slope: f('Neg', rise) },
      { index: f('Add', floor, 1), weight: t, slope: rise },
    ]
  }
  return cubicTaps(f, t, A).map(({ offset, weight, slope: growth }) => ({
    ...{ index: inside(f, f('Add', floor, offset), axis).at, weight, slope: growth() },
  }))
}

/** The position brought into the image, as the padding says; zeros leaves it where it is. */
function inside(f: Expression, p: Value, { size, aligned, padding }: Axis): Moved {
  if (padding === 'zeros') return { at: p, slope: null }
  if (padding === 'border') return clipped(f, p, size, null)
  const [low, span] = aligned ? [0, size - 1] : [-0.5, size]
  if (span === 0) return { at: f('Mul', p, 0), slope: f('Mul', p, 0) }
  // a triangle wave of period 2 span
  const from = f('Sub', p, low)
  const away = f('Abs', from)
  const rest = f('Sub', away, f('Mul', f('Floor', f('Div', away, 2 * span)), 2 * span))
  const back = f('Sub', rest, span)
  const folded = f('Add', f('Sub', span, f('Abs', back)), low)
  return clipped(f, folded, size, f('Neg', f('Mul', f('Sign', back), f('Sign', from))))
}

function clipped(f: Expression, p: Value, size: number, slope: Value | null): Moved {
  const at = f('Clip', p, 0, size - 1)
  return { at, slope: times(f, holds(f, at, p), slope) }
}

/** 1 where both are equal, else 0. */
function holds(f: Expression, a: Value, c: Value): Value {
  const equal = f('Equal', a, c)
  return a.graph.append().op('Cast', [equal], { to: elementTypes[elemOf(a)].code })
}

function gradient({ node, dy: [dy], needs, b }: GradientContext): (Value | null)[] {
  if (!dy) return []
  const [x, grid] = [node.input(0), node.input(1)]
  const [batch, channels, ...sizes] = x.dims as [number, number, ...number[]]
  const rank = sizes.length
  const places = product(grid.dims.slice(1, -1))
  const elem = elemOf(x)
  const f = expressions(b, x)
  const aligned = node.int('align_corners', 0) === 1
  const padding = node.string('padding_mode', 'zeros')
  const mode = node.string('mode', 'linear')
  const [line, lines] = [
    [batch, 1, places],
    [batch, channels, places],
  ]
  const coordinates = b.ops('Split', [grid, b.ints(Array<number>(rank).fill(1))], rank, { axis: rank + 1 })
  const stretch = (size: number): number => (aligned ? size - 1 : size) / 2
  const axes = sizes.map((size, i) => {
    // the grid's last number is the first axis
    const g = typed(reshape(b, coordinates[rank - 1 - i]!, line), line, elem)
    const scaled = f('Mul', f('Add', g, 1), stretch(size))
    return tapsOf(f, mode, aligned ? scaled : f('Sub', scaled, 0.5), { size, aligned, padding })
  })
  const g = reshape(b, dy, lines)
  const flat = reshape(b, x, [batch, channels, product(sizes)])
  const moves = needs[1] === true && mode !== 'nearest'
  let dX: Value | null = needs[0] ? zeros(b, flat.dims, elem) : null
  const dp: (Value | null)[] = sizes.map(() => null)
  const combinations = axes.reduce<Tap[][]>((all, taps) => all.flatMap((c) => taps.map((t) => [...c, t])), [[]])
  for (const taps of combinations) {
    const { index, valid } = place(b, f, taps, sizes)
    const at = expand(b, typed(index, line, 'int32'), lines)
    const weights = taps.map((t) => t.weight)
    if (dX) {
      const share = f(
        'Mul',
        g,
        weights.reduce<Value>((v, w) => times(f, v, w), valid),
      )
      dX = b.op('ScatterElements', [dX, at, share], { axis: 2, reduction: 'add' })
    }
    if (!moves) continue
    const read = f('Mul', g, b.op('GatherElements', [flat, at], { axis: 2 }))
    const along = f('Mul', b.op('ReduceSum', [read, b.ints([1])], { keepdims: 1 }), valid)
    taps.forEach(({ slope }, i) => {
      const others = weights.filter((_, k) => k !== i)
      const term = others.reduce<Value>((v, w) => times(f, v, w), times(f, along, slope))
      dp[i] = dp[i] ? f('Add', dp[i], term) : term
    })
  }
  const column = [...grid.dims.slice(0, -1), 1]
  const dGrid = moves
    ? b.op('Concat', dp.map((v, i) => reshape(b, f('Mul', v!, stretch(sizes[i]!)), column)).reverse(), { axis: -1 })
    : null
  return [dX && reshape(b, dX, x.dims), dGrid]
}

/** The flat position of a combination of taps, and 1 where it is in the image, else 0. */
function place(
  b: Builder,
  f: Expression,
  taps: readonly Tap[],
  sizes: readonly number[],
): { index: Value; valid: Value } {
  let at: Value | null = null
  let valid: Value | null = null
  taps.forEach(({ index }, i) => {
    const bounded = f('Clip', index, 0, sizes[i]! - 1)
    const whole = b.op('Cast', [bounded], { to: elementTypes.int32.code })
    at = at ? b.op('Add', [b.op('Mul', [at, b.scalar(sizes[i]!, 'int32')]), whole]) : whole
    valid = times(f, holds(f, bounded, index), valid)
  })
  return { index: at!, valid: valid! }
}

function decomposeGrid(node: Node): void {
  const b = node.graph.before(node)
  const theta = node.input(0)
  const size = constantOf(node.inputs[1])?.toNumbers()
  if (!size) throw unsupportedNode(node, 'no gradient: its size is computed', 'run fold-constants')
  const spatial = Array.from(size).slice(2)
  const aligned = node.int('align_corners', 0) === 1
  const line = (n: number): number[] =>
    range(n).map((i) => (aligned ? (n === 1 ? -1 : (2 * i) / (n - 1) - 1) : (2 * i + 1) / n - 1))
  const rank = spatial.length
  const places = product(spatial)
  // x, the last axis, comes first; then the 1 that the shift is multiplied with
  const base = new Float64Array(places * (rank + 1)).fill(1)
  spatial.map(line).forEach((values, i) => {
    const inner = product(spatial.slice(i + 1))
    for (let p = 0; p < places; p++)
      base[p * (rank + 1) + rank - 1 - i] = values[Math.floor(p / inner) % values.length]!
  })
  const left = b.initializer('base_grid', Tensor.from(elemOf(theta), [places, rank + 1], base))
  // one product for all images
  const batch = theta.dims[0]!
  const right = b.op('Reshape', [b.op('Transpose', [theta], { perm: [2, 0, 1] }), b.ints([rank + 1, batch * rank])])
  const y = b.op('Reshape', [b.op('MatMul', [left, right]), b.ints([places, batch, rank])])
  substitute(node, [reshape(b, b.op('Transpose', [y], { perm: [1, 0, 2] }), [batch, ...spatial, rank])])
}

const image = { dims: [1, 2, 3, 4] }
const grid = { dims: [1, 2, 3, 2], range: [-0.93, 0.97] as const }
const wide = { dims: [1, 2, 3, 2], range: [-1.9, 1.8] as const }
// between the pixels of a 4x4 image, where a linear sample has no kink
const between = {
  dims: [1, 2, 3, 2],
  values: [-0.55, 0.05, 0.4, -0.45, -0.1, 0.55, -0.6, -0.4, 0.45, 0.0, 0.1, -0.575],
}
const ints = (...values: number[]) => ({ dims: [values.length], type: 'int64' as const, values })
const sample = (name: string, inputs: OpSample['inputs'], attributes: OpSample['attributes'] = {}): OpSample => ({
  ...{ name, inputs, attributes },
})

export const gridSample = defineOp({
  op: 'GridSample',
  since: [16, 20, 22],
  gradient,
  cost: (node) => ({ ...noCost, mults: 4 * outputSize(node), adds: 3 * outputSize(node) }),
  upgrades: [
    {
      to: 20,
      apply(node) {
        const mode = node.string('mode', 'bilinear')
        node.setAttribute('mode', { bilinear: 'linear', bicubic: 'cubic' }[mode] ?? mode)
      },
    },
  ],
  samples: [
    sample('linear, zeros', [image, wide]),
    sample('linear, border', [image, wide], { padding_mode: 'border' }),
    sample('linear, reflection, aligned', [image, wide], { padding_mode: 'reflection', align_corners: 1 }),
    sample('nearest, reflection', [image, wide], { mode: 'nearest', padding_mode: 'reflection' }),
    sample('cubic, border', [image, grid], { mode: 'cubic', padding_mode: 'border' }),
    sample('cubic, zeros, aligned', [image, wide], { mode: 'cubic', align_corners: 1 }),
    sample('volume', [{ dims: [1, 1, 2, 3, 2] }, { dims: [1, 2, 1, 2, 3], range: [-0.93, 0.97] }]),
    { name: 'opset 16', inputs: [{ dims: [1, 1, 4, 4] }, grid], attributes: { mode: 'bicubic' }, opset: 16 },
    { name: 'opset 16, default mode', inputs: [{ dims: [1, 1, 4, 4] }, between], opset: 16 },
  ],
})

export const affineGrid = defineOp({
  op: 'AffineGrid',
  since: [20],
  gradient: 'decompose',
  decompose: decomposeGrid,
  cost: (node) => ({ ...noCost, mults: 3 * outputSize(node), adds: 2 * outputSize(node) }),
  samples: [
    sample('plane', [{ dims: [2, 2, 3] }, ints(2, 1, 3, 4)]),
    sample('volume, aligned', [{ dims: [1, 3, 4] }, ints(1, 1, 2, 3, 2)], { align_corners: 1 }),
  ],
})
