/** Identity, Cast, CastLike: the same numbers in another type. Format conversions cost nothing. */
import type { Value } from '../graph/graph.ts'
import { type ElementType, elementTypeOf, elementTypes } from '../graph/types.ts'
import { defineOp, type GradientRule, type OpDef } from './support/define-op.ts'
import { elemOf, free } from './support/rules.ts'

const floating: ReadonlySet<ElementType> = new Set(['float32', 'float64', 'float16', 'bfloat16'])

// y = x in another type: dx = dy in x's type; none where either is not a float
const castRule: GradientRule = ({ node, dy: [dy], b }) => {
  const x: Value = node.input(0)
  const [from, to] = [elemOf(x), elemOf(node.output)]
  if (!dy || !floating.has(from) || !floating.has(to)) return []
  return [from === to ? dy : b.op('Cast', [dy], { to: elementTypes[from].code })]
}

const identity = defineOp({
  op: 'Identity',
  homogeneous: () => 'element',
  half: true,
  channels: () => 'same',
  since: [1, 13, 14, 16, 19, 21, 23, 24, 25],
  gradient: ({ dy: [dy = null] }) => [dy],
  carries: 'value',
  cost: free,
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'plain', inputs: [{ dims: [2, 3] }] }],
})

const x = { dims: [2, 3] }

const cast = defineOp({
  op: 'Cast',
  channels: () => 'same',
  since: [6, 9, 13, 19, 21, 23, 24, 25],
  gradient: castRule,
  carries: 'type',
  castsTo: (node) => elementTypeOf(node.int('to', 0)),
  cost: free,
  nonNegative: (_, input) => input(0),
  samples: [
    { name: 'to double', inputs: [x], attributes: { to: elementTypes.float64.code } },
    { name: 'to itself', inputs: [x], attributes: { to: elementTypes.float32.code } },
    { name: 'to int64', inputs: [x], attributes: { to: elementTypes.int64.code } },
    {
      name: 'from int32',
      inputs: [{ dims: [2], type: 'int32', values: [3, -4] }],
      attributes: { to: elementTypes.float32.code },
    },
  ],
})

const castLike = defineOp({
  op: 'CastLike',
  since: [15, 19, 21, 23, 24, 25],
  gradient: castRule,
  carries: 'type',
  castsTo: (node) => node.inputs[1]?.constant?.type ?? node.inputs[1]?.type?.elem,
  cost: free,
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'to double', inputs: [x, { dims: [1], type: 'float64', values: [0], constant: true }] }],
})

export const passThrough: readonly OpDef[] = [identity, cast, castLike]
