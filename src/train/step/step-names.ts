/**
 * Names that a training step reserves. Values of the network with such a name get another in the step; state
 * and options still use the original name.
 */

import { modelError } from '../../base/errors.ts'
import type { Graph, Value } from '../../graph/graph.ts'
import { marks } from '../../graph/marks.ts'

const RESERVED =
  /^(next_)?(weights|statistics|host|accumulated|moved|momentum|moment[12]|targets|target_\d+|loss|losses|loss_scale|logits|gradient|scaled_gradient|teacher_entropy|gradient_norm|lr|correction[12]|population_statistics|batch_statistics|minus_statistics|unbiased)$/

/** The name that `v` has in the model that the step was built from. */
export const nameOf = (v: Value): string => marks.name.get(v) ?? v.name

/** Renames what would collide. A model error where that is one of several inputs, which are fed by name. */
export function freeReservedNames(graph: Graph): void {
  const inputs = graph.fed
  for (const v of [...graph.values()]) {
    if (!RESERVED.test(v.name)) continue
    if (inputs.includes(v) && inputs.length > 1)
      throw modelError('reserved-name', `an input is called '${v.name}', a name that training steps use themselves`, {
        next: 'rename that input',
      })
    marks.name.set(v, v.name)
    const name = graph.freshName(`${v.name}_of_model`)
    if (v.producer?.name === v.name) v.producer.rename(name) // a name that a node keeps is not used again
    graph.rename(v, name)
  }
}

/** Makes `v` an output of the step, of that name. */
export function nameOutput(graph: Graph, v: Value, outputName: string): void {
  const out = v.name === outputName ? v : graph.append().op('Identity', [v], {}, { name: outputName, type: v.type })
  graph.addOutput(out)
}
