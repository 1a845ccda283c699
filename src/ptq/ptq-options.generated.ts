/** Made from the declarations by `npm run generate`; do not edit. */

import type { Share } from '../base/options.ts'

/** Options of `ptq`. */
export type PtqOptionsInput = {
  /** Width of weights, 2 to 8; 0 leaves them as they are. 8 by default; 7 with --integer, which all processors multiply quickly and rightly */
  readonly weightBits?: number | undefined
  /** Width of the layers' inputs, 2 to 8; 0 leaves them as they are. Default: 8 */
  readonly activationBits?: number | undefined
  /** Width of weights and inputs of the first layers, where the others have less. Default: 8 */
  readonly firstLayerBits?: number | undefined
  /** Weight bits of individual layers, by name (globs): fc=8,conv1=0, or @FILE */
  readonly layerWeightBits?: Readonly<Record<string, number>> | undefined
  /** Activation bits of individual layers, by name (globs), or @FILE */
  readonly layerActivationBits?: Readonly<Record<string, number>> | undefined
  /** Weights of an output channel that share a scale, a power of two from 16 to 256, in layers other than convolutions; without it one scale for the channel */
  readonly weightGroup?: number | undefined
  /** Share of the weights to set to zero first, those of least magnitude; the others make up for them. Default: 0 */
  readonly sparsity?: Share | undefined
  /** Sparsity of individual layers, by name (globs): conv1=0.5,fc=0, or @FILE */
  readonly layerSparsity?: Readonly<Record<string, Share>> | undefined
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["*"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** Also quantise what stands between layers, so that an int8 export runs entirely in integers. Default: false */
  readonly integer?: boolean | undefined
  /** How long it may take: no training, some, or a lot of it. Default: "default" */
  readonly effort?: 'fast' | 'default' | 'best' | undefined
  /** Steps to leave out, by name: refine, fold-bn, ... */
  readonly without?: readonly string[] | undefined
  /** How many of the layers that quantisation costs most get 8 bits, or stay float if they have 8; what that takes is said. Default: 0 */
  readonly rescue?: number | undefined
  /** Samples to use; a quarter of them judges and is not calibrated or trained on. Default: 512 */
  readonly limit?: number | undefined
  /** Samples in a run. Default: 32 */
  readonly batch?: number | undefined
  /** Threads that prepare batches. Default: 1 */
  readonly workers?: number | undefined
  /** Threads of the engine; 0: one per core. Default: 0 */
  readonly threads?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
}
