/**
 * Concat and Split, each the other's gradient.
 *
 *   Concat: dX_i = the part of dY along the axis that X_i filled
 *   Split:  dX   = the dY_i side by side; zeros where an output has no gradient
 *
 * Forms of Split: sizes are an attribute below opset 13 and an input since; since 18 a Split without sizes says
 * `num_outputs`.
 */
import type { Node, Value } from '../graph/graph.ts'
import { defineOp, type GradientContext, noCost } from './support/define-op.ts'
import { range, zeros } from './support/emit.ts'
import { intsToInput } from './support/rewrite.ts'
import { axisFromFront, elemOf } from './support/rules.ts'

const axisOf = (node: Node): number => axisFromFront(node.int('axis', 0), node.input(0).dims.length)

function concatGradient({ node, dy, needs, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  if (node.inputs.length === 1) return [g]
  const axis = axisOf(node)
  const sizes = node.inputs.map((_, i) => node.input(i).dims[axis]!)
  // one Split writes every part; slices write only the parts that are wanted
  if (needs.every((n) => n)) return b.ops('Split', [g, b.ints(sizes)], sizes.length, { axis })
  const out: (Value | null)[] = []
  let start = 0
  for (let i = 0; i < sizes.length; i++) {
    const end = start + sizes[i]!
    out.push(needs[i] ? b.op('Slice', [g, b.ints([start]), b.ints([end]), b.ints([axis])]) : null)
    start = end
  }
  return out
}

export const concat = defineOp({
  op: 'Concat',
  homogeneous: () => 'joint',
  joinsAlong: (node, rank) => axisFromFront(node.int('axis', 0), rank),
  integerKernel: 'one',
  half: true,
  channels: (node) => (node.int('axis', 0) === 1 ? 'joined' : null),
  since: [4, 11, 13],
  gradient: concatGradient,
  cost: () => noCost,
  nonNegative: (node, input) => node.inputs.every((_, i) => input(i)),
  samples: [
    { name: 'channels', inputs: [{ dims: [2, 3, 2, 2] }, { dims: [2, 1, 2, 2] }], attributes: { axis: 1 } },
    {
      name: 'last axis of three',
      inputs: [{ dims: [2, 1] }, { dims: [2, 3] }, { dims: [2, 2] }],
      attributes: { axis: -1 },
    },
    { name: 'one input', inputs: [{ dims: [2, 3] }], attributes: { axis: 0 } },
    { name: 'opset 7', inputs: [{ dims: [2, 1] }, { dims: [2, 3] }], attributes: { axis: 1 }, opset: 7 },
  ],
})

function splitGradient({ node, dy, b }: GradientContext): (Value | null)[] {
  const x = node.input(0)
  const axis = axisOf(node)
  const elem = elemOf(x)
  const present = node.outputs.flatMap((v, i) => (v ? [{ v, g: dy[i] ?? null }] : []))
  const parts: Value[] = []
  let missing = 0
  const fill = (): void => {
    if (missing > 0)
      parts.push(
        zeros(
          b,
          x.dims.map((d, i) => (i === axis ? missing : d)),
          elem,
        ),
      )
    missing = 0
  }
  for (const { v, g } of present) {
    if (!g) missing += v.dims[axis]!
    else {
      fill()
      parts.push(g)
    }
  }
  if (parts.length === 0) return []
  fill()
  return [parts.length === 1 ? parts[0]! : b.op('Concat', parts, { axis })]
}

function takesAlong(node: Node, axis: number, size: number): number[][] | null {
  const rank = node.input(0).type?.dims?.length
  if (rank === undefined) return null
  const split = axisFromFront(node.int('axis', 0), rank)
  const parts: number[][] = []
  let start = 0
  for (const v of node.outputs) {
    const count = axis === split ? v?.type?.dims?.[axis] : size
    if (typeof count !== 'number') return null
    parts.push(range(count).map((i) => i + start))
    if (axis === split) start += count
  }
  return axis === split && start !== size ? null : parts
}

export const split = defineOp({
  op: 'Split',
  takesAlong,
  half: true,
  since: [2, 11, 13, 18],
  gradient: splitGradient,
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  upgrades: [
    { to: 13, apply: (node) => intsToInput(node, 'split', 1) },
    {
      to: 18,
      apply: (node) => {
        if (!node.inputs[1]) node.setAttribute('num_outputs', node.outputs.length)
      },
    },
  ],
  samples: [
    { name: 'equal parts', inputs: [{ dims: [2, 6] }], outputs: 3, attributes: { axis: 1, num_outputs: 3 } },
    { name: 'uneven last part', inputs: [{ dims: [2, 5] }], outputs: 2, attributes: { axis: -1, num_outputs: 2 } },
    {
      name: 'given sizes',
      inputs: [{ dims: [6, 2] }, { dims: [3], type: 'int64', values: [1, 3, 2] }],
      outputs: 3,
      attributes: { axis: 0 },
    },
    {
      name: 'opset 7 with sizes',
      inputs: [{ dims: [2, 5] }],
      outputs: 2,
      attributes: { axis: 1, split: [2, 3] },
      opset: 7,
    },
    { name: 'opset 11 equal parts', inputs: [{ dims: [4, 2] }], outputs: 2, opset: 11 },
    {
      name: 'opset 13',
      inputs: [{ dims: [4, 2] }, { dims: [2], type: 'int64', values: [1, 3] }],
      outputs: 2,
      opset: 13,
    },
  ],
})
