/**
 * A rewrite for onnxruntime's CPU provider where the library of native kernels is loaded (runtime/native/): groups of nodes of a
 * training step become operators of the domain `mnc.step`. Such a graph exists in memory only.
 */
import type { Model } from '../../graph/model.ts'
import { fuseNorms } from './fuse-norms.ts'
import { STEP_DOMAIN } from './operators.ts'

/** Rewrites in place. Returns how many nodes are native now. */
export function useNativeKernels(model: Model): number {
  const count = fuseNorms(model.graph)
  if (count > 0) model.opsets.set(STEP_DOMAIN, 1)
  return count
}
