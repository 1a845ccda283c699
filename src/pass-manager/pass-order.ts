/**
 * Which passes must not come behind which: those that change what steps of activations behind them were calibrated on (prune), or
 * find no way through quantisers to what they would have folded (fold-bn). They refuse, with the order that works.
 */
import { type MncError, modelError } from '../base/errors.ts'
import type { Graph, Node } from '../graph/graph.ts'
import { ACTIVATION_QUANT, ROLE_KEY } from '../layers/layers.ts'

/** Whether mnc put the node there to quantise an activation. */
export const quantisesActivation = (n: Node): boolean => n.metadata.get(ROLE_KEY) === ACTIVATION_QUANT

/** The error of a pass that comes too late. */
export const comesTooLate = (pass: string, why: string, node?: string): MncError =>
  modelError('pass-order', `${pass} comes too late: ${why}`, {
    ...(node !== undefined && { node }),
    next: `run ${pass} before quantize and quantize-additions`,
  })

/** For passes that change what comes out of `changed`: refused where an activation behind them has its step already. */
export function refuseCalibrated(graph: Graph, changed: Iterable<Node>, pass: string): void {
  const behind = new Set(changed)
  for (const n of graph.nodes()) {
    if (!behind.has(n) && !n.inputs.some((v) => v?.producer && behind.has(v.producer))) continue
    behind.add(n)
    if (quantisesActivation(n))
      throw comesTooLate(pass, 'the steps of activations were calibrated on the network as it is now', n.id)
  }
}
