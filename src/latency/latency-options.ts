/** Options of measuring latency, declared once for the command line and the library. */
import { type OptionsInput, optionTable } from '../base/options.ts'
import { deviceOptions } from '../runtime/device-options.ts'

export const latencyOptions = optionTable({
  threads: {
    type: 'numbers',
    default: [1],
    description: 'Threads of the engine, one measurement each; 0: one a core. 1,0 measures both',
  },
  batch: { type: 'numbers', default: [1], description: 'Samples in a run, one measurement each, e.g. 1,32' },
  seconds: {
    type: 'number',
    default: 3,
    exclusiveMinimum: 0,
    maximum: 3600,
    description: 'Time to measure each model for, in each combination of threads and batch',
  },
  ...deviceOptions,
})

/** The device is the executor's. */
export type LatencyOptions = Omit<OptionsInput<typeof latencyOptions>, 'device'>
