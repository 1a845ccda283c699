/**
 * Layers as they compute: every node whose op has a weight operand that does not depend on a graph input, with the values
 * that the operand really has (masked, rounded, decoded) and the bits that they and the activations take.
 */

import { MncError } from '../base/errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { countZeros, type Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { roundedBits } from '../layers/activation-bits.ts'
import { constantValues, evaluateConstants } from '../layers/constants.ts'
import { CORRECTION, type WeightLayer, weightLayers } from '../layers/layers.ts'
import { constantOf } from '../ops/facts.ts'
import { type WeightSlot, weightSlots } from '../ops/index.ts'
import { storedWidths } from './stored-width.ts'
import { constantFormat, formatParts } from './value-width.ts'

export interface EffectiveLayer {
  readonly node: Node
  /** The node's, with the part where it has several weights (`lstm.R`). */
  readonly name: string
  /** The weight operand of the node, and its place. */
  readonly operand: Value
  readonly slot: WeightSlot
  /** Its values at run time. */
  readonly values: Tensor
  readonly zeros: number
  /** Bits of the file that hold a weight; for a quantiser of floats, the width that it rounds to. */
  readonly weightBits: number
  /** Width that the values need, whatever container they are in. */
  readonly valueBits: number
  readonly activationBits: number
  /** The editable form, if the passes find one (they do not in packed files). */
  readonly layer: WeightLayer | null
}

/**
 * In graph order; nodes that share a weight each have an entry. Runs onnxruntime where a weight is computed; layers
 * whose weight it cannot compute (custom operators) are left out, and `warn` is told why.
 */
export async function effectiveLayers(
  model: Model,
  warn: (message: string) => void = () => {},
): Promise<EffectiveLayer[]> {
  const { graph } = model
  const byNode = new Map<Node, WeightLayer[]>()
  for (const layer of weightLayers(graph))
    for (const user of layer.users) byNode.set(user, [...(byNode.get(user) ?? []), layer])
  const constant = constantValues(graph)
  const found: { node: Node; slot: WeightSlot; operand: Value }[] = []
  for (const node of graph.nodes()) {
    // a node that computes a constant is part of some weight's decoder
    if (marks.role.get(node) === CORRECTION || node.outputs.some((v) => v && constant.has(v))) continue
    for (const slot of weightSlots(node)) {
      const operand = node.inputs[slot.input]
      if (operand && constant.has(operand)) found.push({ node, slot, operand })
    }
  }
  const operands = found.map((f) => f.operand)
  const values = await valuesOf(model, operands, warn)
  const others = operands.flatMap((v) => (values.has(v) ? formatParts(v) : [])).filter((v) => !values.has(v))
  const contents = new Map([...values, ...(await valuesOf(model, others, () => {}, { asFloat: true }))])
  const widths = await storedWidths(model, [...values.keys()])
  return found.flatMap(({ node, slot, operand }) => {
    const layers = byNode.get(node) ?? []
    const layer = (layers.length > 1 ? layers.find((l) => l.slot === slot) : layers[0]) ?? null
    const tensor = values.get(operand)
    // a single number or integers (an index, a shape) are not a layer's weights
    if (!tensor || tensor.size < 2 || !tensor.type.includes('float')) return []
    const stored = widths.get(operand)!
    return {
      node,
      name: slot.part ? `${node.id}.${slot.part}` : node.id,
      operand,
      slot,
      values: tensor,
      zeros: countZeros(tensor),
      weightBits: stored,
      valueBits: valueBits(operand, contents, slot.outputAxis(node)) ?? stored,
      activationBits: activationBits(node, slot, layer),
      layer,
    }
  })
}

async function valuesOf(
  model: Model,
  operands: readonly Value[],
  warn: (message: string) => void,
  options: { readonly asFloat?: boolean } = {},
): Promise<Map<Value, Tensor>> {
  try {
    return await evaluateConstants(model, operands, options)
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    warn(`some weights are unknown: ${error.describe()}`)
    return new Map(operands.flatMap((v) => (v.constant ? [[v, v.constant]] : [])))
  }
}

/** null where they are not integers times a scale, or not enough is known to say so. */
function valueBits(operand: Value, contents: ReadonlyMap<Value, Tensor>, axis: number): number | null {
  const known = (v: Value): Tensor | null => contents.get(v) ?? constantOf(v)
  if (formatParts(operand).some((v) => !known(v))) return null
  const { integer, bits } = constantFormat(
    operand,
    { tensor: (v) => known(v)! },
    { floatBits: MOST, axis, inNarrowTypes: true },
  )
  return integer ? bits : null
}

/** Of any element type. */
const MOST = 64

function activationBits(node: Node, slot: WeightSlot, layer: WeightLayer | null): number {
  // the weights that an LSTM's state is multiplied by meet floats
  if (slot.part && slot.data === undefined) return elementTypes[node.inputs[0]?.type?.elem ?? 'float32'].bits
  const data = node.inputs[0]
  const rounded = layer?.activationQuant?.bits ?? (data && roundedBits(data))
  return rounded ?? elementTypes[data?.type?.elem ?? 'float32'].bits
}
