/**
 * Keeps stock onnxruntime from rewriting what is before an activation quantiser. Of Conv -> [Relu | Clip] ->
 * QuantizeLinear with a quantised input, onnxruntime 1.30 (all optimisations on) makes a QLinearConv: float weights
 * become 8 bits per tensor, biases integers of the scale sx * sw (coarse at 4 bits: 0.3 points of ResNet-20; clamped where
 * they do not fit 32 bits), and with 4-bit activations next to float or 8-bit weights the file does not load at all,
 * since QLinearConv has no 4-bit types. A float Clip right before a 4-bit QuantizeLinear does not load either, nor one
 * without both limits before an 8-bit one (clip_quantizelinear.cc throws).
 *
 * A QuantizeLinear after MaxPool, Reshape and the like is moved before them (qdq_propagation.cc), and 4-bit MaxPool,
 * Transpose and Slice do not exist: the file does not load.
 *
 * Of a MatMul or Gemm of a float operand and of weights after a DequantizeLinear it makes MatMulNBits, which rounds the
 * float operand to 8 bits (0.5 % of the largest output, 5 to 12 % where 4-bit activations follow, which then take other
 * levels). The guard stands between the DequantizeLinear and the layer there.
 *
 * Of Softmax between quantisers it makes QLinearSoftmax, which rounds down instead of to the nearest level (half a level on
 * average: 3 % of the largest probability at 4 bits). Of a ReLU or Clip between an operator with an integer kernel and its 8-bit
 * quantiser it removes one that changes nothing of what is quantised before it looks for kernels; where another is left, or
 * one that changes nothing only after rounding, it inserts the kernel twice, and the file does not load ("two nodes with same
 * node name").
 *
 * The guard is Sum of one value, an identity that no rewrite removes, marked mnc.role=quant-guard. It is put where a
 * layer lies before the quantiser with nothing between but what onnxruntime or fold-bn merges into it, and after what
 * quantisers are moved across; for 8 bits only where the kernel would not compute what the graph says. Lowering removes
 * it again; export does too, and adds its own (src/export/activations/guard-quantisers.ts).
 */

import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { isNarrowFloat } from '../graph/types.ts'
import { ACTIVATION_QUANT, rewire, WEIGHT_QUANT } from '../layers/layers.ts'
import { QUANT_GUARD, type QuantPair, quantPairOf, rangeOf } from '../layers/quant-pair.ts'
import {
  biasOf,
  constantOf,
  dequantizeBehind,
  isClip,
  isDequantize,
  isMatrixProduct,
  isQuantize,
  isRectifier,
} from '../ops/facts.ts'
import { channelSlot, findOp } from '../ops/index.ts'

/** What onnxruntime moves quantisers across. */
const CROSSED = ['MaxPool', 'Reshape', 'Transpose', 'Squeeze', 'Unsqueeze', 'Slice', 'Flatten']
/** What has an integer kernel that rounds otherwise than QuantizeLinear does. */
const TRUNCATED = ['Softmax']
/** What may vanish between a layer and its quantiser: into the layer, into the quantiser, or altogether. */
const MERGED = ['Relu', 'BatchNormalization', 'Identity', 'Dropout']
const MERGED_WITH_CONSTANT = ['Add', 'Sub', 'Mul', 'Div']

/** Whether onnxruntime moves quantisers across the node. */
export const isCrossed = (n: Node): boolean => n.is(...CROSSED)

export interface Drawn {
  /** A layer, a Clip, or what quantisers are moved across. */
  readonly into: Node
  /** What lies between: from the value back. */
  readonly across: readonly Node[]
}

/** What onnxruntime would fuse a quantiser of this value with; null if nothing. */
export function drawnInto(value: Value): Drawn | null {
  const across: Node[] = []
  for (let v = value; ; ) {
    const node = v.producer
    if (!node) return null
    if (channelSlot(node) || isCrossed(node) || isClip(node)) return { into: node, across }
    const next = mergedInput(node)
    if (!next) return null
    across.push(node)
    v = next
  }
}

/**
 * Whether an integer kernel that onnxruntime would put before this quantiser is wrong or given twice, whatever the widths:
 * what lies before the ReLUs and Clips rounds otherwise, or these are two, or one that it does not remove at once.
 */
export function hasWrongKernel(quantize: Node): boolean {
  let limits = 0
  for (let node = quantize.input(0).producer; node; node = node.input(0).producer) {
    if (isClip(node) && !holdsRange(node, quantize)) return true
    if (isClip(node) || isRectifier(node)) limits++
    else if (!isCrossed(node)) return limits > 1 || node.is(...TRUNCATED)
  }
  return limits > 1
}

/** Whether the Clip, its limits initializers, changes nothing that the quantiser gives: as clip_quantizelinear.cc asks. */
function holdsRange(clip: Node, quantize: Node): boolean {
  const [low, high] = [clip.inputs[1]?.constant, clip.inputs[2]?.constant].map((t) => t?.toFloat32()[0])
  const scale = constantOf(quantize.input(1))?.toFloat32()
  const zero = constantOf(quantize.inputs[2])
  const range = zero && rangeOf(zero.type)
  if (low === undefined || high === undefined || scale?.length !== 1 || !range) return false
  const [least, most] = range.map((q) => (q - zero.toFloat32()[0]!) * scale[0]!)
  return low - least! <= EPSILON && most! - high <= EPSILON
}

/** Of float32. */
const EPSILON = 2 ** -23

/** Puts a guard before every activation quantiser of ours, and after weights, that needs one. Returns whether anything changed. */
export function guardQuantisers(graph: Graph): boolean {
  let changed = false
  for (const n of [...graph.nodes()]) {
    if (isQuantize(n) && marks.role.get(n) === ACTIVATION_QUANT) changed = guardInput(n) || changed
    else if (isMatrixProduct(n)) changed = guardWeights(n) || changed
  }
  return changed
}

const guardOf = (base: string, { type }: Value) =>
  ({ name: `${base}.guarded`, metadata: marks.role.entry(QUANT_GUARD), type }) as const

function guardInput(quantize: Node): boolean {
  const pair = pairOf(quantize)
  if (!pair || pair.guard || !needsGuard(pair)) return false
  const x = quantize.input(0)
  const guard = guardOf(quantize.output.name.replace(/\.quantized$/, ''), x)
  quantize.setInput(0, quantize.graph.before(quantize).op('Sum', [x], {}, guard))
  return true
}

/** Of a layer with a float input and quantised weights. */
function guardWeights(layer: Node): boolean {
  if (dequantizeBehind(layer.input(0))) return false
  let [reader, v] = [layer, layer.input(1)]
  for (let n = v.producer; n && findOp(n)?.carries; n = v.producer) [reader, v] = [n, n.input(0)]
  const dequantize = dequantizeBehind(v)
  if (!dequantize || marks.role.get(dequantize) !== WEIGHT_QUANT) return false
  const known = [...v.uses].find((n) => marks.role.get(n) === QUANT_GUARD)
  const guard = known?.output ?? v.graph.after(dequantize).op('Sum', [v], {}, guardOf(v.name, v))
  rewire([reader], v, guard)
  return true
}

/** The quantiser that starts with this node; its readers have the same parameters. */
function pairOf(quantize: Node): QuantPair | null {
  for (let [n] = quantize.output.uses; n; [n] = n.output.uses) {
    if (isDequantize(n)) return quantPairOf(n)
    if (!isClip(n)) return null
  }
  return null
}

function needsGuard(pair: QuantPair): boolean {
  if (pair.quantize && hasWrongKernel(pair.quantize)) return true
  const drawn = drawnInto(pair.source)
  if (!drawn) return false
  if (pair.bits < 8 || isNarrowFloat(pair.scale.constant?.type ?? pair.source.type?.elem)) return true
  if ([drawn.into, ...drawn.across].some((n) => isClip(n) && !(constantOf(n.inputs[1]) && constantOf(n.inputs[2]))))
    return true
  const layer = layerBefore(pair.source)
  return layer !== null && !isInteger(layer, constantOf(pair.scale)?.toFloat32()[0] ?? 0)
}

/** Whether an integer kernel computes the same as the layer between its quantisers: 8-bit weights, a bias that fits `step`. */
function isInteger(layer: Node, step: number): boolean {
  const pairAt = (i: number): QuantPair | null => {
    const producer = layer.inputs[i]?.producer
    return producer ? quantPairOf(producer) : null
  }
  const { input: slot } = channelSlot(layer)!
  const weights = pairAt(slot)
  if (weights?.bits !== 8 || weights.block > 0) return false
  const input = pairAt(1 - slot)
  const bias = constantOf(biasOf(layer))?.toFloat32()
  if (!input || !bias) return true
  const [sx, sw] = [constantOf(input.scale)?.toFloat32(), constantOf(weights.scale)?.toFloat32()]
  if (sx?.length !== 1 || !sw) return false
  return bias.every((b, c) => {
    const unit = sx[0]! * (sw[sw.length === 1 ? 0 : c] ?? 0)
    return Math.abs(b) < LARGEST_BIAS * unit && Math.abs(b - unit * Math.round(b / unit)) <= BIAS_ERROR * step
  })
}

/** Half of what 32 bits hold: the other half is for the sum of products. */
const LARGEST_BIAS = 2 ** 30
/** Of the output's step: the share of values that a bias rounded to a multiple of both scales moves to another level. */
const BIAS_ERROR = 1 / 128

/** The layer before a quantiser of this value, after whatever is merged or crossed; null where there is none. */
export function layerBefore(value: Value): Node | null {
  for (let v = value; ; ) {
    const drawn = drawnInto(v)
    if (!drawn || channelSlot(drawn.into)) return drawn?.into ?? null
    v = drawn.into.input(0)
  }
}

function mergedInput(node: Node): Value | null {
  const merged =
    node.is(...MERGED) || (node.is(...MERGED_WITH_CONSTANT) && node.inputs.some((x) => constantOf(x) !== null))
  return (merged && node.inputs.find((x) => x && !constantOf(x))) || null
}
