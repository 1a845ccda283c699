/** Integer convolutions whose channels can be put elsewhere, with others of zeros between them. */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { marks } from '../../graph/marks.ts'
import { Tensor } from '../../graph/tensor.ts'
import { isStatic } from '../../graph/types.ts'
import { biasOf, dequantizeBehind, groupsOf, setBias } from '../../ops/facts.ts'
import { channelSlot } from '../../ops/index.ts'

/** Where the channels of a value are among those that it is stored with. */
export interface Channels {
  readonly size: number
  readonly at: readonly number[]
  /** Nothing is added. */
  readonly isPlain: boolean
}

/** All of them first. */
export const plain = (count: number, size = count): Channels => ({
  size,
  at: Array.from({ length: count }, (_, c) => c),
  isPlain: size === count,
})

export interface IntegerConv {
  readonly node: Node
  readonly isDepthwise: boolean
  /** [out, in of a group, ...] */
  readonly dims: readonly number[]
  /** The DequantizeLinear nodes of weights and bias. */
  readonly weights: Node
  readonly bias: Node | null
}

type DimsOf = (v: Value) => readonly (number | string | null)[] | null

/** A convolution of an image of bytes with weights after a DequantizeLinear, of one group or one a channel; null for others. */
export function integerConv(node: Node, dimsOf: DimsOf): IntegerConv | null {
  const slot = channelSlot(node)
  if (slot?.channels !== 'window' || slot.transposed || !dequantizeBehind(node.input(0))) return null
  const weights = dequantizeBehind(node.input(1))
  const dims = dimsOf(node.input(1))
  if (!weights || !isStatic(dims) || dims.length !== 4 || !isByChannel(weights)) return null
  const added = biasOf(node)
  const bias = added && dequantizeBehind(added)
  if (added && !(bias && isByChannel(bias) && bias.input(0).constant)) return null
  const groups = groupsOf(node)
  const isDepthwise = groups > 1 && groups === dims[0] && dims[1] === 1
  return groups === 1 || isDepthwise ? { node, isDepthwise, dims, weights, bias } : null
}

const isByChannel = (d: Node): boolean =>
  d.inputs.length === 2 && d.input(1).constant !== null && (d.input(1).constant!.size === 1 || d.int('axis', 1) === 0)

/** Gives the convolution weights and biases for channels that are stored elsewhere. */
export function relay(conv: IntegerConv, x: Channels, y: Channels): void {
  const { node, weights, bias, isDepthwise } = conv
  const b = node.graph.before(node)
  const moved = isDepthwise ? [y] : [y, x]
  node.setInput(1, scaled(b, weights, moveWeights(b, weights.input(0), conv.dims, moved), y))
  if (bias) setBias(node, scaled(b, bias, b.initializer('_b', spread(bias.input(0).constant!, [y], 0)), y))
  if (!marks.ownWeights.has(node))
    marks.ownWeights.set(
      node,
      conv.dims.reduce((n, d) => n * d, 1),
    )
  if (isDepthwise) node.setAttribute('group', y.size)
  for (const old of [weights, bias]) if (old && !old.output.isUsed) drop(old)
}

function drop(node: Node): void {
  const read = node.inputs
  node.graph.remove(node)
  for (const v of read) {
    if (!v || v.isUsed) continue
    if (v.constant && !v.producer) node.graph.removeInitializer(v)
    else if (v.producer) drop(v.producer)
  }
}

/** The integers with the scales of `d`; channels that were added have that of the first. */
function scaled(b: Builder, d: Node, integers: Value, y: Channels): Value {
  const scale = d.input(1).constant!
  if (scale.size === 1) return b.op('DequantizeLinear', [integers, d.input(1)], {}, { name: '_w' })
  const all = b.initializer('_s', spread(scale, [y], scale.toNumbers()[0]!))
  return b.op('DequantizeLinear', [integers, all], { axis: 0 }, { name: '_w' })
}

/** In the file where the integers are; computed where they are decoded, which is done at load. */
function moveWeights(b: Builder, v: Value, dims: readonly number[], moved: readonly Channels[]): Value {
  if (v.constant) return b.initializer('_q', spread(v.constant, moved, 0))
  const rank = dims.length
  // zeros behind all; where Concat put some between channels, one that takes every such place
  const isBehind = ({ at }: Pick<Channels, 'at'>): boolean => at.every((i, c) => i === c)
  const added = ({ size, at }: Channels): number => (isBehind({ at }) ? size - at.length : 1)
  const ends = dims.map((_, i) => (moved[i] && !moved[i].isPlain ? added(moved[i]) : 0))
  let w = b.op('Pad', [v, b.ints([...new Array<number>(rank).fill(0), ...ends])], {}, { name: '_q' })
  for (const [axis, layout] of moved.entries()) {
    if (layout.isPlain || isBehind(layout)) continue
    const { size, at } = layout
    const from = new Array<number>(size).fill(at.length)
    for (const [c, i] of at.entries()) from[i] = c
    w = b.op('Gather', [w, b.ints(from)], { axis }, { name: '_q' })
  }
  return w
}

/** The tensor's entries along its first axes put where the channels are, `fill` elsewhere. */
function spread(tensor: Tensor, moved: readonly Channels[], fill: number): Tensor {
  const from = tensor.toNumbers()
  const dims = tensor.dims.map((d, i) => moved[i]?.size ?? d)
  const to = new Float64Array(dims.reduce((n, d) => n * d, 1)).fill(fill)
  const [y, x] = moved
  const columns = x ? tensor.dims[1]! : 1
  const inner = tensor.size / (tensor.dims[0]! * columns)
  for (let o = 0; o < tensor.dims[0]!; o++)
    for (let c = 0; c < columns; c++) {
      const source = (o * columns + c) * inner
      const target = (y!.at[o]! * (x?.size ?? 1) + (x?.at[c] ?? 0)) * inner
      for (let i = 0; i < inner; i++) to[target + i] = Number(from[source + i])
    }
  return Tensor.from(tensor.type, dims, to)
}
