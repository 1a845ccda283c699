/**
 * Writes operators that have no gradient rule of their own in simpler ones (OpDef.decompose): LSTM as its steps, losses,
 * attention, Fourier transforms. Training does this on its own copy; the file that it writes keeps the operators.
 *
 * Needs known shapes: symbolic dims of the inputs take --batch. Does not apply inside bodies of If, Loop and Scan.
 */
import type { Graph, Node } from '../graph/graph.ts'
import { findOp } from '../ops/index.ts'
import { optionTable } from '../options.ts'
import { inferTypes } from '../runtime/infer-types.ts'
import { definePass } from './define-pass.ts'
import { FROZEN_KEY } from './merge-teacher.ts'

const isPending = (n: Node): boolean => findOp(n)?.gradient === 'decompose' && n.metadata.get(FROZEN_KEY) !== 'true'

/** Decomposes every node outside frozen parts; types are known. Returns how many there were. */
export function decomposeNodes(graph: Graph): number {
  let count = 0
  for (const n of graph.nodes()) {
    if (!isPending(n)) continue
    findOp(n)?.decompose?.(n)
    count++
  }
  return count
}

export const decomposeOps = definePass({
  name: 'decompose-ops',
  summary: 'Write operators without a gradient rule of their own (LSTM, Attention, losses) in simpler ones',
  options: optionTable({
    batch: { type: 'integer', minimum: 1, default: 1, description: 'size that symbolic dims of the inputs become' },
  }),
  preserves: 'numerics',
  bakes: true,
  async run(model, { batch }) {
    const { graph } = model
    if (![...graph.nodes()].some(isPending)) return false
    await inferTypes(model, { dims: { '*': batch } })
    return decomposeNodes(graph) > 0
  },
})
