/**
 * Quantises in front of a pool, too, that picks elements of what an integer kernel can give: without a quantiser right behind it
 * that kernel would be one of floats.
 *
 *   x -> MaxPool -> q -> dq   becomes   x -> q -> dq -> MaxPool -> q -> dq
 *
 * The second pair changes nothing, as rounding keeps the order; the engine pools the bytes. Behind a float kernel a pool stays as it is:
 * there it has the kernel's layout, and of bytes in that of the file it is slow (SqueezeNet's first, 64 x 111 x 111: 13.6 ms,
 * 0.18 in floats). Does not apply where a value has quantisers of several steps.
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { quantPairOf } from '../../layers/quant-pair.ts'
import { carriesElements, constantOf, dequantizeBehind, isClip, isRectifier } from '../../ops/facts.ts'
import { findOp, layerSlot } from '../../ops/index.ts'
import { isCrossed } from '../../quant/quant-guard.ts'
import type { Layer } from '../weights/fold-affine.ts'

export function quantisePools(graph: Graph, layers: ReadonlyMap<Node, Layer>): void {
  for (const d of [...graph.nodes()]) {
    const pair = quantPairOf(d)
    const pool = pair?.quantize && pair.axis === null ? pair.source.producer : null
    if (!pool || !picks(pool) || pool.output.isOutput) continue
    const readers = [...pool.output.uses]
    if (readers.length > 1 || !isOfIntegers(pool.input(0), layers)) continue
    let v = pool.input(0)
    const b = graph.before(pool)
    for (const n of [pair!.quantize, pair!.clip, pair!.dequantize]) {
      if (!n) continue
      const attributes = Object.fromEntries(n.attributes)
      v = b.op(n.op, [v, ...n.inputs.slice(1)], attributes, { name: n.output.name, type: null })
    }
    pool.setInput(0, v)
  }
}

/** Quantisers go across it, and it is more than another shape or order of the same elements. */
export const picks = (n: Node): boolean => isCrossed(n) && !carriesElements(n)

/** Whether an integer kernel can give the value, and nothing but the pool reads it. */
function isOfIntegers(v: Value, layers: ReadonlyMap<Node, Layer>): boolean {
  const node = v.producer
  if (!node || v.uses.size > 1 || v.isOutput) return false
  if (isRectifier(node) || isClip(node)) return isOfIntegers(node.input(0), layers)
  const weight = layers.get(node)?.weight
  if (layerSlot(node)) return weight?.ints != null && weight.block === 0 && dequantizeBehind(node.input(0)) !== null
  const read = node.inputs.filter((i) => i && !constantOf(i))
  return findOp(node)?.integerKernel !== undefined && read.every((i) => dequantizeBehind(i))
}
