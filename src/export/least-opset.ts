/**
 * The oldest opset that an exported file can be written in as it is, so that as many readers as possible load it: most
 * changes of operators only allow more. Bounds come from where the meaning of a node changed (schema-versions.ts); types
 * and attributes that came later are found with onnxruntime, which checks nodes against the schemas of the opset.
 *
 * Not below 13, where quantisers got an axis and below which opsets are not tested.
 */

import { irVersionFor, type Model } from '../graph/model.ts'
import { oldestForm, sinceVersions } from '../ops/facts.ts'
import { loadsInPart } from '../runtime/isolated/engine-refusal.ts'

const OLDEST = 13
/** Model-local functions came with IR 8. */
const FUNCTIONS_IR = 8

/** Lowers the opset and IR version of `model`; they stay if no older one works. */
export async function useLeastOpset(model: Model): Promise<void> {
  const now = { opset: model.opset, ir: model.irVersion }
  for (const opset of candidates(model)) {
    model.opsets.set('', opset)
    model.irVersion = Math.max(irVersionFor(opset), model.functions.length > 0 ? FUNCTIONS_IR : 0)
    if (await loadsInPart(model)) return
  }
  model.opsets.set('', now.opset)
  model.irVersion = now.ir
}

/** Opsets below the present one that may work, ascending: the first, and those at which an operator in use allows more. */
function candidates({ graph, functions, opset }: Model): number[] {
  const nodes = [graph, ...functions.map((f) => f.graph)].flatMap((g) => [...g.allNodes()])
  const own = nodes.filter((n) => n.domain === '')
  const least = own.reduce((most, n) => Math.max(most, oldestForm(n, opset)), OLDEST)
  const changes = new Set(own.map((n) => n.op).flatMap((op) => [...(sinceVersions(op) ?? [])]))
  return [...new Set([least, ...changes])].filter((v) => v >= least && v < opset).sort((a, b) => a - b)
}
