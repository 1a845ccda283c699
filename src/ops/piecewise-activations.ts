/** Activations with a kink: ReLU and its relatives. The gradient at a kink is that of one side. */
import { float } from '../graph/attribute.ts'
import type { Value } from '../graph/graph.ts'
import { defineOp, type OpDef } from './support/define-op.ts'
import { open } from './support/ramp.ts'
import { elemOf, expressions, perElement, unary } from './support/rules.ts'

const clear = { dims: [2, 3], values: [-1.3, 0.7, -0.4, 1.8, 0.2, -2.1] } as const

/** Largest float32: times the smallest normal number it is still above 1. */
const STEEP = 3.4028234663852886e38

// y = max(x, 0): dx = dy * (y > 0). In float32 the step is a HardSigmoid of largest slope: exact but for subnormal y,
// and one kernel where Greater and Cast are two (10 and 17 ms for 44 MB on 2 cores, onnxruntime 1.30).
const relu = unary('Relu', {
  rectifier: true,
  ramp: () => ({ input: 0, slope: 1, offset: 0, least: 0, most: open.most }),
  homogeneous: () => 'element',
  half: true,
  since: [6, 13, 14],
  rule: ({ f, y, dy, b, passing }) =>
    elemOf(y) === 'float32'
      ? f('Mul', dy, b.op('HardSigmoid', [y], { alpha: float(STEEP), beta: float(0) }))
      : passing(f('Greater', y, 0)),
  cost: { comparisons: 1 },
  nonNegative: () => true,
  samples: [
    { name: 'both signs', inputs: [clear] },
    { name: 'opset 7', opset: 7, inputs: [clear] },
  ],
})

// y = x where x >= 0, alpha x elsewhere: dx = dy * where(x < 0, alpha, 1)
const leakyRelu = unary('LeakyRelu', {
  homogeneous: () => 'element',
  half: true,
  since: [6, 16],
  rule: ({ f, dy, x, node }) => f('Mul', dy, f('Where', f('Less', x, 0), node.float('alpha', 0.01), 1)),
  cost: { comparisons: 1, mults: 1 },
  nonNegative: (node, input) => node.float('alpha', 0.01) <= 0 || input(0),
  samples: [
    { name: 'default', inputs: [clear] },
    { name: 'alpha', inputs: [clear], attributes: { alpha: 0.3 } },
  ],
})

// y = x where x >= 0, s x elsewhere: dx = dy * where(x < 0, s, 1), ds = dy * min(x, 0)
const prelu = defineOp({
  op: 'PRelu',
  homogeneous: () => 'element',
  half: true,
  since: [7, 9, 16],
  broadcasts: true,
  parameters: [1],
  gradient({ node, dy: [dy], needs, b }) {
    if (!dy) return []
    const f = expressions(b, node.output)
    const [x, slope] = [node.input(0), node.input(1)]
    return [
      needs[0] ? f('Mul', dy, f('Where', f('Less', x, 0), slope, 1)) : null,
      needs[1] ? f('Mul', dy, f('Min', x, 0)) : null,
    ]
  },
  cost: perElement({ comparisons: 1, mults: 1 }),
  nonNegative: (_, input) => input(0),
  samples: [
    {
      name: 'slope a channel',
      inputs: [
        { ...clear, dims: [1, 3, 2] },
        { dims: [3, 1], range: [0.1, 0.4] },
      ],
    },
    { name: 'opset 7, one slope', opset: 7, inputs: [clear, { dims: [1], range: [0.1, 0.4] }] },
  ],
})

// y = x where x > alpha, 0 elsewhere: dx = dy * (x > alpha)
const thresholdedRelu = unary('ThresholdedRelu', {
  since: [10, 22],
  rule: ({ f, x, node, passing }) => passing(f('Greater', x, node.float('alpha', 1))),
  cost: { comparisons: 1 },
  nonNegative: (node, input) => node.float('alpha', 1) >= 0 || input(0),
  samples: [
    { name: 'default', inputs: [clear] },
    { name: 'alpha', inputs: [clear], attributes: { alpha: 0.5 } },
  ],
})

// y = x where x > 0, alpha (e^x - 1) elsewhere: dx = dy * where(x > 0, 1, y + alpha)
const elu = unary('Elu', {
  since: [6, 22],
  rule: ({ f, dy, x, y, node }) => f('Mul', dy, f('Where', f('Greater', x, 0), 1, f('Add', y, node.float('alpha', 1)))),
  cost: { comparisons: 1, mults: 2, adds: 1 },
  nonNegative: (node, input) => node.float('alpha', 1) <= 0 || input(0),
  samples: [
    { name: 'default', inputs: [clear] },
    { name: 'alpha', inputs: [clear], attributes: { alpha: 0.6 } },
  ],
})

/** Of Klambauer et al., Self-Normalizing Neural Networks (2017), in float32, as the standard gives them. */
const SELU_ALPHA = 1.6732631921768188
const SELU_GAMMA = 1.0507010221481323

// y = gamma x where x > 0, gamma alpha (e^x - 1) elsewhere: dx = dy * where(x > 0, gamma, y + gamma alpha)
const selu = unary('Selu', {
  since: [6, 22],
  rule({ f, dy, x, y, node }) {
    const gamma = node.float('gamma', SELU_GAMMA)
    return f('Mul', dy, f('Where', f('Greater', x, 0), gamma, f('Add', y, gamma * node.float('alpha', SELU_ALPHA))))
  },
  cost: { comparisons: 1, mults: 3, adds: 1 },
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'default', inputs: [clear] }],
})

// y = x where x > 0, alpha (e^(x/alpha) - 1) elsewhere: dx = dy * where(x > 0, 1, y / alpha + 1)
const celu = unary('Celu', {
  since: [12],
  rule({ f, dy, x, y, node }) {
    const slope = f('Add', f('Mul', y, 1 / node.float('alpha', 1)), 1)
    return f('Mul', dy, f('Where', f('Greater', x, 0), 1, slope))
  },
  cost: { comparisons: 1, mults: 3, adds: 1 },
  nonNegative: (_, input) => input(0),
  samples: [
    { name: 'default', inputs: [clear] },
    { name: 'alpha', inputs: [clear], attributes: { alpha: 0.6 } },
  ],
})

// y = clamp(alpha x + beta, 0, 1): dx = alpha dy * (0 < y < 1)
const hardSigmoid = unary('HardSigmoid', {
  ramp: (node) => ({
    ...{ input: 0, slope: node.float('alpha', 0.2), offset: node.float('beta', 0.5), least: 0, most: 1 },
  }),
  bounded: true,
  since: [6, 22],
  rule: ({ f, y, node, passing }) =>
    f('Mul', passing(f('And', f('Greater', y, 0), f('Less', y, 1))), node.float('alpha', 0.2)),
  cost: { comparisons: 2, mults: 1, adds: 1 },
  nonNegative: () => true,
  samples: [
    { name: 'default', inputs: [{ dims: [2, 3], values: [-3.1, 0.7, -0.4, 2.8, 0.2, -2.1] }] },
    {
      name: 'alpha and beta',
      inputs: [{ dims: [5], values: [-2.1, 0.7, -0.4, 2.8, 0.2] }],
      attributes: { alpha: 0.3, beta: 0.4 },
    },
  ],
})

// y = x h, h = clamp(x / 6 + 1/2, 0, 1): dx = dy * where(|x| < 3, x / 3 + 1/2, h). In float32 s = x / 3 + 1/2 is cut where it jumps:
// t(s) = s > -1/2 ? s : 0 makes it 0 below -3, and 1 - t(1 - s) makes it 1 above 3. Each is one kernel of one operand, and none
// gives truth values, which the blocked layout has no room for.
const hardSwish = unary('HardSwish', {
  gatedBy: { slope: 1 / 6, offset: 0.5, least: 0, most: 1 },
  since: [14, 22],
  rule({ f, y, dy, x, b }) {
    const slope = f('Add', f('Mul', x, 1 / 3), 0.5)
    if (elemOf(y) === 'float32') {
      const cut = (v: Value): Value => b.op('ThresholdedRelu', [v], { alpha: -0.5 })
      return f('Mul', dy, f('Sub', 1, cut(f('Sub', 1, cut(slope)))))
    }
    const h = b.op('HardSigmoid', [x], { alpha: 1 / 6, beta: 0.5 })
    return f('Mul', dy, f('Where', f('Less', f('Abs', x), 3), slope, h))
  },
  cost: { comparisons: 2, mults: 2, adds: 1 },
  nonNegative: (_, input) => input(0),
  samples: [{ name: 'all pieces', inputs: [{ dims: [2, 3], values: [-4.1, 0.7, -0.4, 3.8, 0.2, -2.1] }] }],
})

// y = x + bias where x < -lambd, x - bias where x > lambd, 0 between: dx = dy * (|x| > lambd)
const shrink = unary('Shrink', {
  since: [9],
  rule: ({ f, x, node, passing }) => passing(f('Greater', f('Abs', x), node.float('lambd', 0.5))),
  cost: { comparisons: 2, adds: 1 },
  samples: [{ name: 'soft', inputs: [clear], attributes: { lambd: 0.6, bias: 0.6 } }],
})

export const piecewiseActivations: readonly OpDef[] = [
  ...[relu, leakyRelu, prelu, thresholdedRelu, elu, selu, celu, hardSigmoid, hardSwish, shrink],
]
