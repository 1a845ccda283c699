/** Options of a sensitivity scan, declared once for the command line and the library. */

import { type OptionsOf, optionTable } from '../base/options.ts'
import { batchOption } from '../data/loader-options.ts'
import { layerOptions } from '../layers/layer-options.ts'
import { threadsOption } from '../runtime/device-options.ts'

export const metricNames = ['accuracy', 'loss', 'sqnr'] as const
export type MetricName = (typeof metricNames)[number]

export const sensitivityOptions = optionTable({
  sparsity: {
    type: 'shares',
    description: 'Sparsities to try in each layer; 0.5,0.75,0.9 if neither these nor widths are given',
  },
  weightBits: { type: 'numbers', description: 'Weight widths to try; likewise 4,2' },
  activationBits: { type: 'numbers', description: 'Input widths to try; likewise 4' },
  ptq: {
    type: 'boolean',
    default: false,
    description: 'Measure quantised layers behind round-weights and correct-bias, as `mnc ptq` leaves them',
  },
  metric: {
    type: 'string',
    enum: metricNames,
    description:
      'What to measure: accuracy by default; without data sqnr (of the first output, in dB; needs no labels)',
  },
  tolerance: {
    type: 'number',
    minimum: 0,
    description:
      'What one layer may cost for a setting to be proposed: accuracy lost (0.01), loss gained (0.05); for sqnr the minimum in dB (20)',
  },
  ...layerOptions,
  limit: { type: 'integer', minimum: 1, default: 1000, description: 'Images to measure on' },
  calibrate: { type: 'integer', minimum: 1, default: 256, description: 'Images to fit the scales of inputs on' },
  batch: batchOption(100),
  threads: threadsOption,
})

export type SensitivityOptions = OptionsOf<typeof sensitivityOptions>
export type { SensitivityOptionsInput } from './sensitivity-options.generated.ts'

/** Where the tolerance is not given. */
export const defaultTolerance: Readonly<Record<MetricName, number>> = { accuracy: 0.01, loss: 0.05, sqnr: 20 }
