/** What makes tensors out of constants, shapes and random numbers: nothing to differentiate, nothing to count. */
import type { Node } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementCount, isStatic } from '../graph/types.ts'
import { defineOp, type OpDef, type OpSample } from './support/define-op.ts'
import { range } from './support/emit.ts'
import { free, isNonNegativeConstant } from './support/rules.ts'

const knownDims = (node: Node): readonly number[] | null => {
  const dims = node.input(0).constant?.dims ?? node.input(0).type?.dims ?? null
  return isStatic(dims) ? dims : null
}

const typeExtensions = [19, 21, 23, 24, 25]
const x = { dims: [2, 3] }
const shape = { dims: [2], type: 'int64', values: [2, 3] } as const
const integer = (value: number) => ({ dims: [], type: 'int64', values: [value] }) as const
const seed = { kind: 'float', value: 7 } as const

const source = (op: string, since: readonly number[], samples: readonly OpSample[], rest: Partial<OpDef> = {}): OpDef =>
  defineOp({ op, since, gradient: 'zero', cost: free, samples, ...rest })

export const sources: readonly OpDef[] = [
  source(
    'Constant',
    [1, 9, 11, 12, 13, ...typeExtensions],
    [
      { name: 'tensor', inputs: [], attributes: { value: Tensor.float32([2], [1.5, -2]) } },
      { name: 'ints', inputs: [], attributes: { value_ints: [1, 2, 3] } },
      { name: 'opset 7', opset: 7, inputs: [], attributes: { value: Tensor.float32([2], [1.5, -2]) } },
    ],
    { nonNegative: (node) => isNonNegativeConstant(node.output) },
  ),
  source(
    'ConstantOfShape',
    [9, 20, 21, 23, 24, 25],
    [{ name: 'ones', inputs: [shape], attributes: { value: Tensor.float32([1], [1]) } }],
    { fills: true, nonNegative: (node) => (node.tensor('value')?.item() ?? 0) >= 0 },
  ),
  source(
    'Shape',
    [1, 13, 15, ...typeExtensions],
    [
      { name: 'all', inputs: [x] },
      { name: 'part', inputs: [x], attributes: { start: -1 } },
    ],
    {
      nonNegative: () => true,
      picks: (node, length) => range(length).slice(node.int('start', 0), node.int('end', length)),
      ofShape(node) {
        const dims = knownDims(node)?.slice(node.int('start', 0), node.int('end', Number.MAX_SAFE_INTEGER))
        return dims ? Tensor.int64([dims.length], dims) : null
      },
    },
  ),
  source('Size', [1, 13, ...typeExtensions], [{ name: 'plain', inputs: [x] }], {
    nonNegative: () => true,
    ofShape(node) {
      const dims = knownDims(node)
      return dims && Tensor.scalar(elementCount(dims), 'int64')
    },
  }),
  source('Range', [11], [{ name: 'integers', inputs: [integer(1), integer(9), integer(3)] }], { fills: true }),
  source('EyeLike', [9, 22], [{ name: 'offset', inputs: [x], attributes: { k: 1 } }], {
    fills: true,
    nonNegative: () => true,
  }),
  source('NonZero', [9, 13], [{ name: 'plain', inputs: [{ dims: [3], values: [0, 1, 2] }] }], {
    nonNegative: () => true,
  }),
  source('RandomNormal', [1, 22], [{ name: 'seeded', inputs: [], attributes: { shape: [2, 2], seed } }], {
    random: true,
  }),
  source('RandomNormalLike', [1, 22], [{ name: 'seeded', inputs: [x], attributes: { seed } }], { random: true }),
  source('RandomUniform', [1, 22], [{ name: 'seeded', inputs: [], attributes: { shape: [2, 2], seed } }], {
    random: true,
  }),
  source('RandomUniformLike', [1, 22], [{ name: 'seeded', inputs: [x], attributes: { seed } }], { random: true }),
  source('Bernoulli', [15, 22], [{ name: 'seeded', inputs: [{ dims: [4], range: [0, 1] }], attributes: { seed } }], {
    nonNegative: () => true,
    random: true,
  }),
  source('Multinomial', [7, 22], [{ name: 'seeded', inputs: [x], attributes: { sample_size: 2, seed } }], {
    nonNegative: () => true,
    random: true,
  }),
]
