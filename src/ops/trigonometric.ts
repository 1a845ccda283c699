/** Circular and hyperbolic functions and their inverses. Each counts as one multiplication per element. */
import type { OpDef, OpSample } from './support/define-op.ts'
import { unary } from './support/rules.ts'

const cost = { mults: 1 }
const within = (low: number, high: number): readonly OpSample[] => [
  { name: `[${low}, ${high}]`, inputs: [{ dims: [2, 3], range: [low, high] }] },
]
const since7 = [7, 22]
const since9 = [9, 22]

export const trigonometric: readonly OpDef[] = [
  // y = sin x: dx = dy * cos x
  unary('Sin', { since: since7, cost, rule: ({ f, dy, x }) => f('Mul', dy, f('Cos', x)), samples: within(-3, 3) }),
  // y = cos x: dx = -dy * sin x
  unary('Cos', {
    since: since7,
    cost,
    rule: ({ f, dy, x }) => f('Neg', f('Mul', dy, f('Sin', x))),
    samples: within(-3, 3),
  }),
  // y = tan x: dx = dy * (1 + y^2)
  unary('Tan', {
    since: since7,
    cost,
    rule: ({ f, dy, y }) => f('Mul', dy, f('Add', f('Mul', y, y), 1)),
    samples: within(-1, 1),
  }),
  // y = arcsin x: dx = dy / sqrt(1 - x^2)
  unary('Asin', {
    since: since7,
    cost,
    rule: ({ f, dy, x }) => f('Div', dy, f('Sqrt', f('Sub', 1, f('Mul', x, x)))),
    samples: within(-0.8, 0.8),
  }),
  // y = arccos x: dx = -dy / sqrt(1 - x^2)
  unary('Acos', {
    since: since7,
    cost,
    rule: ({ f, dy, x }) => f('Neg', f('Div', dy, f('Sqrt', f('Sub', 1, f('Mul', x, x))))),
    nonNegative: () => true,
    samples: within(-0.8, 0.8),
  }),
  // y = arctan x: dx = dy / (1 + x^2)
  unary('Atan', {
    since: since7,
    cost,
    rule: ({ f, dy, x }) => f('Div', dy, f('Add', f('Mul', x, x), 1)),
    samples: within(-2, 2),
  }),
  // y = sinh x: dx = dy * cosh x
  unary('Sinh', { since: since9, cost, rule: ({ f, dy, x }) => f('Mul', dy, f('Cosh', x)), samples: within(-2, 2) }),
  // y = cosh x: dx = dy * sinh x
  unary('Cosh', {
    since: since9,
    cost,
    rule: ({ f, dy, x }) => f('Mul', dy, f('Sinh', x)),
    nonNegative: () => true,
    samples: within(-2, 2),
  }),
  // y = arsinh x: dx = dy / sqrt(x^2 + 1)
  unary('Asinh', {
    since: since9,
    cost,
    rule: ({ f, dy, x }) => f('Div', dy, f('Sqrt', f('Add', f('Mul', x, x), 1))),
    samples: within(-2, 2),
  }),
  // y = arcosh x: dx = dy / sqrt(x^2 - 1)
  unary('Acosh', {
    since: since9,
    cost,
    rule: ({ f, dy, x }) => f('Div', dy, f('Sqrt', f('Sub', f('Mul', x, x), 1))),
    nonNegative: () => true,
    samples: within(1.3, 3),
  }),
  // y = artanh x: dx = dy / (1 - x^2)
  unary('Atanh', {
    since: since9,
    cost,
    rule: ({ f, dy, x }) => f('Div', dy, f('Sub', 1, f('Mul', x, x))),
    samples: within(-0.8, 0.8),
  }),
]
