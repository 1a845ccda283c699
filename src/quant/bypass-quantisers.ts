/**
 * The float network that a quantised one stands for: every quantiser of a float value removed, its readers reading its
 * input; or the quantisers of weights alone. Does not apply to weights that are stored as integers, which stay as they are.
 */
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { sweepNode } from '../graph/sweep.ts'
import { PRUNE_MASK, WEIGHT_QUANT } from '../layers/layers.ts'
import { quantPairOf } from '../layers/quant-pair.ts'

export interface FloatReference {
  readonly model: Model
  /** The values that those of the quantised model stand for. */
  readonly values: ReadonlyMap<Value, Value>
}

export interface ReferenceOptions {
  /** Prune masks are taken out too. */
  readonly unmasked?: boolean
  /** Quantisers of anything but weights stay. */
  readonly weightsOnly?: boolean
}

export function floatReference(quantised: Model, { unmasked, weightsOnly }: ReferenceOptions = {}): FloatReference {
  const values: ValueMap = new Map()
  const model = cloneModel(quantised, values)
  for (const n of [...model.graph.nodes()]) {
    const pair = quantPairOf(n)
    const isMask = unmasked && marks.role.get(n) === PRUNE_MASK
    const isTaken = pair?.quantize && (!weightsOnly || marks.role.get(n) === WEIGHT_QUANT)
    const source = isTaken ? pair.source : isMask ? n.input(0) : null
    if (!source) continue
    model.graph.replaceUses(n.output, source)
    sweepNode(n)
  }
  return { model, values }
}
