/**
 * Which passes must not come after which: those that change the values on which scales of activations were calibrated (prune), or
 * find no way through quantisers to what they would have folded (fold-bn). They refuse, with the order that works.
 *
 * And which give the same outputs in either order but a smaller file in only one: remove-channels removes what is zero at that
 * point, so it comes after the pruning of channels. They print a note.
 */

import { type MncError, modelError } from '../base/errors.ts'
import type { Graph, Node } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { ACTIVATION_QUANT } from '../layers/layers.ts'
import { readHistory } from './history.ts'

/** Whether mnc put the node there to quantise an activation. */
export const quantisesActivation = (n: Node): boolean => marks.role.get(n) === ACTIVATION_QUANT

/** The error of a pass that comes too late. */
export const comesTooLate = (pass: string, why: string, node?: string): MncError =>
  modelError('pass-order', `${pass} comes too late: ${why}`, {
    ...(node !== undefined && { node }),
    next: `run ${pass} before quantize and quantize-outputs`,
  })

/** For passes that change what comes out of `changed`: refused where an activation after them already has its scale. */
export function refuseCalibrated(graph: Graph, changed: Iterable<Node>, pass: string): void {
  const behind = new Set(changed)
  for (const n of graph.nodes()) {
    if (!behind.has(n) && !n.inputs.some((v) => v?.producer && behind.has(v.producer))) continue
    behind.add(n)
    if (quantisesActivation(n))
      throw comesTooLate(pass, 'the activation scales were calibrated on the network as it is now', n.id)
  }
}

/** What remove-channels reports when it finds no channel of zeros. */
export const NO_EMPTY_CHANNELS =
  'remove-channels finds no channel without effect; it makes a file smaller after `prune --pattern channel`'

/** What pruning of channels reports after remove-channels; null if that did not run. */
export function adviseRemoval(model: Model): string | null {
  if (!readHistory(model).some((entry) => entry.pass === 'remove-channels')) return null
  return 'remove-channels ran before: the channels that are zero now stay in the file until it runs again'
}
