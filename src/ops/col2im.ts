/**
 * Col2Im: the columns of sliding blocks added up into an image, differentiated as a ScatterElements into the padded
 * image, whose positions depend on shapes only.
 */
import type { Node } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { defineOp, noCost, outputSize, unsupportedNode } from './define-op.ts'
import { expand, product, range, reshape, zeros } from './emit.ts'
import { substitute } from './rewrite.ts'
import { constantOf, elemOf } from './rules.ts'

function decompose(node: Node): void {
  const b = node.graph.before(node)
  const x = node.input(0)
  const [image, block] = [1, 2].map((i) => constantOf(node.inputs[i])?.toNumbers())
  if (!image || !block) throw unsupportedNode(node, 'no gradient: its shapes are computed', 'run fold-constants')
  const rank = image.length
  const ones = range(rank).map(() => 1)
  const [strides, dilations] = [node.ints('strides', ones), node.ints('dilations', ones)]
  const pads = node.ints('pads', [...ones, ...ones].fill(0))
  const padded = Array.from(image, (d, i) => d + pads[i]! + pads[i + rank]!)
  const blocks = padded.map((d, i) => Math.floor((d - dilations[i]! * (block[i]! - 1) - 1) / strides[i]!) + 1)
  const at = positions(Array.from(block), blocks, padded, strides, dilations)
  const [batch, rows] = x.dims as [number, number]
  const channels = rows / product(Array.from(block))
  const lines = [batch, channels, at.length]
  const index = expand(b, b.initializer('positions', Tensor.int64([1, 1, at.length], at)), lines)
  const into = zeros(b, [batch, channels, product(padded)], elemOf(x))
  const sum = b.op('ScatterElements', [into, index, reshape(b, x, lines)], { axis: 2, reduction: 'add' })
  const axes = range(rank).map((i) => i + 2)
  const starts = b.ints(pads.slice(0, rank))
  const ends = b.ints(Array.from(image, (d, i) => d + pads[i]!))
  substitute(node, [b.op('Slice', [reshape(b, sum, [batch, channels, ...padded]), starts, ends, b.ints(axes)])])
}

/** Where each element of a channel's columns goes in the padded image: kernel offsets first, then blocks. */
function positions(
  block: readonly number[],
  blocks: readonly number[],
  padded: readonly number[],
  strides: readonly number[],
  dilations: readonly number[],
): number[] {
  const grid = (dims: readonly number[]): number[][] =>
    dims.reduce<number[][]>((all, d) => all.flatMap((p) => range(d).map((i) => [...p, i])), [[]])
  return grid(block).flatMap((k) =>
    grid(blocks).map((o) =>
      k.reduce((p, offset, i) => p * padded[i]! + offset * dilations[i]! + o[i]! * strides[i]!, 0),
    ),
  )
}

const ints = (...values: number[]) => ({ dims: [values.length], type: 'int64' as const, values })

export const col2Im = defineOp({
  op: 'Col2Im',
  since: [18],
  gradient: 'decompose',
  decompose,
  cost: (node) => ({ ...noCost, adds: outputSize(node) }),
  samples: [
    { name: 'overlapping', inputs: [{ dims: [1, 8, 6] }, ints(3, 4), ints(2, 2)] },
    {
      name: 'padded, strided, dilated',
      inputs: [{ dims: [2, 4, 4] }, ints(4, 4), ints(2, 2)],
      attributes: { pads: [1, 1, 1, 1], strides: [2, 2], dilations: [2, 2] },
    },
  ],
})
