/** Layers whose channels can be removed from their weights, and why those of others cannot. */
import type { Node, Value } from '../graph/graph.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { biasOf, constantOf, groupsOf } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'

/** One input channel per group: output channel o is computed from input channel o / multiplier alone. */
export const isDepthwise = (n: Node, { slot, tensor, inputAxis, users, otherUser, handedOut }: WeightLayer): boolean =>
  slot.channels === 'window' &&
  !slot.transposed &&
  groupsOf(n) > 1 &&
  inputAxis === 1 &&
  tensor.dims[1] === 1 &&
  users.length === 1 &&
  !otherUser &&
  !handedOut

/** `rank` of the data input; `lined`: a depthwise convolution whose output channels are known by those of its input. */
export function whyFixed(
  n: Node,
  layer: WeightLayer,
  { rank, lined }: { readonly rank: number | null; readonly lined: boolean },
): string | null {
  const { slot, users, otherUser, handedOut, outputAxis, inputAxis } = layer
  if (groupsOf(n) > 1 && !lined) return 'its groups contain several channels'
  if (users.length > 1) return 'its weight is shared'
  if (otherUser) return `its weight is also read by ${otherUser.label}`
  if (handedOut) return `'${handedOut.name}' is an output of the model`
  if (outputAxis === null || inputAxis === null) return 'a Reshape of its weight hides the channels'
  if (slot.channels === 'rows' && rank !== 2) return 'it is not a product of matrices'
  if (slot.transposesData?.(n)) return 'it transposes its input'
  return whyHard(n, layer)
}

/** Why a mask or quantiser on the weight's way, or a change of shape, cannot follow a smaller weight. */
function whyHard(n: Node, layer: WeightLayer): string | null {
  const { weight, tensor, maskNode, mask, quant, outputAxis, inputAxis } = layer
  const behind = new Set<Node>()
  for (let v: Value | null | undefined = n.inputs[1]; v && v !== weight; v = v.producer?.inputs[0])
    if (v.producer) behind.add(v.producer)
  const order = [...behind]
  if (order.some((x) => findOp(x)?.carries === 'shape')) return 'its weight is reshaped'
  const turned = order.findLastIndex((x) => findOp(x)?.carries === 'order')
  const first = Math.min(...[maskNode, quant?.dequantize].flatMap((x) => (x ? [order.indexOf(x)] : [])))
  if (turned > first) return 'its weight is transposed before it is masked or quantised'
  if (maskNode && mask?.constant?.dims.join() !== tensor.dims.join())
    return 'its mask does not have the shape of its weight'
  if (!quant) return null
  if (!constantOf(quant.scale) || (quant.zeroPoint && !constantOf(quant.zeroPoint)))
    return 'the scales of its weight are computed'
  if (quant.block > 0) return 'its weight has scales for groups of its channels'
  const known = quant.axis === null || quant.axis === outputAxis || quant.axis === inputAxis
  return known ? null : 'its weight has scales along an axis other than that of its channels'
}

/** Why a layer's output channels cannot be taken out of its bias. */
export function whyBias(n: Node): string | null {
  const bias = biasOf(n)
  return bias && !constantOf(bias) ? 'its bias is computed' : null
}
