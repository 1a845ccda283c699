/**
 * The form of a layer's weight and bias next to quantised activations.
 *
 * onnxruntime 1.30 rounds a float bias of a layer between DequantizeLinear and QuantizeLinear to an int32 multiple of
 * scale(x) * scale(w): with 4-bit operands that moves results by a whole level now and then (measured: 2 % of the
 * largest output), and only where its optimiser runs. So a plain 4-bit file adds the bias after the layer, which is
 * exact at every level, and an 8-bit file chooses the integer bias itself (integer-bias.ts).
 */
import type { Node } from '../../graph/graph.ts'
import { biasFactor, biasOf, dequantizeBehind, isFloor, isQuantize, isRectifier, setBias } from '../../ops/facts.ts'
import { channelSlot } from '../../ops/index.ts'
import type { Layer } from './fold-affine.ts'

/** How many readers of the layer's output, after a ReLU too, quantise it. */
export function quantisedBehind(node: Node): 'all' | 'some' | 'none' {
  const readers = [...node.output.uses].flatMap((n) => (isRectifier(n) ? [n, ...n.output.uses] : [n]))
  const quantisers = readers.filter(isQuantize).length
  if (quantisers === 0) return 'none'
  return quantisers === readers.length && !node.output.isOutput ? 'all' : 'some'
}

/** The scale of the layer's input where that comes from a quantiser with one scale; null otherwise. */
export function inputStep(node: Node): number | null {
  const scale = dequantizeBehind(node.input(0))?.input(1).constant
  return scale?.size === 1 ? scale.toNumbers()[0]! : null
}

/** Moves a constant bias after the layer as an Add. */
export function moveBiasBehind({ node }: Layer): void {
  const old = biasOf(node)
  const bias = old?.constant
  if (!bias || biasFactor(node) !== 1) return
  const rank = channelSlot(node)?.channels === 'matrix' ? 2 : node.output.type?.dims?.length
  if (rank === undefined) return
  const spatial = Array.from({ length: rank - 2 }, () => 1)
  const { graph } = node
  const y = node.output
  const b = graph.after(node)
  const shaped = graph.addInitializer(`${old.name}.add`, bias.reshape([...bias.dims, ...spatial]))
  const sum = b.op('Add', [y, shaped], {}, { type: y.type })
  setBias(node, null)
  const { name } = y
  graph.replaceUses(y, sum, sum.producer!)
  if (!sum.isOutput) {
    graph.rename(y, graph.freshName(`${name}.nobias`))
    graph.rename(sum, name)
  }
  if (!old.isUsed) graph.removeInitializer(old)
}

/** Lowest and highest level of a uint8 quantiser with the Max that may follow it, zero point subtracted. */
export function levelsOf(quantize: Node): [number, number] {
  const zero = quantize.inputs[2]?.constant?.toNumbers()[0] ?? 0
  const [max] = [...quantize.output.uses].filter(isFloor)
  const floor = max?.inputs[1]?.constant?.toNumbers()[0] ?? 0
  return [floor - zero, 255 - zero]
}

/** Largest |level| below and above zero of what a DequantizeLinear gives. */
export function spanOf(dequantize: Node): [number, number] {
  let below = dequantize.input(0).producer
  if (below && isFloor(below)) below = below.input(0).producer
  if (!below || !isQuantize(below)) return [255, 255]
  const [lo, hi] = levelsOf(below)
  return [Math.abs(lo), Math.abs(hi)]
}
