/** A block as a model of its own: what enters it are inputs, what leaves it outputs. */
import { cloneModel, type ValueMap } from '../../graph/clone.ts'
import type { Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { removeDead } from '../eliminate-dead.ts'

export interface BlockModel {
  readonly model: Model
  /** Names of its inputs and outputs, in the order of the values asked for. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** Images of values of the whole model. */
  readonly images: ValueMap
}

/** `examples`: a tensor for each entry, whose type and dims the input takes. */
export function blockModel(
  whole: Model,
  entries: readonly Value[],
  exits: readonly Value[],
  examples: readonly Tensor[],
): BlockModel {
  const images: ValueMap = new Map()
  const model = cloneModel(whole, images)
  const { graph } = model
  const targets = exits.map((v) => images.get(v)!)
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const inputs = entries.map((v, i) => {
    const { type, dims } = examples[i]!
    const given = graph.addInput(graph.freshName(`block/in${i}`), { elem: type, dims })
    graph.replaceUses(images.get(v)!, given)
    return given.name
  })
  for (const v of targets) graph.addOutput(v)
  removeDead(graph)
  for (const v of [...graph.inputs]) if (!v.isUsed && !inputs.includes(v.name)) graph.removeInput(v)
  return { model, inputs, outputs: targets.map((v) => v.name), images }
}
