/**
 * Sums of a blocked value: over images and positions ([C]), over positions ([N, C, ...]), or over everything. The sum of a
 * product that nothing else reads is taken without the product (BlockedLayout.imageProducts).
 */
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { findOp } from '../../ops/index.ts'
import type { BlockedLayout, Twin } from './layout.ts'

export function blockReduceSum(node: Node, layout: BlockedLayout): boolean {
  const x = layout.twin(node.inputs[0])
  if (!x || (!node.inputs[1] && node.int('noop_with_empty_axes', 0) !== 0)) return false
  const axes = node.inputs[1] ? Array.from(node.inputs[1].constant?.toNumbers() ?? [-1]).sort() : [0, 1, 2, 3]
  if (axes.join() === '0,1,2,3') {
    if (!layout.isWhole(x)) return false
    node.setInput(0, x.value)
    return true
  }
  const keeps = node.int('keepdims', 1) !== 0
  const b = layout.graph.before(node)
  const factors = factorsOf(node.input(0), x, layout)
  const [n, c, h, w] = x.dims
  if (axes.join() === '0,2,3') {
    const sum = factors
      ? layout.channelProducts(b, ...factors)
      : b.op('Mul', [layout.channelMean(b, x), b.scalar(n * h * w)])
    return stands(node, sum, keeps ? [1, c, 1, 1] : [c], b)
  }
  if (axes.join() !== '2,3') return false
  const sum = factors ? layout.imageProducts(b, ...factors) : b.op('Mul', [layout.imageMeans(b, x), b.scalar(h * w)])
  return stands(node, sum, keeps ? [n, c, 1, 1] : [n, c], b)
}

/** The mean over positions, [N, C, 1, 1]: in the plain layout, since it is small. */
export function blockGlobalAveragePool(node: Node, layout: BlockedLayout): boolean {
  const x = layout.twin(node.input(0))
  if (!x) return false
  const b = layout.graph.before(node)
  return stands(node, layout.imageMeans(b, x), [x.dims[0], x.dims[1], 1, 1], b)
}

function stands(node: Node, v: Value, dims: readonly number[], b: Builder): boolean {
  const y = b.op('Reshape', [v, b.ints(dims)], {}, { type: node.output.type })
  node.graph.replaceUses(node.output, y)
  node.graph.remove(node)
  return true
}

/** The two blocked values whose product is summed here only. */
function factorsOf(plain: Value, { value, dims }: Twin, layout: BlockedLayout): readonly [Twin, Twin] | null {
  const product = value.producer
  const alone = !plain.isOutput && plain.uses.size === 1 && [...value.uses].every((n) => n === plain.producer)
  if (!product || findOp(product)?.channels?.(product) !== 'product' || product.inputs.length !== 2 || !alone)
    return null
  const [x, y] = [product.input(0), product.input(1)]
  const isFactor = (v: Value): boolean => layout.isBlocked(v, dims)
  return isFactor(x) && isFactor(y)
    ? [
        { value: x, dims },
        { value: y, dims },
      ]
    : null
}
