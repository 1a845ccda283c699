/**
 * Expand and Tile.
 *
 *   Expand: dX = dY summed over the axes along which X was broadcast (the driver does it)
 *   Tile:   dX = dY as [r0, d0, r1, d1, ..], summed over the repeats
 */
import { defineOp, noCost } from './support/define-op.ts'
import { range, reshape, sumAxes, sumBack } from './support/emit.ts'

const ints = (values: readonly number[]) => ({ dims: [values.length], type: 'int64' as const, values })

export const expandOp = defineOp({
  op: 'Expand',
  fills: true,
  since: [8, 13],
  gradient: ({ node, dy, b }) => (dy[0] ? [sumBack(b, dy[0], node.output.dims, node.input(0).dims)] : []),
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'an axis of 1', inputs: [{ dims: [2, 1, 3] }, ints([2, 4, 3])] },
    { name: 'new leading axes', inputs: [{ dims: [3] }, ints([2, 4, 3])] },
    { name: 'the shape has ones', inputs: [{ dims: [2, 3] }, ints([1, 3])] },
    { name: 'opset 8', inputs: [{ dims: [1, 3] }, ints([2, 3])], opset: 8 },
  ],
})

export const tile = defineOp({
  op: 'Tile',
  fills: true,
  since: [6, 13],
  gradient({ node, dy, b }) {
    const g = dy[0]
    if (!g) return []
    const x = node.input(0).dims
    const split = x.flatMap((d, i) => [node.output.dims[i]! / d, d])
    const repeats = range(x.length).flatMap((i) => (split[2 * i]! > 1 ? [2 * i] : []))
    if (repeats.length === 0) return [g]
    return [reshape(b, sumAxes(b, reshape(b, g, split), split, repeats, false), x)]
  },
  cost: () => noCost,
  nonNegative: (_node, input) => input(0),
  samples: [
    { name: 'two axes', inputs: [{ dims: [2, 3] }, ints([2, 3])] },
    { name: 'once', inputs: [{ dims: [2, 3] }, ints([1, 1])] },
    { name: 'opset 7', inputs: [{ dims: [2, 1, 3] }, ints([1, 4, 2])], opset: 7 },
  ],
})
