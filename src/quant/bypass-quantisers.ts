/**
 * The float network that a quantised one stands for: every quantiser of a float value removed, its readers reading its
 * input. Does not apply to weights that are stored as integers, which stay as they are. Where `unmasked`, prune masks
 * too.
 */
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { sweepNode } from '../graph/sweep.ts'
import { PRUNE_MASK } from '../layers/layers.ts'
import { quantPairOf } from '../layers/quant-pair.ts'

export interface FloatReference {
  readonly model: Model
  /** The values that those of the quantised model stand for. */
  readonly values: ReadonlyMap<Value, Value>
}

export function floatReference(quantised: Model, unmasked = false): FloatReference {
  const values: ValueMap = new Map()
  const model = cloneModel(quantised, values)
  for (const n of [...model.graph.nodes()]) {
    const pair = quantPairOf(n)
    const isMask = unmasked && marks.role.get(n) === PRUNE_MASK
    const source = pair?.quantize ? pair.source : isMask ? n.input(0) : null
    if (!source) continue
    model.graph.replaceUses(n.output, source)
    sweepNode(n)
  }
  return { model, values }
}
