/**
 * Pad.
 *
 *   constant: dX = dY cropped by the pads (a negative pad, which crops, is padded back); dvalue = sum dY - sum dX
 *   edge, reflect, wrap: every position of Y copies one of X, so dX_i = sum of dY_o over o that copy i, along each
 *   padded axis (axis-taps.ts).
 *
 * Pads and axes must be constants. Forms: an attribute `paddings`/`pads` below opset 11, an input since; `axes` since 18.
 */
import type { Node, Value } from '../graph/graph.ts'
import { axisTaps, transposedAlong } from './axis-taps.ts'
import { defineOp, type GradientContext, noCost, unsupportedNode } from './define-op.ts'
import { constantNumbers, range, reshape } from './emit.ts'
import { intsToInput } from './rewrite.ts'
import { axisFromFront, constantOf, elemOf } from './rules.ts'

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
      const out = dims[axis]!
      if (begin[axis] === 0 && end[axis] === 0) return
      const taps = axisTaps(n, out, (o) => [[source(mode, o, begin[axis]!, n), 1]])
      sum = transposedAlong(b, sum, dims, axis, taps, `${node.id}_pad_${axis}`)
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

export const pad = defineOp({
  op: 'Pad',
  half: true,
  channels: (node) => (spatialOnly(node) ? 'same' : null),
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
