/**
 * A quantiser as it is in a graph: [guard] -> QuantizeLinear -> [Clip on the integers] -> DequantizeLinear, or the
 * DequantizeLinear alone after an integer constant.
 *
 *   y = (clamp(round_half_even(x / scale) + zeroPoint, lo, hi) - zeroPoint) * scale
 *
 * A Cast to the very type that the integers have (PyTorch's exporter writes one) is skipped. The Clip between them
 * narrows 8-bit containers to widths that ONNX has no type for (2, 3, 5, 6, 7 bits). Scales may be one, one for each index of
 * an axis, or one for each block along it (`block_size`). Does not apply to float8, and to blocks whose scales have unknown
 * dims: those give null.
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
  /** Axis along which scales differ; null for one scale. */
  readonly axis: number | null
  /** Indices of the axis that share a scale, where scales differ along the other axes too; 0 where each index has one scale. */
  readonly block: number
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
  if (!isDequantize(dequantize)) return null
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
  const block = known?.size === 1 ? 0 : dequantize.int('block_size', 0)
  if (block > 0 && !scaleDims) return null
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
    axis: axisOf(dequantize, scaleDims?.length, known?.size === 1, block > 0),
    block,
  }
}

/** null for one scale; counted from the front where scales of blocks tell the rank. */
function axisOf(dequantize: Node, rank: number | undefined, isOne: boolean, isBlocked: boolean): number | null {
  const axis = dequantize.int('axis', 1)
  if (isBlocked) return axis < 0 ? axis + rank! : axis
  return rank === 1 && !isOne ? axis : null
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
  const alike = (name: string, otherwise: number): boolean =>
    quantize.int(name, otherwise) === dequantize.int(name, otherwise)
  return same(1) && same(2) && alike('axis', 1) && alike('block_size', 0)
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
