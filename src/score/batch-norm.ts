/**
 * What remains of a BatchNormalization at inference: y = x * s + b with s = scale / sqrt(var + epsilon) and
 * b = bias - mean * s. After a layer with constant weights that nothing else reads, s goes into the weights (or their
 * quantisation scales) and b is added to the layer's bias.
 *
 * Does not fold: several consumers, a shared weight, training mode, quantisers in between, MatMul beyond matrices
 * (whose channels are not axis 1).
 */

import { modelError } from '../base/errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import { isChannelNorm, isInBatchMode } from '../ops/facts.ts'
import { layerSlot, requireOp } from '../ops/index.ts'
import { WORKING_OPSET } from '../ops/raise-opset.ts'
import type { Constants } from './constants.ts'

/** The BatchNormalization that folds into `layer`, if there is one. */
export function foldedBatchNorm(layer: Node, constants: Constants): Node | null {
  const slot = layerSlot(layer)
  const weight = slot && layer.inputs[slot.input]
  const y = layer.output
  if (!weight || !constants.has(weight) || weight.uses.size > 1 || y.isOutput || y.uses.size !== 1) return null
  const [norm] = y.uses
  if (!norm || !isChannelNorm(norm) || norm.inputs[0] !== y) return null
  if (isInBatchMode(norm)) return null
  if (!norm.inputs.slice(1).every((v) => v && constants.has(v))) return null
  const others = layer.inputs.slice(1)
  if (others.some((v) => v && !constants.has(v))) return null
  if (slot.channels === 'rows' && y.dims.length !== 2) return null
  return norm
}

/** b per channel; `bias`: that of the layer which the BatchNormalization folds into. */
export function normBias(norm: Node, bias: Value | null, constants: Constants): Float64Array {
  const affine = requireOp(norm).affine!(norm, WORKING_OPSET, (v) => constants.tensor(v))
  if (typeof affine === 'string')
    throw modelError('not-counted', `${norm.label} is not counted: ${affine}`, { node: norm.id })
  const own = bias ? constants.tensor(bias).toNumbers() : null
  return own ? affine.c.map((c, i) => own[own.length === 1 ? 0 : i]! * affine.k[i]! + c) : affine.c
}
