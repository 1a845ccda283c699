/**
 * Writes quantisers into a graph: QuantizeLinear -> DequantizeLinear with INT4/UINT4 for 4 bits and INT8/UINT8 for 8,
 * and for 2, 3, 5, 6, 7 bits an 8-bit container with a Clip on the integers between the two, which onnxruntime computes
 * exactly and which does not depend on the scale. (INT2/UINT2 run in onnxruntime 1.30, but only in graphs of opset 25,
 * beyond the opset that gradient rules are written for.)
 */

import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { marks, type Role } from '../graph/marks.ts'
import { Tensor } from '../graph/tensor.ts'
import type { ElementType } from '../graph/types.ts'
import { ACTIVATION_QUANT, firstUse, rewire } from '../layers/layers.ts'
import { QUANT_GUARD, type QuantPair, quantPairOf } from '../layers/quant-pair.ts'
import { scaleDims } from '../layers/scale-layout.ts'
import { isClip, isQuantize } from '../ops/facts.ts'
import { integerRange, type WeightScaleMethod } from './quantizer.ts'

/** Value metadata `mnc.role` of a quantiser's scale. */
export const QUANT_SCALE = 'quant-scale'

export interface QuantizerSpec {
  /** Base of the names: `<name>.scale`, `.zero_point`, `.quantized`, `.dequantized`. */
  readonly name: string
  readonly bits: number
  readonly signed: boolean
  /** Per channel along `axis`, per block of it, or one for axis null. */
  readonly scales: Float32Array
  /** Of all channels; 0 by default. */
  readonly zeroPoint?: number
  readonly axis: number | null
  /** Where scales belong to blocks of the axis: how many indices share one, and the dims of the value. */
  readonly blocks?: { readonly block: number; readonly dims: readonly number[] }
  /** weight-quant or activation-quant. */
  readonly role: Role
  /** Type of the value that is quantised, and so of the scale. */
  readonly elem: ElementType
  readonly fit?: WeightScaleMethod
  /** Made by quantize-outputs. */
  readonly output?: boolean
  /** Serves nothing but frozen nodes and is frozen with them. */
  readonly frozen?: boolean
}

/** The quantiser of this width that a pass put on the value for other readers. */
export function existingQuantizer(value: Value, width: number): QuantPair | null {
  const direct = [...value.uses].flatMap((n) => (marks.role.get(n) === QUANT_GUARD ? [...n.output.uses] : [n]))
  for (const q of direct) {
    const dq = [...(q.outputs[0]?.uses ?? [])].flatMap((n) => (isClip(n) ? [...n.output.uses] : [n]))[0]
    const pair = isQuantize(q) && dq ? quantPairOf(dq) : null
    if (pair?.source === value && pair.bits === width && marks.role.get(dq) === ACTIVATION_QUANT) return pair
  }
  return null
}

/** Quantises `value` for `readers` (all users by default). Returns the quantiser. */
export function insertQuantizer(value: Value, spec: QuantizerSpec, readers: ReadonlySet<Node> = value.uses): QuantPair {
  const { graph } = value
  const users = [...readers]
  const b = value.producer ? graph.after(value.producer) : graph.before(firstUse(value))
  const out = quantizeAt(b, value, spec)
  rewire(users, value, out)
  return quantPairOf(out.producer!)!
}

function quantizeAt(b: Builder, value: Value, spec: QuantizerSpec): Value {
  const { name, bits, signed, scales, axis, blocks, role, elem } = spec
  const metadata = {
    ...marks.role.entry(role),
    ...marks.bits.entry(bits),
    ...(spec.fit && spec.fit !== 'als' && marks.fit.entry(spec.fit)),
    ...(spec.output && marks.output.entry(true)),
  }
  const container: ElementType = bits === 4 ? (signed ? 'int4' : 'uint4') : signed ? 'int8' : 'uint8'
  const { block = 0 } = blocks ?? {}
  const dims = blocks ? scaleDims(blocks.dims, { axis, block }) : axis === null ? [] : [scales.length]
  const scale = b.initializer(`${name}.scale`, Tensor.from(elem, dims, scales))
  marks.role.set(scale, QUANT_SCALE)
  if (spec.frozen) marks.frozen.put(scale)
  const zero = b.initializer(
    `${name}.zero_point`,
    Tensor.from(container, dims, new Array<number>(scales.length).fill(spec.zeroPoint ?? 0)),
  )
  const attributes = { ...(axis !== null && { axis }), ...(block > 0 && { block_size: block }) }
  let q = b.op('QuantizeLinear', [value, scale, zero], attributes, { name: `${name}.quantized`, metadata })
  if (bits !== 4 && bits !== 8) {
    const [lo, hi] = integerRange(bits, signed)
    const limits = [b.scalar(lo, container), b.scalar(hi, container)]
    q = b.op('Clip', [q, ...limits], {}, { name: `${name}.clipped`, metadata })
  }
  const type = value.constant ? { elem, dims: value.constant.dims } : value.type
  return b.op('DequantizeLinear', [q, scale, zero], attributes, { name: `${name}.dequantized`, metadata, type })
}
