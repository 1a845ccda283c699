/**
 * Col2Im: the columns of sliding blocks added up into an image.
 *
 *   dX = dY, padded, read at the position that each element of the columns was added to
 *
 * Positions depend on shapes only; the graph adds them up out of one line per axis. Does not apply to computed shapes.
 */
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, type GradientContext, noCost, outputSize, unsupportedNode } from './support/define-op.ts'
import { product, range, reshape } from './support/emit.ts'

function gradient({ node, dy: [g], b }: GradientContext): (Value | null)[] {
  if (!g) return []
  const x = node.input(0)
  const [image, block] = [1, 2].map((i) => constantOf(node.inputs[i])?.toNumbers())
  if (!image || !block) throw unsupportedNode(node, 'no gradient: its shapes are computed', 'run fold-constants')
  const rank = image.length
  const ones = range(rank).map(() => 1)
  const [strides, dilations] = [node.ints('strides', ones), node.ints('dilations', ones)]
  const pads = node.ints('pads', [...ones, ...ones].fill(0))
  const padded = Array.from(image, (d, i) => d + pads[i]! + pads[i + rank]!)
  const blocks = padded.map((d, i) => Math.floor((d - dilations[i]! * (block[i]! - 1) - 1) / strides[i]!) + 1)
  const around = b.ints([0, 0, ...pads.slice(0, rank), 0, 0, ...pads.slice(rank)])
  const whole = pads.some((p) => p > 0) ? b.op('Pad', [g, around]) : g
  const lines = reshape(b, whole, [...g.dims.slice(0, 2), product(padded)])
  const at = positions(b, { block: Array.from(block), blocks, padded, strides, dilations })
  return [reshape(b, b.op('Gather', [lines, at], { axis: 2 }), x.dims)]
}

interface Blocks {
  readonly block: readonly number[]
  readonly blocks: readonly number[]
  readonly padded: readonly number[]
  readonly strides: readonly number[]
  readonly dilations: readonly number[]
}

/** Where each element of a channel's columns goes in the padded image: [..block, ..blocks]. */
function positions(b: Builder, { block, blocks, padded, strides, dilations }: Blocks): Value {
  const rank = block.length
  const line = (axis: number, count: number, step: number): Value => {
    const dims = range(2 * rank).map((i) => (i === axis ? count : 1))
    return b.initializer(
      'positions',
      Tensor.from(
        'int32',
        dims,
        Int32Array.from({ length: count }, (_, i) => i * step),
      ),
    )
  }
  const lines = range(rank).flatMap((i) => {
    const step = product(padded.slice(i + 1))
    return [line(i, block[i]!, dilations[i]! * step), line(rank + i, blocks[i]!, strides[i]! * step)]
  })
  return lines.reduce((sum, l) => b.op('Add', [sum, l]))
}

const ints = (...values: number[]) => ({ dims: [values.length], type: 'int64' as const, values })

export const col2Im = defineOp({
  op: 'Col2Im',
  since: [18],
  gradient,
  cost: (node) => ({ ...noCost, adds: outputSize(node) }),
  samples: [
    { name: 'overlapping', inputs: [{ dims: [1, 8, 6] }, ints(3, 4), ints(2, 2)] },
    {
      name: 'padded, strided, dilated',
      inputs: [{ dims: [2, 4, 4] }, ints(4, 4), ints(2, 2)],
      attributes: { pads: [1, 1, 1, 1], strides: [2, 2], dilations: [2, 2] },
    },
    { name: 'a line', inputs: [{ dims: [1, 6, 5] }, ints(7), ints(3)] },
    { name: 'a volume', inputs: [{ dims: [1, 8, 6] }, ints(2, 3, 4), ints(2, 2, 2)] },
  ],
})
