/**
 * What is left of a BatchNormalization at inference: y = x * s + b with s = scale / sqrt(var + epsilon) and
 * b = bias - mean * s. Behind a layer with constant weights that nothing else reads, s goes into the weights (or their
 * quantisation scales) and b is added to the layer's bias.
 *
 * Does not fold: several consumers, a shared weight, training mode, quantisers in between, MatMul beyond matrices
 * (whose channels are not axis 1).
 */
import type { Node, Value } from '../graph/graph.ts'
import { layerSlot } from '../ops/index.ts'
import type { Constants } from './constants.ts'

/** The BatchNormalization that folds into `layer`, if there is one. */
export function foldedBatchNorm(layer: Node, constants: Constants): Node | null {
  const slot = layerSlot(layer)
  const weight = slot && layer.inputs[slot.input]
  const y = layer.output
  if (!weight || !constants.has(weight) || weight.uses.size > 1 || y.isOutput || y.uses.size !== 1) return null
  const [norm] = y.uses
  if (norm?.op !== 'BatchNormalization' || norm.domain !== '' || norm.inputs[0] !== y) return null
  if (norm.int('training_mode', 0) !== 0) return null
  if (!norm.inputs.slice(1).every((v) => v && constants.has(v))) return null
  const others = layer.inputs.slice(1)
  if (others.some((v) => v && !constants.has(v))) return null
  if (layer.op === 'MatMul' && y.dims.length !== 2) return null
  return norm
}

/** b per channel; `bias`: that of the layer which the BatchNormalization folds into. */
export function normBias(norm: Node, bias: Value | null, constants: Constants): Float64Array {
  const [scale, shift, mean, variance] = [1, 2, 3, 4].map((i) => constants.tensor(norm.input(i)).toNumbers())
  const own = bias ? constants.tensor(bias).toNumbers() : null
  const epsilon = norm.float('epsilon', 1e-5)
  return Float64Array.from(scale!, (s, c) => {
    const before = own ? own[own.length === 1 ? 0 : c]! : 0
    return shift![c]! + ((before - mean![c]!) * s) / Math.sqrt(variance![c]! + epsilon)
  })
}
