/** Every operator that TensorFlow.js runs here, by family. What is not here runs in onnxruntime, and is listed. */
import { convolutions } from './convolutions.ts'
import { elementwise } from './elementwise.ts'
import { indexing } from './indexing.ts'
import type { KernelTable } from './kernel.ts'
import { linear } from './linear.ts'
import { normalizations } from './normalizations.ts'
import { pools } from './pools.ts'
import { reductions } from './reductions.ts'
import { resizing } from './resizing.ts'
import { shapes } from './shapes.ts'

export const kernels: KernelTable = {
  ...elementwise,
  ...reductions,
  ...shapes,
  ...indexing,
  ...linear,
  ...convolutions,
  ...pools,
  ...normalizations,
  ...resizing,
}
