/**
 * A rewrite for onnxruntime's CPU provider where the library of native kernels is loaded (runtime/native/): groups of nodes of a
 * training step become operators of the domain `step.mnc`. Such a graph exists in memory only.
 */

import { gradientsIn } from '../../graph/hints.ts'
import type { Model } from '../../graph/model.ts'
import { fuseActivationGradients } from './activation.ts'
import { fusableNorms, fuse, fuseGradient, removeUnread } from './fuse-norms.ts'
import { STEP_DOMAIN } from './operators.ts'

/** Rewrites in place. Returns how many nodes are native now. */
export function useNativeKernels(model: Model): number {
  const { graph } = model
  const gradients = gradientsIn(graph)
  const norms = fusableNorms(graph)
  for (const n of norms) fuseGradient(n, gradients)
  removeUnread(graph)
  const count = norms.length + fuseActivationGradients(graph, gradients)
  removeUnread(graph)
  for (const n of norms) fuse(n)
  removeUnread(graph)
  if (count > 0) model.opsets.set(STEP_DOMAIN, 1)
  return count
}
