/** Made from the declarations by `npm run generate`; do not edit. */

import type { Share } from '../base/options.ts'

/** Options of `compress`. */
export type CompressOptionsInput = {
  /** Accuracy that may be lost: 0.01 or 1% is one point; that is the default where there are labels */
  readonly maxDrop?: Share | undefined
  /** Without labels: least cosine between the file's outputs and the float ones; 0.999 by default */
  readonly minCosine?: number | undefined
  /** Where the file is to run: see export. By default size where the goal is bytes or score, else cpu */
  readonly target?: 'size' | 'cpu' | 'opset13' | 'openvino' | 'tensorrt' | 'web' | 'weight-only' | (string & {}) | undefined
  /** What the file must not exceed: bytes=100KB, macs=10M, latency=2ms or score=0.01 */
  readonly goal?: string | undefined
  /** How long it may take, with fine-tuning where quantising alone does not reach the goal: 30m, 2h; without it nothing is fine-tuned */
  readonly time?: string | undefined
  /** Use the labels of the data; --no-labels compares outputs. Default: true */
  readonly labels?: boolean | undefined
  /** How long each quantising may take: see ptq. Default: "default" */
  readonly effort?: 'fast' | 'default' | 'best' | undefined
  /** Samples that quantising calibrates and judges its steps on: by default 512, fewer of large networks */
  readonly limit?: number | undefined
  /** Training samples held out to choose by: by default 5,000, fewer of large networks, a quarter of the set at most */
  readonly held?: number | undefined
  /** Samples in a run. Default: 32 */
  readonly batch?: number | undefined
  /** Threads that prepare batches. Default: 1 */
  readonly workers?: number | undefined
  /** Threads of the engine; 0: one per core. Default: 0 */
  readonly threads?: number | undefined
  /** Target cpu: threads to measure the forms of a file on, as --threads of export has them: 1,0 */
  readonly deployThreads?: readonly number[] | undefined
  /** Target cpu: samples in a run that they are measured with, as --batch of export: 1,32 */
  readonly deployBatch?: readonly number[] | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
}
