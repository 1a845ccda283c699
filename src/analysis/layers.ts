/**
 * Layers as they compute: every node whose op has a weight operand that no graph input reaches, with the values that
 * the operand really has (masked, rounded, decoded) and the bits that they and the activations take.
 */
import { MncError } from '../errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { countZeros, type Tensor } from '../graph/tensor.ts'
import { type ElementType, elementTypes } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'
import { CORRECTION, ROLE_KEY, type WeightLayer, weightLayers } from '../passes/layers.ts'
import { roundedBits } from './activation-bits.ts'
import { constantSource, constantValues, evaluateConstants } from './constants.ts'

export interface EffectiveLayer {
  readonly node: Node
  readonly name: string
  /** The weight operand of the node. */
  readonly operand: Value
  /** Its values at run time. */
  readonly values: Tensor
  readonly zeros: number
  readonly weightBits: number
  readonly activationBits: number
  /** The editable form, where the passes find one (not in packed files). */
  readonly layer: WeightLayer | null
}

const narrow = new Set<ElementType>(['int2', 'uint2', 'int4', 'uint4'])

/**
 * In graph order; nodes that share a weight each have an entry. Runs onnxruntime where a weight is computed; layers
 * whose weight it cannot compute (custom operators) are left out, and `warn` hears why.
 */
export async function effectiveLayers(
  model: Model,
  warn: (message: string) => void = () => {},
): Promise<EffectiveLayer[]> {
  const { graph } = model
  const byNode = new Map<Node, WeightLayer>()
  for (const layer of weightLayers(graph)) for (const user of layer.users) byNode.set(user, layer)
  const constant = constantValues(graph)
  const found: { node: Node; operand: Value }[] = []
  for (const node of graph.nodes()) {
    const slot = node.metadata.get(ROLE_KEY) === CORRECTION ? undefined : findOp(node)?.weights
    const operand = slot && node.inputs[slot.input]
    // a node that computes a constant is part of some weight's decoder
    if (operand && constant.has(operand) && !constant.has(node.output)) found.push({ node, operand })
  }
  const values = await valuesOf(
    model,
    found.map((f) => f.operand),
    warn,
  )
  return found.flatMap(({ node, operand }) => {
    const layer = byNode.get(node) ?? null
    const tensor = values.get(operand)
    // a lone number or integers (an index, a shape) are no layer's weights
    if (!tensor || tensor.size < 2 || !tensor.type.includes('float')) return []
    return {
      node,
      name: node.id,
      operand,
      values: tensor,
      zeros: countZeros(tensor),
      weightBits: layer?.quant?.bits ?? storedBits(operand, layer),
      activationBits: activationBits(node, layer),
      layer,
    }
  })
}

async function valuesOf(
  model: Model,
  operands: readonly Value[],
  warn: (message: string) => void,
): Promise<Map<Value, Tensor>> {
  try {
    return await evaluateConstants(model, operands)
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    warn(`some weights are not known: ${error.describe()}`)
    return new Map(operands.flatMap((v) => (v.constant ? [[v, v.constant]] : [])))
  }
}

/** Bits of the tensor that the operand is made of: the narrow one where a decoder stands between. */
function storedBits(operand: Value, layer: WeightLayer | null): number {
  if (layer) return elementTypes[layer.tensor.type].bits
  const stored = constantSource(operand) ?? []
  const packed = stored.map((v) => v.constant!.type).filter((t) => narrow.has(t))
  return elementTypes[packed[0] ?? operand.constant?.type ?? operand.type?.elem ?? 'float32'].bits
}

function activationBits(node: Node, layer: WeightLayer | null): number {
  const data = node.inputs[0]
  const rounded = layer?.activationQuant?.bits ?? (data && roundedBits(data))
  return rounded ?? elementTypes[data?.type?.elem ?? 'float32'].bits
}
