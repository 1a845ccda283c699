/**
 * QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: format conversions, free. They have no gradient as they
 * stand; the pass lower-fake-quant turns a pair into float arithmetic whose rounding is straight-through.
 */
import type { Node } from '../graph/graph.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, type OpDef, type Unsupported } from './support/define-op.ts'
import { elemOf, free } from './support/rules.ts'

const gradient: Unsupported = {
  unsupported:
    'quantisers are differentiated as arithmetic; run the pass lower-fake-quant first, which rewrites them with a straight-through gradient',
}

const hasZeroPoint = (node: Node): boolean => {
  if (!node.inputs[2]) return false
  const values = constantOf(node.inputs[2])?.toNumbers()
  return !values || Array.from(values).some((v) => v !== 0)
}
const isUnsigned = (node: Node): boolean => elemOf(node.input(0)).startsWith('uint')

const versions = [10, 13, 19, 21, 23, 24, 25]
const scale = { dims: [], values: [0.05], constant: true }
const scales = { dims: [2], values: [0.05, 0.02], constant: true }

/** What the two halves of a quantiser have in common. */
const common = {
  channels: (node: Node) => (constantOf(node.inputs[1])?.size === 1 ? 'same' : null),
  since: versions,
  gradient,
  cost: free,
  state: [1],
  unfoldable: true,
} as const

export const quantizers: readonly OpDef[] = [
  defineOp({
    op: 'QuantizeLinear',
    ...common,
    quantizer: 'quantize',
    nonNegative: (node, input) => elemOf(node.output).startsWith('uint') || (input(0) && !hasZeroPoint(node)),
    samples: [
      { name: 'a tensor', inputs: [{ dims: [2, 3] }, scale, { dims: [], type: 'int8', values: [3] }] },
      {
        name: 'a row, 4 bits',
        inputs: [{ dims: [2, 3], range: [-0.2, 0.2] }, scales, { dims: [2], type: 'int4', values: [0, 0] }],
        attributes: { axis: 0 },
      },
      { name: 'opset 10', opset: 10, inputs: [{ dims: [2, 3] }, scale, { dims: [], type: 'uint8', values: [128] }] },
    ],
  }),
  defineOp({
    op: 'DequantizeLinear',
    ...common,
    quantizer: 'dequantize',
    nonNegative: (node, input) => !hasZeroPoint(node) && (isUnsigned(node) || input(0)),
    samples: [
      { name: 'a tensor', inputs: [{ dims: [3], type: 'int8', values: [-5, 0, 7] }, scale] },
      {
        name: 'a row, 4 bits',
        inputs: [{ dims: [2, 3], type: 'int4', values: [-8, -1, 0, 1, 3, 7] }, scales],
        attributes: { axis: 0 },
      },
    ],
  }),
  defineOp({
    op: 'DynamicQuantizeLinear',
    unfoldable: true,
    since: [11],
    gradient,
    cost: free,
    nonNegative: () => true,
    samples: [{ name: 'plain', inputs: [{ dims: [2, 3] }], outputs: 3 }],
  }),
]
