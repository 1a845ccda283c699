/**
 * Slice: Y = X[start:end:step] along some axes.
 *
 *   dX = dY put back at the positions it was read from, zeros elsewhere: reversed where the step is negative, spread
 *   by step - 1 zeros where it is beyond 1, then padded. Pad with negative pads crops, which takes off the zeros that
 *   come after the last element.
 *
 * Starts, ends, axes and steps must be constants. Forms: attributes below opset 10, inputs since.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, type GradientContext, noCost } from './support/define-op.ts'
import { constantNumbers, range, reshape, zeros } from './support/emit.ts'
import { intsToInput } from './support/rewrite.ts'
import { axisFromFront, elemOf } from './support/rules.ts'

interface Cut {
  readonly axis: number
  /** Position of the first element read. */
  readonly start: number
  readonly step: number
}

function cutsOf(node: Node): Cut[] {
  const dims = node.input(0).dims
  const starts = constantNumbers(node, 1, 'starts') ?? []
  const axes = constantNumbers(node, 3, 'axes') ?? range(starts.length)
  const steps = constantNumbers(node, 4, 'steps') ?? starts.map(() => 1)
  return starts.map((s, i) => {
    const axis = axisFromFront(axes[i]!, dims.length)
    const size = dims[axis]!
    const step = steps[i]!
    const from = s < 0 ? s + size : s
    return { axis, step, start: Math.min(Math.max(from, 0), step < 0 ? size - 1 : size) }
  })
}

function gradient({ node, dy, b }: GradientContext): (Value | null)[] {
  let g = dy[0]
  if (!g) return []
  const cuts = cutsOf(node)
  const x = node.input(0).dims
  const y = [...node.output.dims]
  const back = cuts.filter((c) => c.step < 0)
  if (back.length > 0)
    g = reversed(
      b,
      g,
      back.map((c) => c.axis),
    )
  const begin = x.map(() => 0)
  const end = x.map(() => 0)
  for (const c of cuts) {
    const step = Math.abs(c.step)
    const n = y[c.axis]!
    if (step > 1) {
      g = spread(b, g, y, c.axis, step)
      y[c.axis] = n * step
    }
    begin[c.axis] = c.step > 0 ? c.start : c.start - (n - 1) * step
    end[c.axis] = x[c.axis]! - begin[c.axis]! - y[c.axis]!
  }
  return [[...begin, ...end].every((p) => p === 0) ? g : b.op('Pad', [g, b.ints([...begin, ...end])])]
}

/** `v` back to front along `axes`. */
export function reversed(b: Builder, v: Value, axes: readonly number[]): Value {
  const all = (value: number): Value => b.ints(axes.map(() => value))
  return b.op('Slice', [v, all(-1), all(-(2 ** 31)), b.ints(axes), all(-1)], {}, { type: v.type })
}

/** step - 1 zeros after every position along `axis`. */
function spread(b: Builder, v: Value, dims: readonly number[], axis: number, step: number): Value {
  const open = [...dims.slice(0, axis + 1), 1, ...dims.slice(axis + 1)]
  // put together, not padded: Pad takes six times as long
  const gap = open.map((d, i) => (i === axis + 1 ? step - 1 : d))
  const padded = b.op('Concat', [reshape(b, v, open), zeros(b, gap, elemOf(v))], { axis: axis + 1 })
  return reshape(
    b,
    padded,
    dims.map((d, i) => (i === axis ? d * step : d)),
  )
}

const ints = (values: readonly number[]) => ({ dims: [values.length], type: 'int64' as const, values })

/** An input, an attribute below opset 10, or what stands for neither; null where it is computed. */
function given(node: Node, i: number, attribute: string, none: readonly number[] = []): readonly number[] | null {
  if (!node.inputs[i]) return node.ints(attribute, none)
  const numbers = constantOf(node.inputs[i])?.toNumbers()
  return numbers ? Array.from(numbers) : null
}

function takesAlong(node: Node, axis: number, size: number): number[][] | null {
  const rank = node.input(0).type?.dims?.length
  const [starts, ends] = [given(node, 1, 'starts'), given(node, 2, 'ends')]
  const axes = given(node, 3, 'axes', range(starts?.length ?? 0))
  const steps = given(
    node,
    4,
    'steps',
    starts?.map(() => 1),
  )
  if (rank === undefined || !starts || !ends || !axes || !steps) return null
  const at = axes.findIndex((a) => axisFromFront(a, rank) === axis)
  if (at < 0) return [range(size)]
  return steps[at] === 1 ? [range(size).slice(starts[at], ends[at])] : null
}

export const slice = defineOp({
  op: 'Slice',
  half: true,
  since: [1, 10, 11, 13],
  gradient,
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  picks(node, length) {
    const [start, end, axis, step] = [1, 2, 3, 4].map((i) => constantOf(node.inputs[i])?.toNumbers())
    if (start?.length !== 1 || end?.length !== 1 || (node.inputs[3] && axis?.[0] !== 0)) return null
    if (node.inputs[4] && step?.[0] !== 1) return null
    return range(length).slice(start[0], end[0])
  },
  takesAlong,
  upgrades: [
    {
      to: 10,
      apply: (node) => {
        intsToInput(node, 'starts', 1)
        intsToInput(node, 'ends', 2)
        intsToInput(node, 'axes', 3)
      },
    },
  ],
  samples: [
    { name: 'two axes', inputs: [{ dims: [4, 5] }, ints([1, 0]), ints([3, 4])] },
    { name: 'negative, beyond the end', inputs: [{ dims: [4, 5] }, ints([-3]), ints([100]), ints([-1])] },
    { name: 'step 2', inputs: [{ dims: [2, 7] }, ints([1]), ints([7]), ints([1]), ints([2])] },
    { name: 'step 3 leaves a rest', inputs: [{ dims: [8, 2] }, ints([0]), ints([8]), ints([0]), ints([3])] },
    { name: 'reversed', inputs: [{ dims: [4, 3] }, ints([-1]), ints([-100]), ints([0]), ints([-1])] },
    { name: 'step -2 and 2', inputs: [{ dims: [7, 6] }, ints([5, 1]), ints([0, 6]), ints([0, 1]), ints([-2, 2])] },
    { name: 'all of it', inputs: [{ dims: [2, 3] }, ints([0]), ints([9])] },
    { name: 'opset 7', inputs: [{ dims: [4, 5] }], attributes: { starts: [1], ends: [4], axes: [1] }, opset: 7 },
    { name: 'opset 9, no axes', inputs: [{ dims: [4, 5] }], attributes: { starts: [1, 0], ends: [4, -1] }, opset: 9 },
  ],
})
