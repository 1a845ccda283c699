/**
 * QuickGelu, which onnxruntime's optimisers for transformers write for x * sigmoid(1.702 x):
 *
 *   y = x s, s = sigmoid(alpha x): dx = dy * (s + alpha y (1 - s))
 */
import { unary } from './support/rules.ts'

/** With which the curve is closest to Gelu: Hendrycks and Gimpel, Gaussian Error Linear Units (2016). */
const ALPHA = 1.702

const plain = { dims: [2, 3], range: [-2.5, 2.5] } as const

export const quickGelu = unary('QuickGelu', {
  domain: 'com.microsoft',
  since: [1],
  rule({ f, dy, x, y, node }) {
    const alpha = node.float('alpha', ALPHA)
    const s = f('Sigmoid', f('Mul', x, alpha))
    return f('Mul', dy, f('Add', s, f('Mul', f('Mul', y, f('Sub', 1, s)), alpha)))
  },
  cost: { mults: 4, adds: 1 },
  nonNegative: (_, input) => input(0),
  samples: [
    { name: 'plain', inputs: [plain] },
    { name: 'alpha', inputs: [plain], attributes: { alpha: 0.7 } },
  ],
})
