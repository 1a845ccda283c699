/**
 * Layers that onnxruntime's integer kernels get wrong on x86 processors without VNNI (all before Cascade Lake and Zen 4): of 8-bit inputs and
 * int8 weights these add the products of two neighbours in 16 bits (vpmaddubsw), and what is beyond is cut off. ResNet-20, 8 bits, on
 * AVX2: outputs off by 23 % of the largest, 0.5 points of accuracy. Safe are weights whose two largest of one sign add up to 128, as
 * those of 7 bits and fewer do, and uint8 weights, whose kernels add in 32 bits.
 */
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { constantSource, evaluateConstants } from '../layers/constants.ts'
import { dequantizeBehind } from '../ops/facts.ts'
import { layerSlot } from '../ops/index.ts'

/** Of uint8. */
const LARGEST_INPUT = 255
const LARGEST_SUM = 2 ** 15 - 1

/** A layer, and the node that gives its weight. */
export interface SaturatingLayer {
  readonly node: Node
  readonly weight: Node
}

/** Layers with int8 weights whose sums of two products may be beyond 16 bits. What weights are decoded from is computed. */
export async function saturatingLayers(model: Model): Promise<SaturatingLayer[]> {
  const layers = [...model.graph.nodes()].flatMap(integerLayer)
  const stored = layers.map(({ weight }) => weight.input(0)).filter((v) => constantSource(v) !== null)
  const known = await evaluateConstants(model, stored)
  const safe = new Map<Value, boolean>()
  return layers.flatMap(({ node, weight, axis }) => {
    const value = weight.input(0)
    const ints = known.get(value)
    if (ints?.type !== 'int8') return []
    if (!safe.has(value)) safe.set(value, isSafe(ints, axis))
    return safe.get(value) ? [] : [{ node, weight }]
  })
}

/** Between a quantised input and a weight that is stored as integers. */
function integerLayer(node: Node): readonly (SaturatingLayer & { readonly axis: number })[] {
  const slot = layerSlot(node)
  if (!slot || slot.lookup || slot.transposed || slot.data === undefined) return []
  const weight = dequantizeBehind(node.inputs[slot.input])
  if (!weight || !dequantizeBehind(node.inputs[slot.data])) return []
  return [{ node, weight, axis: slot.outputAxis(node) }]
}

/** Whether no two weights of an output channel, wherever they are, make a sum beyond 16 bits. */
function isSafe(ints: Tensor, axis: number): boolean {
  const channels = ints.dims[axis] ?? 1
  const inner = ints.dims.slice(axis + 1).reduce((a, b) => a * b, 1)
  const largest = [new Int16Array(channels), new Int16Array(channels)]
  const values = ints.toNumbers()
  for (let i = 0; i < values.length; i++) {
    const own = largest[values[i]! < 0 ? 1 : 0]!
    const channel = Math.floor(i / inner) % channels
    const [size, before] = [Math.abs(values[i]!), own[channel]!]
    if (before > 0 && LARGEST_INPUT * (size + before) > LARGEST_SUM) return false
    own[channel] = Math.max(size, before)
  }
  return true
}
