/**
 * Rewrites operators that have no gradient rule of their own as simpler ones (OpDef.decompose): LSTM as its steps, losses,
 * attention, Fourier transforms. Training does this on its own copy; the file that it writes keeps the operators.
 *
 * Needs known shapes: symbolic dims of the inputs become --batch. Does not apply inside bodies of If, Loop and Scan, and to
 * forms that an operator's definition refuses (a recurrent layer of too many steps).
 */

import { MncError } from '../base/errors.ts'
import { optionTable } from '../base/options.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Node } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { findOp } from '../ops/index.ts'
import { definePass } from '../pass-manager/define-pass.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { openDimsOption } from './shapes/open-dims-option.ts'

const isPending = (n: Node): boolean => findOp(n)?.gradient === 'decompose' && !marks.frozen.is(n)

/**
 * Decomposes every node outside frozen parts; types are known. Returns how many there were. A node of a form that cannot
 * be decomposed is a model error, or, if `left` is given, stays, and `left` receives the reason.
 */
export function decomposeNodes(graph: Graph, left?: (node: Node, error: MncError) => void): number {
  let count = 0
  for (const n of graph.nodes()) {
    if (!isPending(n)) continue
    try {
      findOp(n)?.decompose?.(n)
      count++
    } catch (error) {
      if (!left || !(error instanceof MncError) || error.code !== 'unsupported-node') throw error
      left(n, error)
    }
  }
  return count
}

export const decomposeOps = definePass({
  name: 'decompose-ops',
  summary: 'Rewrite operators without a gradient rule of their own (LSTM, Attention, losses) as simpler ones',
  options: optionTable(openDimsOption),
  isInner: true,
  preserves: 'numerics',
  bakes: true,
  async run(model, { batch }, ctx) {
    const { graph } = model
    if (![...graph.nodes()].some(isPending)) return false
    const dims = { '*': batch }
    // on a copy first: where nothing is decomposed the model keeps its types too
    const trial = cloneModel(model)
    await inferTypes(trial, { dims })
    const decline = (n: Node, error: MncError): void => ctx.decline(n.id, error.message)
    if (decomposeNodes(trial.graph, decline) === 0) return false
    await inferTypes(model, { dims })
    return decomposeNodes(graph, () => {}) > 0
  },
})
