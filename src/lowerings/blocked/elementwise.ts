/**
 * Operators for which it does not matter where an element is: each works on blocked values as it is. An operand may be one
 * number, or one per channel, or one per channel of each image, which is spread over the blocks. Applies where all operands
 * with positions are blocked already, or some are and the result is wanted blocked. Where channels do not fill the blocks,
 * only to operators that give finite numbers for finite ones.
 */

import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { isStatic } from '../../graph/types.ts'
import { isAddition, isRectifier } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'
import { isConv } from './conv.ts'
import { type BlockedLayout, DOMAIN, type Twin } from './layout.ts'

/** Of one operand, then of several; finite for finite operands. */
const boundedOps = [
  ...['Abs', 'Ceil', 'Clip', 'Elu', 'Erf', 'Floor', 'HardSigmoid', 'HardSwish', 'LeakyRelu', 'Neg', 'Relu', 'Round'],
  ...['Sigmoid', 'Sign', 'Softplus', 'Tanh', 'ThresholdedRelu', 'Add', 'Max', 'Min', 'Mul', 'Sub', 'Sum'],
]
/** Of these a finite operand may have a result that is not. */
const unboundedOps = ['Exp', 'Log', 'Reciprocal', 'Sqrt', 'Div']
export const elementwiseOps: readonly string[] = [...boundedOps, ...unboundedOps]
/** ONNX's number for float32. */
const FLOAT = 1

export function blockElementwise(node: Node, layout: BlockedLayout): boolean {
  const inputs = node.inputs as readonly Value[]
  const twins = inputs.map((v) => layout.twin(v))
  const first = twins.find((t) => t !== null)
  if (!first || inputs.some((v) => v === null)) return false
  const { dims } = first
  const kinds = inputs.map((v, i) => (twins[i] ? 'twin' : operandKind(v, dims)))
  if (kinds.includes(null) || twins.some((t) => t && t.dims.join() !== dims.join())) return false
  if (kinds.includes('plain') && !layout.wanted.has(node.output)) return false
  // of two operands: a quotient
  const bounded = !unboundedOps.includes(node.op) || kinds[1] === 'one'
  if (!layout.isWhole(first) && !bounded) return false
  if (fusedRelu(node, first, layout) || fusedAdd(node, twins, layout)) return true
  const b = layout.graph.before(node)
  kinds.forEach((kind, i) => {
    if (kind === 'plain') twins[i] = layout.twinOf(b, inputs[i]!, dims)
  })
  const attributes = Object.fromEntries(node.attributes)
  const spreads = kinds.some((kind) => kind === 'channels' || kind === 'images')
  if (!spreads) {
    const y = b.op(
      node.op,
      inputs.map((v, i) => twins[i]?.value ?? v),
      attributes,
      { type: layout.typeOf(dims) },
    )
    layout.replace(node, y, dims[1], dims)
    return true
  }
  const fused = affineForm(node, twins, kinds, layout, b)
  if (fused) {
    layout.replace(node, fused, dims[1], dims)
    return true
  }
  const blocks = layout.filled(dims[1]) / layout.block
  const spread = (v: Value, lead: readonly number[]): Value => {
    const flat = b.op('Reshape', [v, b.ints([...lead, dims[1]])])
    return b.op('Reshape', [
      layout.filledUp(b, flat, lead.length + 1, dims[1]),
      b.ints([...lead, blocks, 1, 1, layout.block]),
    ])
  }
  const opened = inputs.map((v, i) => {
    const t = twins[i]
    if (t) return layout.opened(b, t)
    if (kinds[i] === 'channels') return spread(v, [])
    return kinds[i] === 'images' ? spread(v, [dims[0]]) : v
  })
  layout.replace(node, layout.closed(b, b.op(node.op, opened, attributes), dims), dims[1], dims)
  return true
}

type Kind = ReturnType<typeof operandKind> | 'twin'

/** A product with numbers of channels, a product or a sum with numbers of the channels of each image: convolutions. */
function affineForm(
  node: Node,
  twins: readonly (Twin | null)[],
  kinds: readonly Kind[],
  layout: BlockedLayout,
  b: Builder,
): Value | null {
  const t = twins.find((twin) => twin !== null)
  const other = node.inputs[kinds.findIndex((kind) => kind === 'channels' || kind === 'images')]
  if (!t || !other || node.inputs.length !== 2) return null
  const isProduct = findOp(node)?.channels?.(node) === 'product'
  if (kinds.includes('channels')) return isProduct ? layout.affine(b, t, other, null) : null
  if (isProduct) return layout.affineOfImages(b, t, other, null)
  return isAddition(node) ? layout.affineOfImages(b, t, null, other) : null
}

/**
 * A mask: a comparison as 0 and 1. The two go together, since truth values cannot be reordered; the comparison itself stays
 * where something else reads it.
 */
export function blockMask(node: Node, layout: BlockedLayout): boolean {
  const test = node.input(0).producer
  const twins = test?.inputs.map((v) => layout.twin(v)) ?? []
  if (node.int('to', 0) !== FLOAT || !test || !findOp(test)?.comparison || twins.some((t) => t === null)) return false
  const [x, y] = twins as [Twin, Twin]
  if (x.dims.join() !== y.dims.join()) return false
  const b = layout.graph.before(node)
  const truth = b.op(test.op, [x.value, y.value])
  const mask = b.op('Cast', [truth], Object.fromEntries(node.attributes), { type: layout.typeOf(x.dims) })
  layout.replace(node, mask, x.dims[1], x.dims)
  return true
}

/**
 * One number, one per channel ([C,1,1] or [1,C,1,1]), one per channel of each image ([N,C,1,1]), or all of them in the
 * plain layout; null: anything else.
 */
function operandKind(v: Value, whole: Twin['dims']): 'one' | 'channels' | 'images' | 'plain' | null {
  const dims = v.constant?.dims ?? v.type?.dims ?? shapeOf(v)
  if (!isStatic(dims) || dims.length > 4) return null
  if (dims.every((d) => d === 1)) return 'one'
  if (dims.join() === whole.join()) return 'plain'
  const [c, h, w] = dims.slice(-3)
  if (c !== whole[1] || h !== 1 || w !== 1) return null
  if (dims.slice(0, -3).every((d) => d === 1)) return 'channels'
  return dims[0] === whole[0] ? 'images' : null
}

/** The dims that a Reshape to a constant shape gives. */
function shapeOf(v: Value): readonly number[] | null {
  if (!v.producer?.is('Reshape')) return null
  const shape = Array.from(v.producer.input(1).constant?.toNumbers() ?? [0])
  return shape.every((d) => d > 0) ? shape : null
}

/** A Relu that alone reads a blocked convolution becomes a part of it. */
function fusedRelu(node: Node, { value, dims }: Twin, layout: BlockedLayout): boolean {
  if (!isRectifier(node) || !readAlone(node, 0, value)) return false
  value.producer!.setAttribute('activation', 'Relu')
  layout.replace(node, value, dims[1], dims)
  return true
}

/** So does an Add: the convolution adds to what is there, in the same memory where nothing else reads that later. */
function fusedAdd(node: Node, twins: readonly (Twin | null)[], layout: BlockedLayout): boolean {
  if (!isAddition(node)) return false
  const at = [1, 0].find((i) => twins[i] && twins[1 - i] && readAlone(node, i, twins[i]!.value))
  if (at === undefined) return false
  const { value, dims } = twins[at]!
  const conv = value.producer!
  if (conv.inputs.length > 3 || twins[1 - at]!.value === value) return false
  const inputs = [conv.input(0), conv.input(1), conv.inputs[2] ?? null, twins[1 - at]!.value]
  const sum = layout.graph.before(node).op('Conv', inputs, Object.fromEntries(conv.attributes), { domain: DOMAIN })
  layout.replace(node, sum, dims[1], dims)
  return true
}

/** Whether input `i` of `node` is a blocked convolution, without activation, that nothing else reads. */
function readAlone(node: Node, i: number, value: Value): boolean {
  const conv = value.producer
  if (conv?.domain !== DOMAIN || !isConv(conv) || conv.attributes.has('activation')) return false
  const plain = node.input(i)
  const readers = [...plain.uses]
  return !plain.isOutput && readers.length === 1 && [...value.uses].every((n) => n === plain.producer)
}
