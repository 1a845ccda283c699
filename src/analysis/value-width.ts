/**
 * The width that a constant's elements need, whatever container they are in.
 *
 * A DequantizeLinear's integers have the width of their type (INT4, UINT4, ...), of the Clip on them, or of an
 * `mnc.bits` mark. In containers of 8 bits or more that are not marked (of fewer on request) the width is what the values
 * need: the range that occurs, less a channel's common factor, where 16 values or more are not zero (a quantiser that uses
 * its container reaches its ends; fewer values say nothing).
 */

import type { Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { Tensor } from '../graph/tensor.ts'
import { type ElementType, elementTypes } from '../graph/types.ts'
import { constantSource } from '../layers/constants.ts'
import { QUANT_GUARD, quantPairOf } from '../layers/quant-pair.ts'
import { carriesElements, constantOf, dequantizeBehind, isConstantNode, isDequantize } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'

/** Contents of constants: all that `formatParts` names. */
export interface Contents {
  tensor(v: Value): Tensor
}

const TELLING = 16

/** Bits of signed or unsigned integers that hold lo..hi. */
export function widthOf(lo: number, hi: number): number {
  if (lo >= 0) return Math.max(1, Math.ceil(Math.log2(hi + 1)))
  return 1 + Math.ceil(Math.log2(Math.max(-lo, hi + 1)))
}

export interface ConstantFormat {
  readonly bits: number
  /** Elements are small integers times a scale. */
  readonly integer: boolean
  /** Scales stored next to the elements. */
  readonly scales: number
}

/** The constants whose contents `constantFormat` of `v` asks for. */
export function formatParts(v: Value): Value[] {
  const producer = dequantizeBehind(source(v))
  if (!producer) return [v, ...(factorsOf(v)?.slice(0, 1) ?? [])]
  // a mark says the width: the integers need not be rounded for it
  const inputs = marks.bits.has(producer) ? [producer.input(1)] : producer.inputs
  return [v, ...inputs.filter((x) => x !== null)]
}

function source(v: Value): Value {
  let at = v
  for (let n = at.producer; n && (carriesElements(n) || marks.role.get(n) === QUANT_GUARD); n = at.producer)
    at = n.input(0)
  return at
}

export interface FormatOptions {
  /** The largest width that a float counts as. */
  readonly floatBits: number
  /** That of the output channels, for the scales. */
  readonly axis: number | null
  /** Types of fewer than 8 bits are containers, too: 2-bit values in INT4. */
  readonly inNarrowTypes?: boolean
}

/** The format in which constant `v` can be stored. */
export function constantFormat(v: Value, constants: Contents, options: FormatOptions): ConstantFormat {
  const { floatBits, axis } = options
  const at = source(v)
  const node = at.producer
  if (node && isDequantize(node))
    return {
      bits: weightBits(node, constants, { ...options, axis: at === v ? axis : null }),
      integer: true,
      scales: constants.tensor(node.input(1)).size,
    }
  const tensor = constants.tensor(v)
  const float = { bits: floatBits, integer: false, scales: 0 }
  if (at.constant || (node && isConstantNode(node))) {
    const stored = (constantOf(at) ?? constants.tensor(at)).type
    return { ...float, bits: Math.min(floatBits, elementTypes[stored].bits), integer: /^u?int/.test(stored) }
  }
  return decodedFormat(v, node, tensor, axis) ?? scaledFormat(v, constants) ?? float
}

function weightBits(dequantize: Node, constants: Contents, { axis, inNarrowTypes }: FormatOptions): number {
  const below = dequantize.input(0)
  const pair = quantPairOf(dequantize)
  const container = pair?.container ?? elementOf(below) ?? 'int8'
  const bits = pair?.bits ?? (marks.bits.get(dequantize) || elementTypes[container].bits)
  if ((bits < 8 && (pair?.quantize || !inNarrowTypes)) || marks.bits.has(dequantize)) return bits
  const zeroPoint = dequantize.inputs[2] ? constants.tensor(dequantize.inputs[2]).toNumbers()[0]! : 0
  const integers = Float32Array.from(constants.tensor(below).toNumbers(), (q) => q - zeroPoint)
  if (integers.reduce((n, q) => n + (q === 0 ? 0 : 1), 0) < TELLING) return bits
  // a channel's common factor belongs to its scale
  const channels = constants.tensor(dequantize.input(1)).size > 1 ? axis : null
  const needed = gridBits(Tensor.float32(constants.tensor(below).dims, integers), channels)
  return Math.min(bits, needed ?? bits)
}

export const elementOf = (v: Value): ElementType | undefined => v.constant?.type ?? v.type?.elem

/**
 * A constant that is computed in another way: masked floats, or packed integers decoded to floats. Where integers of 8 bits
 * or fewer go in and what comes out is a grid of small integers times one scale per channel, that is its format.
 */
function decodedFormat(v: Value, node: Node | null, tensor: Tensor, axis: number | null): ConstantFormat | null {
  const widths = integerWidths(v)
  if (widths.length === 0) return null
  const marked = marks.bits.get(node) ?? marks.bits.get(v)
  const channels = axis === null ? 1 : tensor.dims[axis]!
  if (marked) return { bits: marked, integer: true, scales: channels }
  const bits = gridBits(tensor, axis)
  if (bits === null) return null
  // fewer bits than the narrowest stored type are a coincidence
  return { bits: Math.max(bits, Math.min(...widths.filter((w) => w < 8), bits)), integer: true, scales: channels }
}

/** What a product is made of. */
const factorsOf = (v: Value): [Value, Value] | null =>
  v.producer && findOp(v.producer)?.homogeneous?.(v.producer) === 'factor'
    ? [v.producer.input(0), v.producer.input(1)]
    : null

/** A product of decoded integers and scales that are repeated for groups of them. */
function scaledFormat(v: Value, constants: Contents): ConstantFormat | null {
  const factors = factorsOf(v)
  const sources = factors && constantSource(factors[1])?.filter((s) => elementOf(s)?.includes('float'))
  if (!factors || !sources || integerWidths(factors[0]).length === 0) return null
  const integers = constants.tensor(factors[0])
  const values = integers.toFloat32()
  if (!integers.type.includes('float') || values.some((q) => !Number.isInteger(q) || Math.abs(q) > 128)) return null
  const bits = values.reduce((most, q) => Math.max(most, widthOf(Math.min(q, 0), Math.max(q, 0))), 1)
  return { bits, integer: true, scales: sources.reduce((n, s) => n + s.constant!.size, 0) }
}

/** Widths of the integer types of 8 bits or fewer among the constants that `v` is computed from. */
function integerWidths(v: Value): number[] {
  const widths = new Set<number>()
  const seen = new Set<Value>()
  const visit = (x: Value): void => {
    if (seen.has(x)) return
    seen.add(x)
    const type = elementOf(x)
    if (type && /^u?int[248]$/.test(type)) widths.add(elementTypes[type].bits)
    for (const i of x.producer?.inputs ?? []) if (i) visit(i)
  }
  visit(v)
  return [...widths]
}

/** Smallest width, up to 8, at which every channel is a grid of integers times one scale; null: none. */
function gridBits(tensor: Tensor, axis: number | null): number | null {
  const values = tensor.toFloat32()
  const channels = axis === null ? 1 : tensor.dims[axis]!
  const inner = axis === null ? values.length : tensor.dims.slice(axis + 1).reduce((a, b) => a * b, 1)
  const perChannel: number[][] = Array.from({ length: channels }, () => [])
  for (let i = 0; i < values.length; i++)
    if (values[i] !== 0) perChannel[Math.floor(i / inner) % channels]!.push(values[i]!)
  let bits = 1
  for (const channel of perChannel) {
    const needed = channelBits(channel)
    if (needed === null) return null
    bits = Math.max(bits, needed)
  }
  return bits
}

/** Distance from an integer, in levels, that float32 rounding of the decode explains (128 * 2^-24, with room). */
const GRID_ERROR = 1e-3

function channelBits(values: readonly number[]): number | null {
  let top = 0
  for (const w of values) top = Math.max(top, Math.abs(w))
  for (let k = 1; k <= 128; k++) {
    let [lo, hi] = [0, 0]
    const fits = values.every((w) => {
      const q = (w / top) * k
      const r = Math.round(q)
      lo = Math.min(lo, r)
      hi = Math.max(hi, r)
      return Math.abs(q - r) < GRID_ERROR
    })
    // a channel's sign belongs to its scale: 8 of a negative one is the -8 of 4 bits
    if (fits) return Math.min(widthOf(lo, hi), widthOf(-hi, -lo))
  }
  return null
}
