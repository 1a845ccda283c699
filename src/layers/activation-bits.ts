/**
 * Width of a layer's rounded input, where something other than a plain quantiser (quant-pair.ts) rounds it: the forms
 * that an export writes.
 *
 *   Clip(x, lo*s, hi*s) -> QuantizeLinear(s) -> Cast -> [Mul s]
 *   QuantizeLinear(s, zero point z) -> Max(q, z + lo) -> DequantizeLinear
 */
import type { Node, Value } from '../graph/graph.ts'
import { elementTypes } from '../graph/types.ts'
import { isCast, isClip, isDequantize, isFloor, quantizeBehind } from '../ops/facts.ts'
import { quantPairOf, rangeOf } from './quant-pair.ts'

/** Integers times constant scales, as an export writes it: the end of a decode, or the scale after an activation's levels. */
export const isScaled = (n: Node): boolean => n.is('Mul') && n.input(1).constant !== null

/** null where the value is not rounded in a way known here. */
export function roundedBits(value: Value): number | null {
  let node = value.producer
  if (node && isScaled(node) && node.input(1).constant!.size === 1) node = node.input(0).producer
  if (!node || !(isDequantize(node) || isCast(node))) return null
  const pair = quantPairOf(node)
  if (pair) return pair.bits
  const [quantize, floor] = behindMax(node.input(0))
  const scale = quantize?.inputs[1]?.constant
  if (!quantize || scale?.size !== 1) return null
  const zero = quantize.inputs[2]?.constant
  const [min, max] = rangeOf(zero?.type ?? 'uint8') ?? [0, 0]
  const z = zero?.size === 1 ? zero.item() : 0
  const [below, above] = limitsOf(quantize.input(0).producer, scale.item())
  const lo = Math.max(min - z, below, floor === null ? min - z : floor - z)
  const hi = Math.min(max - z, above)
  if (hi <= lo) return null
  return Math.min(elementTypes[zero?.type ?? 'uint8'].bits, Math.ceil(Math.log2(hi - lo + 1)))
}

/** The QuantizeLinear that makes the integers, and the least of them that a Max leaves. */
function behindMax(integers: Value): [Node | null, number | null] {
  const node = integers.producer
  if (!node || !isFloor(node)) return [quantizeBehind(integers), null]
  const below = quantizeBehind(node.input(0))
  const floor = node.inputs[1]?.constant
  return below && floor?.size === 1 ? [below, floor.item()] : [null, null]
}

/** Integers that a Clip in front of the quantiser leaves possible. */
function limitsOf(node: Node | null, scale: number): [number, number] {
  const at = (i: number, open: number): number => {
    const limit = node && isClip(node) ? node.inputs[i]?.constant : null
    return limit?.size === 1 ? Math.round(limit.item() / scale) : open
  }
  return [at(1, Number.NEGATIVE_INFINITY), at(2, Number.POSITIVE_INFINITY)]
}
