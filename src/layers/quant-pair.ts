/**
 * A quantiser as it is in a graph: [guard] -> QuantizeLinear -> [Clip on the integers] -> DequantizeLinear, or the
 * DequantizeLinear alone after an integer constant.
 *
 *   y = (clamp(round_half_even(x / scale) + zeroPoint, lo, hi) - zeroPoint) * scale
 *
 * A Cast to the very type that the integers have (PyTorch's exporter writes one) is skipped. The Clip between them
 * narrows 8-bit containers to widths that ONNX has no type for (2, 3, 5, 6, 7 bits). Does not apply to blocked
 * quantisation (block_size) and to float8: those give null.
 */

import type { Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { type ElementType, elementTypes } from '../graph/types.ts'
import { castType, constantOf, isCast, isClip, isDequantize, quantizeBehind } from '../ops/facts.ts'

/** Node metadata `mnc.role` of the identity that keeps onnxruntime from rewriting what lies before (quant-guard.ts). */
export const QUANT_GUARD = 'quant-guard'

export interface QuantPair {
  /** From the DequantizeLinear back. */
  readonly nodes: readonly Node[]
  /** The identity that keeps onnxruntime from rewriting what lies before (quant-guard.ts). */
  readonly guard: Node | null
  readonly quantize: Node | null
  readonly clip: Node | null
  readonly dequantize: Node
  /** What is quantised: a float value, or the integer constant. */
  readonly source: Value
  readonly scale: Value
  readonly zeroPoint: Value | null
  readonly container: ElementType
  /** Integers it can give, zero point included. */
  readonly lo: number
  readonly hi: number
  /** Width in bits: that of [lo, hi], or `mnc.bits`. */
  readonly bits: number
  /** Axis of per-channel scales; null for one scale. */
  readonly axis: number | null
}

const ranges: Partial<Record<ElementType, readonly [number, number]>> = {
  int2: [-2, 1],
  uint2: [0, 3],
  int4: [-8, 7],
  uint4: [0, 15],
  int8: [-128, 127],
  uint8: [0, 255],
  int16: [-32768, 32767],
  uint16: [0, 65535],
  int32: [-(2 ** 31), 2 ** 31 - 1],
}

/** The integers that a container holds; undefined for types that do not quantise. */
export const rangeOf = (type: ElementType): readonly [number, number] | undefined => ranges[type]

/** The quantiser that ends in this DequantizeLinear; null where it has another form. */
export function quantPairOf(dequantize: Node): QuantPair | null {
  if (!isDequantize(dequantize) || dequantize.int('block_size', 0) > 0) return null
  const scale = dequantize.input(1)
  const zeroPoint = dequantize.inputs[2] ?? null
  const casts: Node[] = []
  const below = behindCasts(dequantize.input(0), casts)
  const clip = below.producer && isClip(below.producer) ? below.producer : null
  const integers = clip ? behindCasts(clip.input(0), casts) : below
  const quantize = quantizeBehind(integers)
  if (!quantize && (clip || !integers.constant)) return null
  if (quantize && !sameParameters(quantize, dequantize)) return null
  const container = integers.constant?.type ?? zeroTypeOf(quantize, zeroPoint)
  const range = container && ranges[container]
  if (!container || !range || casts.some((n) => castType(n) !== container)) return null
  const lo = limit(clip?.inputs[1], range[0])
  const hi = limit(clip?.inputs[2], range[1])
  if (lo === null || hi === null) return null
  const known = constantOf(scale)
  const scaleDims = known?.dims ?? scale.type?.dims
  const marked = marks.bits.get(dequantize)
  const before = quantize?.input(0).producer
  const guard = before && marks.role.get(before) === QUANT_GUARD ? before : null
  return {
    nodes: [dequantize, ...casts, clip, quantize, guard].filter((n) => n !== null),
    guard,
    quantize,
    clip,
    dequantize,
    source: guard?.input(0) ?? quantize?.input(0) ?? integers,
    scale,
    zeroPoint,
    container,
    lo,
    hi,
    bits: marked || (clip ? Math.ceil(Math.log2(hi - lo + 1)) : elementTypes[container].bits),
    axis: scaleDims?.length === 1 && known?.size !== 1 ? dequantize.int('axis', 1) : null,
  }
}

function behindCasts(v: Value, casts: Node[]): Value {
  let at = v
  for (let n = at.producer; n && isCast(n); n = at.producer) {
    casts.push(n)
    at = n.input(0)
  }
  return at
}

/** Both halves read the same scale and zero point, by object or by content. */
function sameParameters(quantize: Node, dequantize: Node): boolean {
  const same = (i: number): boolean => {
    const a = quantize.inputs[i] ?? null
    const b = dequantize.inputs[i] ?? null
    const [u, v] = [constantOf(a), constantOf(b)]
    return a === b || Boolean(u && v?.equals(u))
  }
  return same(1) && same(2) && quantize.int('axis', 1) === dequantize.int('axis', 1)
}

/** Without a zero point the type is output_dtype, or uint8. */
function zeroTypeOf(quantize: Node | null, zeroPoint: Value | null): ElementType | undefined {
  if (zeroPoint) return constantOf(zeroPoint)?.type ?? zeroPoint.type?.elem
  const code = quantize?.int('output_dtype', 0) || elementTypes.uint8.code
  return (Object.keys(elementTypes) as ElementType[]).find((k) => elementTypes[k].code === code)
}

function limit(v: Value | null | undefined, fallback: number): number | null {
  return v ? (constantOf(v)?.item() ?? null) : fallback
}
