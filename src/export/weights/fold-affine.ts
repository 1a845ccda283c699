/**
 * BatchNormalization (inference form) taken into the layer before it, or reduced to one Mul and one Add.
 *
 *   BN(x) = x*k + c (OpDef.affine)        BN(conv(x, W) + b) = conv(x, W*k) + (b*k + c)
 *
 * Quantised weights stay integers: k goes into their per-channel scale. This is why export does not call the pass
 * `fold-bn`, which folds into float weights. Not folded into the layer: outputs that others read too, shared weights,
 * grouped ConvTranspose, weights whose scale runs along another axis, Gemm with beta other than 1. Training-mode
 * normalisation stays one node.
 */

import type { Graph, Node, Value } from '../../graph/graph.ts'
import { sweepNode } from '../../graph/sweep.ts'
import { Tensor } from '../../graph/tensor.ts'
import { biasFactor, biasOf, dropBiasFactor, groupsOf, setBias, takesBias } from '../../ops/facts.ts'
import { type ChannelAffine, channelSlot, findOp } from '../../ops/index.ts'
import { WORKING_OPSET } from '../../ops/raise-opset.ts'
import type { Weight } from './weights.ts'

/** A layer as export sees it: where its weight and bias are. */
export interface Layer {
  readonly node: Node
  readonly weight: Weight
  /** Axis of the weight that counts output channels; null where it is not one axis. */
  readonly outputAxis: number | null
}

/** Layers by node, for every weight in its place as a weight operand. */
export function layersOf(weights: readonly Weight[]): Map<Node, Layer> {
  const layers = new Map<Node, Layer>()
  for (const weight of weights)
    for (const node of weight.value.uses) {
      if (node.inputs[channelSlot(node)?.input ?? -1] !== weight.value) continue
      const outputAxis = outputAxisOf(node, weight)
      if (outputAxis !== undefined) layers.set(node, { node, weight, outputAxis })
    }
  return layers
}

/** undefined: not an operator with a weight operand. */
function outputAxisOf(node: Node, weight: Weight): number | null | undefined {
  const slot = channelSlot(node)
  if (!slot) return undefined
  if (slot.transposed && groupsOf(node) > 1) return null
  return slot.channels === 'rows' && weight.dims.length !== 2 ? null : slot.outputAxis(node)
}

export interface BatchNorms {
  readonly folded: number
  readonly reduced: number
  /** Left as they are. */
  readonly kept: number
}

/**
 * Folds every BatchNormalization that can be, and reduces the others where `reduceRest`. Mul and Add take half of the
 * bytes; the node itself is one pass over the data instead of two (DenseNet-BC-40-12: 142 us per image, not 295).
 */
export function foldBatchNorms(graph: Graph, layers: ReadonlyMap<Node, Layer>, reduceRest: boolean): BatchNorms {
  let folded = 0
  let reduced = 0
  let kept = 0
  for (const node of graph.nodes()) {
    const affine = findOp(node)?.affine?.(node, WORKING_OPSET, (v) => v.constant)
    if (affine === undefined) continue
    if (typeof affine !== 'string' && foldIntoLayer(node, affine, layers)) folded++
    else if (typeof affine !== 'string' && reduceRest && reduce(node, affine)) reduced++
    else kept++
  }
  return { folded, reduced, kept }
}

function foldIntoLayer(node: Node, { k, c }: ChannelAffine, layers: ReadonlyMap<Node, Layer>): boolean {
  const x = node.input(0)
  const layer = x.producer ? layers.get(x.producer) : undefined
  if (!layer || x.uses.size !== 1 || x.isOutput || layer.weight.reader !== layer.node) return false
  const { outputAxis, weight } = layer
  if (outputAxis === null || !takesBias(layer.node) || !weight.canMultiply(outputAxis)) return false
  const old = biasOf(layer.node)
  if (old && biasFactor(layer.node) !== 1) return false
  const oldBias = old ? old.constant?.toFloat32() : new Float32Array(c.length)
  if (!oldBias || (oldBias.length !== 1 && oldBias.length !== c.length)) return false
  weight.multiply(k, outputAxis)
  const bias = Float32Array.from(c, (h, i) => oldBias[oldBias.length === 1 ? 0 : i]! * k[i]! + h)
  setBias(layer.node, node.graph.addInitializer(`${layer.node.id}.b`, Tensor.float32([bias.length], bias)))
  // without a bias to scale, its factor meant nothing
  if (!old && biasFactor(layer.node) !== 1) dropBiasFactor(layer.node)
  const { graph } = node
  const { name } = node.output
  graph.replaceUses(node.output, x)
  sweepNode(node)
  // the value is now the normalisation's result: it keeps that name, so that checks compare like with like
  if (!graph.find(name)) graph.rename(x, name)
  return true
}

function reduce(node: Node, { k, c }: ChannelAffine): boolean {
  const x = node.input(0)
  const rank = x.type?.dims?.length
  if (rank === undefined) return false
  const { graph } = node
  const dims = [k.length, ...Array.from({ length: Math.max(0, rank - 2) }, () => 1)]
  const constant = (name: string, values: Float64Array): Value =>
    graph.addInitializer(name, Tensor.float32(dims, Float32Array.from(values)))
  const b = graph.before(node)
  const { name } = node.output
  const scaled = b.op('Mul', [x, constant(`${name}.g`, k)], {}, { name: `${name}.s`, type: x.type })
  const y = b.op('Add', [scaled, constant(`${name}.h`, c)], {}, { type: x.type })
  graph.replaceUses(node.output, y)
  sweepNode(node)
  if (y.name !== name && !graph.find(name)) graph.rename(y, name)
  return true
}
