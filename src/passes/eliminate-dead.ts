/**
 * Removes nodes whose outputs nothing reads, unread optional outputs (`OpDef.optionalOutputs`), and initializers that
 * nothing reads. Graph inputs and outputs stay. Bodies of If, Loop and Scan are cleaned too.
 *
 * Does not apply to other operators' optional outputs, whose number can carry meaning (BatchNormalization before
 * opset 14 trains where it has more than one).
 */
import { optionTable } from '../base/options.ts'
import type { Graph, Node } from '../graph/graph.ts'
import { findOp } from '../ops/index.ts'
import { definePass } from '../pass-manager/define-pass.ts'

/** Removes what is dead in `graph`; returns how many nodes, outputs and initializers were removed. */
export function removeDead(graph: Graph): number {
  let removed = 0
  for (const n of graph.nodesReversed()) {
    if (n.outputs.some((v) => v?.isUsed)) {
      for (const g of n.subgraphs) removed += removeDead(g)
      if (findOp(n)?.optionalOutputs) removed += dropTrailing(n)
    } else {
      graph.remove(n)
      removed++
    }
  }
  for (const v of [...graph.initializers()])
    if (!v.isUsed) {
      graph.removeInitializer(v)
      removed++
    }
  return removed
}

function dropTrailing(n: Node): number {
  let dropped = 0
  for (let i = n.outputs.length - 1; i > 0 && n.outputs[i]?.isUsed === false; i--) {
    n.dropOutput(i)
    dropped++
  }
  return dropped
}

export const eliminateDead = definePass({
  name: 'eliminate-dead',
  summary: 'Remove nodes, optional outputs and initializers that nothing uses',
  options: optionTable({}),
  preserves: 'numerics',
  run: (model) => removeDead(model.graph) > 0,
})
