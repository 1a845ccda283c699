/** Brings single nodes from one opset to a later one by the steps that op definitions declare. */
import type { Node } from '../graph/graph.ts'
import { earlyUpgrades } from './early-forms.ts'
import { findOp } from './index.ts'
import type { Upgrade } from './support/define-op.ts'

/** The steps that an operator declares, those of the oldest forms first. */
export const upgradesOf = (node: Pick<Node, 'op' | 'domain'>): readonly Upgrade[] => [
  ...(node.domain === '' ? earlyUpgrades(node.op) : []),
  ...(findOp(node)?.upgrades ?? []),
]

/**
 * Rewrites `node` from the form of opset `from` into that of `to`. A step may put nodes around it or replace it; these
 * are in the form of the step's version and are upgraded on from there. Nodes of unknown ops stay as they are. Throws an
 * unsupported-node error where a form has no successor. True where anything was rewritten.
 */
export function upgradeNode(node: Node, from: number, to: number): boolean {
  const step = upgradesOf(node).find((u) => u.to > from && u.to <= to)
  if (!step) return false
  const { prev, next, graph } = node
  step.apply(node)
  const written: Node[] = []
  for (let n = prev ? prev.next : first(graph); n && n !== next; n = n.next) written.push(n)
  for (const n of written) upgradeNode(n, step.to, to)
  return true
}

const first = (graph: Node['graph']): Node | null => graph.nodes().next().value ?? null
