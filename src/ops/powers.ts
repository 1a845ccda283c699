/** Powers, exponentials and logarithms; a transcendental function counts as one multiplication. */
import { elementTypes } from '../graph/types.ts'
import { defineOp, type OpDef } from './support/define-op.ts'
import { elemOf, expressions, perElement, scalarOf, unary } from './support/rules.ts'

const positive = { dims: [2, 3], range: [0.3, 2] as const }

// y = sqrt(x): dx = dy / (2 y)
const sqrt = unary('Sqrt', {
  since: [6, 13],
  rule: ({ f, dy, y }) => f('Div', dy, f('Add', y, y)),
  cost: { mults: 1 },
  nonNegative: () => true,
  samples: [{ name: 'positive', inputs: [positive] }],
})

// y = e^x: dx = dy * y
const exp = unary('Exp', {
  since: [6, 13],
  rule: ({ f, dy, y }) => f('Mul', dy, y),
  cost: { mults: 1 },
  nonNegative: () => true,
  samples: [{ name: 'plain', inputs: [{ dims: [2, 3] }] }],
})

// y = ln x: dx = dy / x
const log = unary('Log', {
  since: [6, 13],
  rule: ({ f, dy, x }) => f('Div', dy, x),
  cost: { mults: 1 },
  samples: [{ name: 'positive', inputs: [positive] }],
})

// y = erf(x): dx = dy * 2 / sqrt(pi) * e^(-x^2)
const erf = unary('Erf', {
  since: [9, 13],
  rule: ({ f, dy, x }) => f('Mul', dy, f('Mul', f('Exp', f('Neg', f('Mul', x, x))), 2 / Math.sqrt(Math.PI))),
  cost: { mults: 1 },
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'both signs', inputs: [{ dims: [2, 3], range: [-2, 2] }] }],
})

/**
 * y = x^p: dx = dy * p * x^(p-1), 0 where p = 0
 *          dp = dy * y * ln x, 0 where x <= 0
 */
const pow = defineOp({
  op: 'Pow',
  since: [7, 12, 13, 15],
  broadcasts: true,
  gradient({ node, dy: [dy], needs, b }) {
    if (!dy) return []
    const [x, p, y] = [node.input(0), node.input(1), node.output]
    const f = expressions(b, y)
    const [from, to] = [elemOf(p), elemOf(x)]
    const dx = (): ReturnType<typeof f> => {
      const e = scalarOf(p)
      if (e === 2) return f('Mul', dy, f('Add', x, x))
      if (e === 1) return dy
      if (e !== null) return f('Mul', dy, f('Mul', f('Pow', x, e - 1), e))
      const q = from === to ? p : b.op('Cast', [p], { to: elementTypes[to].code })
      const slope = f('Mul', dy, f('Mul', q, f('Pow', x, f('Sub', q, 1))))
      return f('Where', f('Equal', q, 0), 0, slope)
    }
    const dp = (): ReturnType<typeof f> => {
      const slope = f('Where', f('Greater', x, 0), f('Mul', dy, f('Mul', y, f('Log', x))), 0)
      return from === to ? slope : b.op('Cast', [slope], { to: elementTypes[from].code })
    }
    return [needs[0] ? dx() : null, needs[1] ? dp() : null]
  },
  cost: perElement({ mults: 1 }),
  nonNegative(node, input) {
    const e = scalarOf(node.inputs[1])
    return input(0) || (e !== null && e % 2 === 0)
  },
  samples: [
    { name: 'both vary', inputs: [positive, { dims: [2, 1], range: [0.5, 2.5] }] },
    { name: 'square', inputs: [{ dims: [2, 3] }, { dims: [], values: [2], constant: true }] },
    { name: 'constant power', inputs: [positive, { dims: [1], values: [-1.5], constant: true }] },
    { name: 'first power', inputs: [{ dims: [3] }, { dims: [], values: [1], constant: true }] },
    { name: 'integer powers', inputs: [positive, { dims: [3], type: 'int64', values: [0, 2, 3] }] },
    { name: 'opset 7', opset: 7, inputs: [positive, { dims: [3], values: [0.5, 2, 3], constant: true }] },
  ],
})

export const powers: readonly OpDef[] = [sqrt, exp, log, erf, pow]
