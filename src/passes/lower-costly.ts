/**
 * Training steps only: nodes whose kernels take far more room than their tensors (a Resize of one long line) are
 * rewritten as others (OpDef.lower), with the same values except for rounding. After differentiation, whose rules know
 * the operators.
 */
import type { Graph } from '../graph/graph.ts'
import { findOp } from '../ops/index.ts'

/** Returns how many there were. Needs types. */
export function lowerCostly(graph: Graph): number {
  let count = 0
  for (const n of graph.nodes()) if (findOp(n)?.lower?.(n)) count++
  return count
}
