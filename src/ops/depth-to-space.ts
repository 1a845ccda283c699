/**
 * DepthToSpace and SpaceToDepth: permutations of elements, so dX = dY permuted back.
 *
 * SpaceToDepth undoes DepthToSpace in its DCR mode; the CRD mode is undone by Reshape and Transpose.
 */
import { defineOp, noCost } from './support/define-op.ts'
import { reshape, transpose, typed } from './support/emit.ts'
import { elemOf } from './support/rules.ts'

export const depthToSpace = defineOp({
  op: 'DepthToSpace',
  half: true,
  since: [1, 11, 13],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const k = node.int('blocksize', 1)
    if (node.string('mode', 'DCR') === 'DCR') return [b.op('SpaceToDepth', [g], { blocksize: k })]
    const x = node.input(0)
    const [n, c, h, w] = x.dims as [number, number, number, number]
    const open = [n, c / (k * k), h, k, w, k]
    return [reshape(b, transpose(b, typed(reshape(b, g, open), open, elemOf(x)), [0, 1, 3, 5, 2, 4]), x.dims)]
  },
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'DCR', inputs: [{ dims: [2, 8, 2, 3] }], attributes: { blocksize: 2 } },
    { name: 'CRD', inputs: [{ dims: [1, 18, 2, 2] }], attributes: { blocksize: 3, mode: 'CRD' } },
    { name: 'opset 7', inputs: [{ dims: [1, 4, 2, 2] }], attributes: { blocksize: 2 }, opset: 7 },
  ],
})

export const spaceToDepth = defineOp({
  op: 'SpaceToDepth',
  half: true,
  since: [1, 13],
  gradient: ({ node, dy, b }) =>
    dy[0] ? [b.op('DepthToSpace', [dy[0]], { blocksize: node.int('blocksize', 1), mode: 'DCR' })] : [],
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'blocks of 2', inputs: [{ dims: [2, 3, 4, 6] }], attributes: { blocksize: 2 } },
    { name: 'opset 7', inputs: [{ dims: [1, 2, 4, 4] }], attributes: { blocksize: 2 }, opset: 7 },
  ],
})
