/**
 * Smooth activations. Costs by composition: a sigmoid is 2 multiplications and 1 addition, any other transcendental
 * function 1 multiplication.
 */
import type { OpDef } from './support/define-op.ts'
import { unary } from './support/rules.ts'

const plain = { dims: [2, 3], range: [-2.5, 2.5] } as const

// y = 1 / (1 + e^-x): dx = dy * (y - y^2)
const sigmoid = unary('Sigmoid', {
  integerKernel: 'own',
  bounded: true,
  since: [6, 13],
  rule: ({ f, dy, y }) => f('Mul', dy, f('Sub', y, f('Mul', y, y))),
  cost: { mults: 2, adds: 1 },
  nonNegative: () => true,
  samples: [
    { name: 'plain', inputs: [plain] },
    { name: 'opset 7', opset: 7, inputs: [plain] },
  ],
})

// y = tanh x: dx = dy * (1 - y^2)
const tanh = unary('Tanh', {
  bounded: true,
  since: [6, 13],
  rule: ({ f, dy, y }) => f('Mul', dy, f('Sub', 1, f('Mul', y, y))),
  cost: { mults: 1 },
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'plain', inputs: [plain] }],
})

// y = x s, s = sigmoid(alpha x): dx = dy * (s + alpha y (1 - s))
const swish = unary('Swish', {
  since: [24],
  rule({ f, dy, x, y, node }) {
    const alpha = node.float('alpha', 1)
    const s = f('Sigmoid', alpha === 1 ? x : f('Mul', x, alpha))
    const bend = f('Mul', y, f('Sub', 1, s))
    return f('Mul', dy, f('Add', s, alpha === 1 ? bend : f('Mul', bend, alpha)))
  },
  cost: { mults: 3, adds: 1 },
  nonNegative: (_, input) => input(0),
  samples: [
    { name: 'plain', opset: 24, inputs: [plain] },
    { name: 'alpha', opset: 24, inputs: [plain], attributes: { alpha: 1.5 } },
  ],
})

// y = ln(1 + e^x): dx = dy * sigmoid(x)
const softplus = unary('Softplus', {
  since: [1, 22],
  rule: ({ f, dy, x }) => f('Mul', dy, f('Sigmoid', x)),
  cost: { mults: 2, adds: 1 },
  nonNegative: () => true,
  samples: [{ name: 'plain', inputs: [plain] }],
})

// y = x / (1 + |x|): dx = dy * (1 - |y|)^2
const softsign = unary('Softsign', {
  bounded: true,
  since: [1, 22],
  rule({ f, dy, y }) {
    const rest = f('Sub', 1, f('Abs', y))
    return f('Mul', dy, f('Mul', rest, rest))
  },
  cost: { mults: 1, adds: 1, comparisons: 1 },
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'plain', inputs: [{ dims: [2, 2], values: [-1.2, 0.4, 2, -0.3] }] }],
})

// y = x t, t = tanh(ln(1 + e^x)): dx = dy * (t + x (1 - t^2) sigmoid(x))
const mish = unary('Mish', {
  since: [18, 22],
  rule({ f, dy, x }) {
    const t = f('Tanh', f('Softplus', x))
    const bend = f('Mul', f('Mul', x, f('Sigmoid', x)), f('Sub', 1, f('Mul', t, t)))
    return f('Mul', dy, f('Add', t, bend))
  },
  cost: { mults: 4, adds: 1 },
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'plain', inputs: [plain] }],
})

/** Of the tanh approximation, Hendrycks and Gimpel, Gaussian Error Linear Units (2016). */
const GELU_CUBE = 0.044715
const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI)

/**
 * y = x F(x), F the normal distribution, n its density: dx = dy * (F + x n)
 * approximate = tanh: y = x/2 (1 + t), t = tanh(s (x + c x^3)):
 *   dx = dy * ((1 + t)/2 + x/2 (1 - t^2) s (1 + 3 c x^2))
 */
const gelu = unary('Gelu', {
  since: [20],
  rule({ f, dy, x, node }) {
    const square = f('Mul', x, x)
    if (node.string('approximate', 'none') === 'tanh') {
      const t = f('Tanh', f('Mul', x, f('Add', f('Mul', square, SQRT_2_OVER_PI * GELU_CUBE), SQRT_2_OVER_PI)))
      const inner = f('Add', f('Mul', square, 1.5 * GELU_CUBE * SQRT_2_OVER_PI), SQRT_2_OVER_PI / 2)
      const bend = f('Mul', f('Mul', x, inner), f('Sub', 1, f('Mul', t, t)))
      return f('Mul', dy, f('Add', f('Add', f('Mul', t, 0.5), 0.5), bend))
    }
    const distribution = f('Add', f('Mul', f('Erf', f('Mul', x, Math.SQRT1_2)), 0.5), 0.5)
    const density = f('Mul', f('Exp', f('Mul', square, -0.5)), 1 / Math.sqrt(2 * Math.PI))
    return f('Mul', dy, f('Add', distribution, f('Mul', x, density)))
  },
  cost: { mults: 4, adds: 1 },
  nonNegative: (_, input) => input(0),
  samples: [
    { name: 'exact', inputs: [plain] },
    { name: 'tanh', inputs: [plain], attributes: { approximate: 'tanh' } },
  ],
})

export const smoothActivations: readonly OpDef[] = [sigmoid, tanh, swish, softplus, softsign, mish, gelu]
