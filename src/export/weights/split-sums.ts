/**
 * Integer convolutions with float outputs. onnxruntime has no fast one: QLinearConv gives 8 bits, ConvInteger is slower
 * than float. Two QLinearConvs give the whole sum a of a layer exactly, in two halves:
 *
 *   h = round(a / M)              the layer's weights, output scale M
 *   l = a - M h,  |l| <= M / 2    the layer's weights, and -M on the channel of h at the tap that reads its own position
 *   y = (M h + l) * scale(x) * scale(w) + bias
 *
 * M is a power of two with |a| / M < 128, so that h fits 8 bits. Where float rounding (ORT_DISABLE_ALL) takes the other
 * h of a tie, l makes up for it. Output channels are padded to a multiple of 16, with which the kernels are faster
 * (48 -> 12 channels, 3x3, 32x32 on AVX-512 VNNI: 38.9 us per image, 48 -> 16: 24.9, in floats 74).
 *
 * Worth it where the kernel is larger than 1x1 and the output has at most half of the input's channels, as in DenseNet
 * (48 -> 12: 57 us for both halves). With as many channels (ResNet) the second half costs what the first one saves.
 * Applies to Conv with stride 1 and an output as large as its input, group 1, integer weights within +-64, sums within
 * 127 * 128, and an input quantised with one scale to a uint8 container.
 *
 * All nodes of the second half carry `mnc.role=correction`: the score does not count them, they compute nothing that the
 * layer does not.
 */

import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { marks } from '../../graph/marks.ts'
import { Tensor } from '../../graph/tensor.ts'
import { CORRECTION } from '../../layers/layers.ts'
import { dequantizeBehind } from '../../ops/facts.ts'
import type { Layer } from './fold-affine.ts'
import { SAFE_INTEGER } from './integer-bias.ts'
import { quantisedBehind } from './layer-form.ts'

/** Levels of the high half on either side of 0. */
const HALF = 127
/** Channels that one pass of the kernels gives. */
const LANES = 16

export interface Split {
  readonly layer: Layer
  /** M. */
  readonly unit: number
  /** The DequantizeLinear that gives the layer's input. */
  readonly input: Node
  readonly step: number
  readonly zero: number
}

/**
 * -M as a weight: the least int8. Kernels that add two products in 16 bits (see SAFE_INTEGER) do not saturate with it,
 * since its neighbour in a pair of channels is 0: 128 * 255 < 2^15.
 */
const LARGEST_UNIT = 128

/** How to split the layer; null if that does not apply or does not pay. `span`: lowest and highest input, as |levels|. */
export function splitOf(layer: Layer, [below, above]: readonly [number, number]): Split | null {
  const { node, weight } = layer
  const input = dequantizeBehind(node.input(0))
  const step = input?.inputs[1]?.constant
  const zero = input?.inputs[2]?.constant
  if (!node.is('Conv') || !weight.ints || weight.reader !== node || quantisedBehind(node) !== 'none') return null
  if (!input || step?.size !== 1 || zero?.type !== 'uint8' || zero.size !== 1) return null
  if (node.inputs[2] && !node.inputs[2].constant) return null
  if (!weight.canScaleAlong(0) || !keepsSize(node, weight.dims)) return null
  const [out, into, kh, kw] = weight.dims as [number, number, number, number]
  if (kh * kw === 1 || into % 2 === 1 || 2 * padded(out) > into) return null
  if (weight.ints.some((v) => Math.abs(v) > SAFE_INTEGER)) return null
  const inner = weight.size / out
  let reach = 0
  for (let c = 0; c < out; c++) {
    let [plus, minus] = [0, 0]
    for (let i = c * inner; i < (c + 1) * inner; i++) {
      const w = weight.ints[i]!
      if (w > 0) plus += w
      else minus -= w
    }
    reach = Math.max(reach, plus * above + minus * below, plus * below + minus * above)
  }
  let unit = 1
  while (reach > HALF * unit) unit *= 2
  return unit <= LARGEST_UNIT ? { layer, unit, input, step: step.item(), zero: zero.item() } : null
}

const padded = (channels: number): number => Math.ceil(channels / LANES) * LANES

/** Stride 1, no dilation, two dimensions, and padding that keeps the size. */
function keepsSize(node: Node, dims: readonly number[]): boolean {
  const ones = (name: string): boolean => node.ints(name, [1, 1]).every((v) => v === 1)
  if (dims.length !== 4 || node.int('group', 1) !== 1 || !ones('strides') || !ones('dilations')) return false
  const auto = node.string('auto_pad', 'NOTSET')
  const pads = node.ints('pads', [0, 0, 0, 0])
  return auto === 'NOTSET' && [0, 1].every((k) => pads[k] === pads[k + 2] && 2 * pads[k]! === dims[k + 2]! - 1)
}

/**
 * Replaces the layer's node; the output keeps its name.
 *
 * @param ints the weights as int8, positive scales divided out
 */
export function emitSplit({ layer, unit, input, step, zero }: Split, ints: Value): void {
  const { node, weight } = layer
  const { name, type } = node.output
  const { graph } = node
  const [out, , kh, kw] = weight.dims as [number, number, number, number]
  const wide = padded(out)
  const b = graph.before(node)
  const correct = { metadata: marks.role.entry(CORRECTION) }
  // both halves are stored as 128 + value, whatever the input's zero point
  const shift = 128 - zero
  const conv = (x: Value, w: Value, bias: number, outStep: number, spec: typeof correct | { name: string }): Value => {
    const more = 'metadata' in spec ? spec : {}
    const constant = (tensor: Tensor, scale: number): Value =>
      b.op('DequantizeLinear', [b.initializer('_q', tensor), b.scalar(Math.fround(scale))], {}, more)
    const weights = b.op('DequantizeLinear', [w, b.scalar(1)], {}, more)
    const biases = constant(Tensor.of('int32', [wide], new Int32Array(wide).fill(bias)), step)
    const y = b.op('Conv', [x, weights, biases], Object.fromEntries(node.attributes), spec)
    return b.op('QuantizeLinear', [y, b.scalar(Math.fround(outStep)), b.scalar(zero, 'uint8')], {}, more)
  }
  const pads = b.ints([0, 0, 0, 0, wide - out, 0, 0, 0])
  const w = wide === out ? ints : b.op('Pad', [ints, pads])
  const h = conv(node.input(0), w, shift * unit, unit * step, { name: `${name}.high` })
  const both = b.op('Concat', [input.input(0), h], { axis: 1 }, correct)
  const x = b.op('DequantizeLinear', [both, input.input(1), input.input(2)], {}, correct)
  const wl = b.op('Concat', [w, minusUnit(b, wide, kh, kw, unit)], { axis: 1 }, correct)
  const l = conv(x, wl, shift * unit + shift, step, correct)
  const scales = weight.scale.map((s) => Math.abs(s) * step)
  const part = (v: Value, factor: number, more: Partial<typeof correct>): Value => {
    const kept = wide === out ? v : b.op('Slice', [v, b.ints([0]), b.ints([out]), b.ints([1])], {}, more)
    const scale = b.initializer(
      '_s',
      Tensor.float32(
        [out],
        scales.map((s) => s * factor),
      ),
    )
    const middle = b.initializer('_z', Tensor.of('uint8', [out], new Uint8Array(out).fill(128)))
    return b.op('DequantizeLinear', [kept, scale, middle], { axis: 1 }, more)
  }
  const parts = [part(h, unit, {}), part(l, 1, correct)]
  let y = b.op('Add', parts, {}, { ...correct, name: `${name}.sum`, type })
  const bias = node.inputs[2]?.constant
  if (bias)
    y = b.op('Add', [y, b.initializer('_b', bias.reshape([bias.size, 1, 1]))], {}, { name: `${name}.all`, type })
  graph.replaceUses(node.output, y)
  graph.remove(node)
  if (!graph.find(name)) graph.rename(y, name)
}

/** -M from each channel of h to its own output, at the middle tap; layers of one shape share it. */
function minusUnit(b: Builder, wide: number, kh: number, kw: number, unit: number): Value {
  const name = `_minus${unit}x${wide}x${kh}x${kw}`
  const known = b.graph.find(name)
  if (known) return known
  const values = new Int8Array(wide * wide * kh * kw)
  const tap = Math.floor(kh / 2) * kw + Math.floor(kw / 2)
  for (let o = 0; o < wide; o++) values[(o * wide + o) * kh * kw + tap] = -unit
  return b.initializer(name, Tensor.of('int8', [wide, wide, kh, kw], values))
}
