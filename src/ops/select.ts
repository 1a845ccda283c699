/** Choices between values: Min, Max, Where, Clip. The gradient goes to the value chosen. */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { defineOp, type GradientRule, type OpDef, type Upgrade } from './support/define-op.ts'
import { elemOf, expressions, isNonNegativeConstant, masked, perElement, scalarOf } from './support/rules.ts'

// y = where(c, a, z): da = where(c, dy, 0), dz = where(c, 0, dy)
const where = defineOp({
  op: 'Where',
  half: true,
  since: [9, 16],
  broadcasts: true,
  gradient({ node, dy: [dy], needs, b }) {
    if (!dy) return []
    const f = expressions(b, node.output)
    const c = node.input(0)
    return [null, needs[1] ? f('Where', c, dy, 0) : null, needs[2] ? f('Where', c, 0, dy) : null]
  },
  cost: perElement({ comparisons: 1 }),
  nonNegative: (_, input) => input(1) && input(2),
  samples: [
    {
      name: 'broadcast',
      inputs: [{ dims: [3], type: 'bool', values: [1, 0, 1] }, { dims: [2, 3] }, { dims: [2, 1] }],
    },
  ],
})

/**
 * y = max(a, c): da = dy * (a >= c), dc = dy - da; Min the other way round. With more inputs the
 * first that equals y takes the gradient, so that ties do not count twice.
 */
const extremeRule =
  (first: 'GreaterOrEqual' | 'LessOrEqual'): GradientRule =>
  ({ node, dy: [dy], needs, b }) => {
    if (!dy) return []
    const f = expressions(b, node.output)
    const inputs = node.inputs.map((_, i) => node.input(i))
    if (inputs.length === 1) return [dy]
    if (inputs.length === 2) {
      const da = masked(b, f(first, inputs[0]!, inputs[1]!), dy, node.output)
      return [da, needs[1] ? f('Sub', dy, da) : null]
    }
    let taken: Value | null = null
    return inputs.map((x, i) => {
      const equal = f('Equal', x, node.output)
      const mine: Value = taken ? f('And', equal, f('Not', taken)) : equal
      taken = taken ? f('Or', taken, equal) : equal
      return needs[i] ? masked(b, mine, dy, node.output) : null
    })
  }

const extremeSamples = [
  {
    name: 'broadcast',
    inputs: [
      { dims: [2, 3], values: [0.1, 0.9, -0.4, 2, -1, 0.6] },
      { dims: [3], values: [0.5, 0.2, -0.1] },
    ],
  },
  {
    name: 'three',
    inputs: [
      { dims: [2, 2], values: [0.1, 0.9, -0.4, 2] },
      { dims: [2, 2], values: [0.5, 0.3, -0.9, 1] },
      { dims: [2], values: [0, 1.4] },
    ],
  },
  { name: 'one', inputs: [{ dims: [3] }] },
  {
    name: 'opset 7',
    opset: 7,
    inputs: [
      { dims: [2], values: [0.1, 0.9] },
      { dims: [2], values: [0.5, 0.3] },
    ],
  },
]

const max = defineOp({
  op: 'Max',
  homogeneous: () => 'joint',
  limits: { least: 1 },
  half: true,
  since: [6, 8, 12, 13],
  broadcasts: true,
  gradient: extremeRule('GreaterOrEqual'),
  cost: (node) => perElement({ comparisons: node.inputs.length - 1 })(node),
  nonNegative: (node, input) => node.inputs.some((_, i) => input(i)),
  samples: extremeSamples,
})

const min = defineOp({
  op: 'Min',
  homogeneous: () => 'joint',
  limits: { most: 1 },
  half: true,
  since: [6, 8, 12, 13],
  broadcasts: true,
  gradient: extremeRule('LessOrEqual'),
  cost: (node) => perElement({ comparisons: node.inputs.length - 1 })(node),
  nonNegative: (node, input) => node.inputs.every((_, i) => input(i)),
  samples: extremeSamples,
})

/** Before opset 11 the limits were attributes; the largest finite float stood for "none". */
const limitsToInputs: Upgrade = {
  to: 11,
  apply(node) {
    const b = node.graph.before(node)
    ;(['min', 'max'] as const).forEach((name, i) => {
      const a = node.attributes.get(name)
      node.setAttribute(name, null)
      if (a?.kind === 'float' && Math.abs(a.value) < 3.4e38) node.setInput(i + 1, limit(node, a.value, b))
    })
  },
}
/** Before opset 11 an attribute; null where it is computed. */
function boundOf(node: Node, input: number, attribute: string, none: number): number | null {
  return node.inputs[input] ? scalarOf(node.inputs[input]) : node.float(attribute, none)
}

const limit = (node: Node, value: number, b: Builder): Value => b.scalar(value, elemOf(node.input(0)))

function boundsOf(node: Node): { readonly least: number; readonly most: number } | null {
  const least = boundOf(node, 1, 'min', Number.NEGATIVE_INFINITY)
  const most = boundOf(node, 2, 'max', Number.POSITIVE_INFINITY)
  return least === null || most === null ? null : { least, most }
}

/**
 * y = min(max(x, low), high): dx = dy * (x = y), so dy passes at the limits themselves;
 * dlow = dy * (x < low), dhigh = dy * (x > high) for learned limits.
 */
const clip = defineOp({
  op: 'Clip',
  ramp(node) {
    const bounds = boundsOf(node)
    return bounds && { input: 0, slope: 1, offset: 0, ...bounds }
  },
  limits: { least: 1, most: 2 },
  bounds: boundsOf,
  half: true,
  since: [6, 11, 12, 13],
  broadcasts: true,
  state: [1, 2],
  gradient({ node, dy: [dy], needs, b }) {
    if (!dy) return []
    const f = expressions(b, node.output)
    const x = node.input(0)
    const keep = (condition: Value): Value => masked(b, condition, dy, node.output)
    return [
      needs[0] ? keep(f('Equal', x, node.output)) : null,
      needs[1] ? keep(f('Less', x, node.input(1))) : null,
      needs[2] ? keep(f('Greater', x, node.input(2))) : null,
    ]
  },
  cost: (node) => perElement({ comparisons: node.inputs.slice(1).filter((v) => v).length })(node),
  nonNegative: (node, input) =>
    isNonNegativeConstant(node.inputs[1]) || (input(0) && (!node.inputs[2] || isNonNegativeConstant(node.inputs[2]))),
  upgrades: [limitsToInputs],
  samples: [
    {
      name: 'both limits',
      inputs: [
        { dims: [2, 3], values: [-1, 0.2, 0.5, 0.9, 2, -0.4] },
        { dims: [], values: [0.1] },
        { dims: [], values: [0.7] },
      ],
    },
    {
      name: 'high only',
      inputs: [{ dims: [4], values: [5, 6.5, -1, 7] }, null, { dims: [], values: [6], constant: true }],
    },
    { name: 'no limit', inputs: [{ dims: [3] }] },
    {
      name: 'opset 6, ReLU6',
      opset: 7,
      inputs: [{ dims: [4], values: [5, 6.5, -1, 7] }],
      attributes: { min: { kind: 'float', value: 0 }, max: { kind: 'float', value: 6 } },
    },
    { name: 'opset 6, low only', opset: 10, inputs: [{ dims: [2], values: [5, -1] }], attributes: { min: -0.5 } },
  ],
})

export const selections: readonly OpDef[] = [where, max, min, clip]
