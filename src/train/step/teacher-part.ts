/** The part of a step that computes only some of its values. */
import { cloneModel, type ValueMap } from '../../graph/clone.ts'
import type { Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { removeDead } from '../../passes/eliminate-dead.ts'

/** A model with `values` of the step as outputs, in their order. */
export function partFor(step: Model, values: readonly Value[]): Model {
  const map: ValueMap = new Map()
  const part = cloneModel(step, map)
  const { graph } = part
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  for (const v of values) graph.addOutput(map.get(v)!)
  removeDead(graph)
  for (const v of [...graph.inputs]) if (!v.isUsed) graph.removeInput(v)
  return part
}
