/**
 * Widths of computed values: which activations are low-bit integers. Their width is that of the quantiser, and in
 * containers of 8 bits or more that are not marked what the operators before leave possible (a ReLU, a Clip, or
 * Max(q, zeroPoint) on the integers).
 */

import { elementOf, widthOf } from '../analysis/value-width.ts'
import type { Node } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { quantPairOf, rangeOf } from '../layers/quant-pair.ts'
import type { Constants } from './constants.ts'

/** What is known about a computed value: width, whether it is an integer (times a scale), and bounds. */
export interface Facts {
  readonly bits: number
  readonly integer: boolean
  readonly lo: number
  readonly hi: number
  /** Of an integer tensor: the scale that it was quantised with. */
  readonly scale?: Tensor
}

/** Facts after a QuantizeLinear of `x`. */
export function quantizedFacts(node: Node, x: Facts, constants: Constants): Facts {
  const scale = constants.tensor(node.input(1))
  const zero = node.inputs[2] ? constants.tensor(node.inputs[2]).toNumbers() : [0]
  const container = elementOf(node.output) ?? 'uint8'
  const [min, max] = rangeOf(container) ?? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]
  const clamp = (q: number): number => Math.min(max, Math.max(min, q))
  const bits = elementTypes[container].bits
  const one = scale.size === 1
  const step = (bound: number): number => clamp(Math.round(bound / scale.toNumbers()[0]!) + zero[0]!)
  const lo = one ? step(x.lo) : x.lo >= 0 ? clamp(Math.min(...Array.from(zero))) : min
  return { bits, integer: true, lo, hi: one ? step(x.hi) : max, scale }
}

/** Facts after a DequantizeLinear of the integers `q`. */
export function dequantizedFacts(node: Node, q: Facts, constants: Constants): Facts {
  const scale = constants.tensor(node.input(1))
  const zero = node.inputs[2] ? constants.tensor(node.inputs[2]).toNumbers()[0]! : 0
  const marked = Number(marks.bits.get(node))
  const clipped = quantPairOf(node)?.bits ?? q.bits
  const inContainer = Math.min(q.bits, clipped)
  const [lo, hi] = [q.lo - zero, q.hi - zero]
  const bits = marked || (inContainer < 8 ? inContainer : Math.min(inContainer, widthOf(lo, hi)))
  const s = scale.size === 1 ? scale.toNumbers()[0]! : null
  const bound = (x: number, open: number): number => (x === 0 ? 0 : s === null ? open : x * s)
  return {
    bits,
    integer: true,
    lo: bound(lo, lo > 0 ? 0 : Number.NEGATIVE_INFINITY),
    hi: bound(hi, Number.POSITIVE_INFINITY),
  }
}
