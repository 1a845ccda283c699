/** Sums, products and whatever else is one multiplication or addition per element. Integers have no gradient. */
import { defineOp, type OpDef, outputSize } from './support/define-op.ts'
import { sumBack } from './support/emit.ts'
import { withNumber } from './support/ramp.ts'
import { expressions, perElement, unary } from './support/rules.ts'

const versions = [7, 13, 14]
const mixed = [{ dims: [2, 3, 4] }, { dims: [3, 1], range: [0.5, 1.5] as const }]
const samples = [
  { name: 'same shape', inputs: [{ dims: [2, 3] }, { dims: [2, 3], range: [0.5, 1.5] as const }] },
  { name: 'broadcast', inputs: mixed },
  { name: 'opset 7, scalar', opset: 7, inputs: [{ dims: [2, 2] }, { dims: [], range: [0.5, 1.5] as const }] },
  { name: 'both broadcast', inputs: [{ dims: [2, 1, 3] }, { dims: [4, 1], range: [0.5, 1.5] as const }] },
]

// y = a + b: da = dy, db = dy
const add = defineOp({
  op: 'Add',
  homogeneous: () => 'joint',
  addition: true,
  integerKernel: 'own',
  ramp: (node) => withNumber(node, (c) => ({ slope: 1, offset: c })),
  half: true,
  since: versions,
  broadcasts: true,
  gradient: ({ dy: [dy = null] }) => [dy, dy],
  cost: perElement({ adds: 1 }),
  nonNegative: (_, input) => input(0) && input(1),
  samples,
})

// y = a - b: da = dy, db = -dy
const sub = defineOp({
  op: 'Sub',
  homogeneous: () => 'joint',
  ramp: (node) => withNumber(node, (c, first) => (first ? null : { slope: 1, offset: -c })),
  half: true,
  since: versions,
  broadcasts: true,
  gradient: ({ dy: [dy], needs, b }) => (dy ? [dy, needs[1] ? b.op('Neg', [dy]) : null] : []),
  cost: perElement({ adds: 1 }),
  samples,
})

// y = a * c: da = dy * c, dc = dy * a
const mul = defineOp({
  op: 'Mul',
  homogeneous: () => 'factor',
  integerKernel: 'own',
  ramp: (node) => withNumber(node, (c) => ({ slope: c, offset: 0 })),
  half: true,
  since: versions,
  broadcasts: true,
  channels: () => 'product',
  gradient({ node, dy: [dy], needs, b }) {
    if (!dy) return []
    const [a, c] = [node.input(0), node.input(1)]
    return [needs[0] ? b.op('Mul', [dy, c]) : null, needs[1] ? b.op('Mul', [dy, a]) : null]
  },
  cost: perElement({ mults: 1 }),
  nonNegative: (node, input) => node.input(0) === node.input(1) || (input(0) && input(1)),
  samples: [...samples, { name: 'by itself broadcast', inputs: [{ dims: [1, 3] }, { dims: [3, 1] }] }],
})

// y = a / c: da = dy / c, dc = -(dy / c) * y
const div = defineOp({
  op: 'Div',
  homogeneous: () => 'element',
  ramp: (node) => withNumber(node, (c, first) => (first ? null : { slope: 1 / c, offset: 0 })),
  since: versions,
  broadcasts: true,
  gradient({ node, dy: [dy], needs, b }) {
    if (!dy) return []
    const { type, dims } = node.output
    const c = node.input(1)
    const da = b.op('Div', [dy, c], {}, { type })
    if (!needs[1]) return [da]
    // the sum before the sign, which changes no bit: with a scale for c that is a pass over dy less
    const sum = sumBack(b, b.op('Mul', [da, node.output], {}, { type }), dims, c.dims)
    return [da, b.op('Neg', [sum], {}, { type: type && { ...type, dims: c.dims } })]
  },
  cost: perElement({ mults: 1 }),
  nonNegative: (_, input) => input(0) && input(1),
  samples,
})

// y = a - c * trunc(a / c) (fmod = 1; the only form for floats): da = dy, dc = -dy * (a - y) / c
const mod = defineOp({
  op: 'Mod',
  since: [10, 13],
  broadcasts: true,
  gradient({ node, dy: [dy], needs, b }) {
    if (!dy) return []
    const f = expressions(b, node.output)
    return [dy, needs[1] ? f('Mul', dy, f('Div', f('Sub', node.output, node.input(0)), node.input(1))) : null]
  },
  cost: perElement({ mults: 1 }),
  nonNegative: (_, input) => input(0) && input(1),
  samples: [
    {
      name: 'fmod',
      inputs: [
        { dims: [2, 3], values: [1.2, -3.4, 2.9, 0.3, 5.1, -0.7] },
        { dims: [3], values: [0.5, 0.9, 1.1] },
      ],
      attributes: { fmod: 1 },
    },
  ],
})

// y = sum of the inputs: d = dy
const sum = defineOp({
  op: 'Sum',
  homogeneous: () => 'joint',
  half: true,
  since: [6, 8, 13],
  broadcasts: true,
  gradient: ({ node, dy: [dy = null] }) => node.inputs.map(() => dy),
  cost: (node) => perElement({ adds: node.inputs.length - 1 })(node),
  nonNegative: (node, input) => node.inputs.every((_, i) => input(i)),
  samples: [
    { name: 'three, broadcast', inputs: [...mixed, { dims: [4] }] },
    { name: 'one', inputs: [{ dims: [2, 2] }] },
    { name: 'opset 7', opset: 7, inputs: [{ dims: [2, 2] }, { dims: [2, 2] }] },
  ],
})

// y = sum of the n inputs / n: d = dy / n
const mean = defineOp({
  op: 'Mean',
  homogeneous: () => 'joint',
  half: true,
  since: [6, 8, 13],
  broadcasts: true,
  gradient({ node, dy: [dy], b }) {
    if (!dy) return []
    const part = expressions(b, node.output)('Mul', dy, 1 / node.inputs.length)
    return node.inputs.map(() => part)
  },
  cost(node) {
    const n = outputSize(node)
    return { macs: 0, mults: n, adds: n * (node.inputs.length - 1), comparisons: 0 }
  },
  nonNegative: (node, input) => node.inputs.every((_, i) => input(i)),
  samples: [{ name: 'three, broadcast', inputs: [...mixed, { dims: [4] }] }],
})

// y = -x: dx = -dy
const neg = unary('Neg', {
  homogeneous: () => 'element',
  half: true,
  since: [6, 13],
  rule: ({ f, dy }) => f('Neg', dy),
  cost: { adds: 1 },
  samples: [{ name: 'plain', inputs: [{ dims: [2, 3] }] }],
})

// y = |x|: dx = dy * sign(x), 0 at the kink
const abs = unary('Abs', {
  homogeneous: () => 'element',
  half: true,
  since: [6, 13],
  rule: ({ f, dy, x }) => f('Mul', dy, f('Sign', x)),
  cost: { comparisons: 1 },
  nonNegative: () => true,
  samples: [{ name: 'both signs', inputs: [{ dims: [2, 2], values: [0.7, -0.3, -1.2, 0.4] }] }],
})

// y = 1 / x: dx = -dy * y^2
const reciprocal = unary('Reciprocal', {
  since: [6, 13],
  rule: ({ f, dy, y }) => f('Neg', f('Mul', dy, f('Mul', y, y))),
  cost: { mults: 1 },
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'both signs', inputs: [{ dims: [2, 2], values: [0.7, -0.5, -1.2, 0.4] }] }],
})

export const arithmetic: readonly OpDef[] = [add, sub, mul, div, mod, sum, mean, neg, abs, reciprocal]
