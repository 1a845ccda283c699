/**
 * Comparisons, truth values, bits and rounding: piecewise constant, so the gradient is zero. A rounding that must carry
 * a gradient is marked straight-through in its node's metadata; the driver handles that. Rounding is a format conversion
 * and free; everything else is one comparison per element.
 */
import { constantOf } from './support/constant-of.ts'
import { defineOp, type OpDef, type OpSample } from './support/define-op.ts'
import { free, perElement } from './support/rules.ts'

const comparison = perElement({ comparisons: 1 })
const floats = { dims: [2, 3], values: [-1.7, -0.5, 0.2, 0.9, 1.5, 2.3] } as const
const truths = { dims: [2, 2], type: 'bool', values: [1, 1, 0, 0] } as const
const otherTruths = { dims: [2, 2], type: 'bool', values: [1, 0, 1, 0] } as const
const words = { dims: [4], type: 'uint8', values: [1, 6, 12, 255] } as const
const shifts = { dims: [1], type: 'uint8', values: [2] } as const

const zero = (op: string, since: readonly number[], samples: readonly OpSample[], rest: Partial<OpDef> = {}): OpDef =>
  defineOp({ op, since, gradient: 'zero', cost: comparison, nonNegative: () => true, samples, ...rest })

const compare = (op: string, since: readonly number[], rest: Partial<OpDef> = {}): OpDef =>
  zero(
    op,
    since,
    [
      { name: 'broadcast', inputs: [floats, { dims: [3], values: [-1.7, 0, 1] }] },
      {
        name: 'integers',
        inputs: [
          { dims: [3], type: 'int64', values: [1, 2, 3] },
          { ...words, type: 'int64', dims: [4, 1] },
        ],
      },
    ],
    { half: true, comparison: true, ...rest },
  )

/** What is compared with constants takes one of them (a sample rate, a mode). */
const comparedWith: NonNullable<OpDef['integers']> = (node, i) => {
  const other = constantOf(node.inputs[1 - i])
  return other ? { of: Array.from(other.toNumbers()) } : undefined
}

const rounding = (op: string, since: readonly number[], nonNegative: NonNullable<OpDef['nonNegative']>): OpDef =>
  zero(op, since, [{ name: 'halves', inputs: [floats] }], { cost: free, nonNegative })

export const logic: readonly OpDef[] = [
  compare('Equal', [7, 11, 13, 19], { integers: comparedWith }),
  compare('Greater', [7, 9, 13]),
  compare('GreaterOrEqual', [12, 16]),
  compare('Less', [7, 9, 13]),
  compare('LessOrEqual', [12, 16]),
  zero('And', [7], [{ name: 'table', inputs: [truths, otherTruths] }]),
  zero('Or', [7], [{ name: 'table', inputs: [truths, otherTruths] }]),
  zero('Xor', [7], [{ name: 'table', inputs: [truths, otherTruths] }]),
  zero('Not', [1], [{ name: 'table', inputs: [truths] }]),
  zero('IsNaN', [9, 13, 20], [{ name: 'plain', inputs: [{ dims: [3], values: [1, Number.NaN, 2] }] }]),
  zero('IsInf', [10, 20], [{ name: 'plain', inputs: [{ dims: [3], values: [1, Number.NEGATIVE_INFINITY, 2] }] }]),
  zero('BitShift', [11], [{ name: 'left', inputs: [words, shifts], attributes: { direction: 'LEFT' } }]),
  zero('BitwiseAnd', [18], [{ name: 'bytes', inputs: [words, shifts] }]),
  zero('BitwiseOr', [18], [{ name: 'bytes', inputs: [words, shifts] }]),
  zero('BitwiseXor', [18], [{ name: 'bytes', inputs: [words, shifts] }]),
  zero('BitwiseNot', [18], [{ name: 'bytes', inputs: [words] }]),
  zero('Sign', [9, 13], [{ name: 'both signs', inputs: [floats] }], { nonNegative: (_, input) => input(0) }),
  rounding('Floor', [6, 13], (_, input) => input(0)),
  rounding('Ceil', [6, 13], (_, input) => input(0)),
  rounding('Round', [11, 22], (_, input) => input(0)),
]
