/**
 * GridSample and AffineGrid, differentiated as what they are made of. A sample at position p (per axis, in pixels) is the
 * sum over taps of weight(p) X[index(p)]:
 *
 *   nearest  one tap at round(p)        linear  two, 1 - f and f, f = p - floor(p)
 *   cubic    four, Keys' kernel with a = -0.75
 *
 * Padding: border and reflection move the position (cubic: each index) into the image, zeros gives outside taps no
 * weight. Forms: GridSample 20 renamed the modes. AffineGrid is one product with a constant grid.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { defineOp, noCost, type OpSample, outputSize, unsupportedNode } from './define-op.ts'
import { expand, product, range, reshape, typed } from './emit.ts'
import { substitute } from './rewrite.ts'
import { constantOf, type Expression, elemOf, expressions } from './rules.ts'

/** Keys' constant, as the standard gives it. */
const A = -0.75

interface Tap {
  /** A whole number, as a float. */
  readonly index: Value
  readonly weight: Value | null
}

interface Axis {
  readonly size: number
  readonly aligned: boolean
  readonly padding: string
}

function tapsOf(f: Expression, mode: string, position: Value, axis: Axis): Tap[] {
  if (mode === 'nearest') return [{ index: f('Round', inside(f, position, axis)), weight: null }]
  const p = mode === 'cubic' ? position : inside(f, position, axis)
  const floor = f('Floor', p)
  const t = f('Sub', p, floor)
  if (mode === 'linear')
    return [
      { index: floor, weight: f('Sub', 1, t) },
      { index: f('Add', floor, 1), weight: t },
    ]
  return [-1, 0, 1, 2].map((k) => {
    const distance = k <= 0 ? f('Sub', t, k) : f('Sub', k, t)
    return { index: inside(f, f('Add', floor, k), axis), weight: cubicWeight(f, distance, k === 0 || k === 1) }
  })
}

/** Of a tap at distance d: near, (a+2) d^3 - (a+3) d^2 + 1; far, a d^3 - 5a d^2 + 8a d - 4a. */
function cubicWeight(f: Expression, d: Value, near: boolean): Value {
  const horner = ([first, ...rest]: readonly [number, ...number[]]): Value =>
    rest.reduce<Value | null>((v, k) => f('Add', v ? f('Mul', v, d) : f('Mul', d, first), k), null)!
  return near ? horner([A + 2, -(A + 3), 0, 1]) : horner([A, -5 * A, 8 * A, -4 * A])
}

/** The position brought into the image, as the padding says; zeros leaves it where it is. */
function inside(f: Expression, p: Value, { size, aligned, padding }: Axis): Value {
  if (padding === 'zeros') return p
  if (padding === 'border') return f('Clip', p, 0, size - 1)
  const [low, span] = aligned ? [0, size - 1] : [-0.5, size]
  if (span === 0) return f('Mul', p, 0)
  // a triangle wave of period 2 span
  const away = f('Abs', f('Sub', p, low))
  const rest = f('Sub', away, f('Mul', f('Floor', f('Div', away, 2 * span)), 2 * span))
  const folded = f('Add', f('Sub', span, f('Abs', f('Sub', rest, span))), low)
  return f('Clip', folded, 0, size - 1)
}

function decomposeSample(node: Node): void {
  const b = node.graph.before(node)
  const [x, grid] = [node.input(0), node.input(1)]
  const [batch, channels, ...sizes] = x.dims as [number, number, ...number[]]
  const rank = sizes.length
  const places = product(grid.dims.slice(1, -1))
  const f = expressions(b, x)
  const aligned = node.int('align_corners', 0) === 1
  const padding = node.string('padding_mode', 'zeros')
  const mode = node.string('mode', 'linear')
  const coordinates = b.ops('Split', [grid, b.ints(Array<number>(rank).fill(1))], rank, { axis: rank + 1 })
  const axes = sizes.map((size, i) => {
    // the grid's last number is the first axis
    const g = typed(reshape(b, coordinates[rank - 1 - i]!, [batch, 1, places]), [batch, 1, places], elemOf(x))
    const scaled = f('Mul', f('Add', g, 1), (aligned ? size - 1 : size) / 2)
    const position = aligned ? scaled : f('Sub', scaled, 0.5)
    return tapsOf(f, mode, position, { size, aligned, padding })
  })
  const flat = reshape(b, x, [batch, channels, product(sizes)])
  const combinations = axes.reduce<Tap[][]>((all, taps) => all.flatMap((c) => taps.map((t) => [...c, t])), [[]])
  const terms = combinations.map((taps) => termOf(b, f, { taps, sizes, flat, places }))
  const sum = terms.length === 1 ? terms[0]! : b.op('Sum', terms)
  substitute(node, [reshape(b, sum, [batch, channels, ...grid.dims.slice(1, -1)])])
}

interface Term {
  readonly taps: readonly Tap[]
  readonly sizes: readonly number[]
  readonly flat: Value
  readonly places: number
}

/** One combination of taps: weight times the element there, 0 outside. */
function termOf(b: Builder, f: Expression, { taps, sizes, flat, places }: Term): Value {
  const [batch, channels] = flat.dims as [number, number]
  const factors: Value[] = []
  let at: Value | null = null
  taps.forEach(({ index, weight }, i) => {
    const size = sizes[i]!
    const clipped = f('Clip', index, 0, size - 1)
    const valid = b.op('Cast', [f('Equal', clipped, index)], { to: elementTypes[elemOf(flat)].code })
    factors.push(...(weight ? [valid, weight] : [valid]))
    at = at ? f('Add', f('Mul', at, size), clipped) : clipped
  })
  const whole = b.op('Cast', [at], { to: elementTypes.int64.code })
  const lines = [batch, channels, places]
  const read = b.op('GatherElements', [flat, expand(b, typed(whole, [batch, 1, places], 'int64'), lines)], { axis: 2 })
  return factors.reduce<Value>((v, factor) => f('Mul', v, factor), read)
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
  const points = spatial
    .map(line)
    .reduce<number[][]>((all, values) => all.flatMap((p) => values.map((v) => [...p, v])), [[]])
  // x, the last axis, comes first; then the 1 that the shift is multiplied with
  const base = points.flatMap((p) => [...p.reverse(), 1])
  const rank = spatial.length
  const left = b.initializer('base_grid', Tensor.from(elemOf(theta), [1, points.length, rank + 1], base))
  const right = b.op('Transpose', [theta], { perm: [0, 2, 1] })
  substitute(node, [reshape(b, b.op('MatMul', [left, right]), [theta.dims[0]!, ...spatial, rank])])
}

const image = { dims: [1, 2, 3, 4] }
const grid = { dims: [1, 2, 3, 2], range: [-0.93, 0.97] as const }
const wide = { dims: [1, 2, 3, 2], range: [-1.9, 1.8] as const }
const ints = (...values: number[]) => ({ dims: [values.length], type: 'int64' as const, values })
const sample = (name: string, inputs: OpSample['inputs'], attributes: OpSample['attributes'] = {}): OpSample => ({
  ...{ name, inputs, attributes },
})

export const gridSample = defineOp({
  op: 'GridSample',
  since: [16, 20, 22],
  gradient: 'decompose',
  decompose: decomposeSample,
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
    { name: 'opset 16, default mode', inputs: [{ dims: [1, 1, 4, 4] }, grid], opset: 16 },
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
