/** Made from the declarations by `npm run generate`; do not edit. */

import type { Share } from '../base/options.ts'

/** Options of `scanSensitivity`. */
export type SensitivityOptionsInput = {
  /** Sparsities to try in each layer; 0.5,0.75,0.9 if neither these nor widths are given */
  readonly sparsity?: readonly Share[] | undefined
  /** Weight widths to try; likewise 4,2 */
  readonly weightBits?: readonly number[] | undefined
  /** Input widths to try; likewise 4 */
  readonly activationBits?: readonly number[] | undefined
  /** Measure quantised layers behind round-weights and correct-bias, as `mnc ptq` leaves them. Default: false */
  readonly ptq?: boolean | undefined
  /** What to measure: accuracy by default; without data sqnr (of the first output, in dB; needs no labels) */
  readonly metric?: 'accuracy' | 'loss' | 'sqnr' | undefined
  /** What one layer may cost for a setting to be proposed: accuracy lost (0.01), loss gained (0.05); for sqnr the minimum in dB (20) */
  readonly tolerance?: number | undefined
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["Conv"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** Images to measure on. Default: 1000 */
  readonly limit?: number | undefined
  /** Images to fit the scales of inputs on. Default: 256 */
  readonly calibrate?: number | undefined
  /** Images per batch. Default: 100 */
  readonly batch?: number | undefined
  /** Threads of the engine; 0: one per core. Default: 0 */
  readonly threads?: number | undefined
}
