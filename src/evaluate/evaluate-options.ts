/** Options of measuring accuracy, declared once for the command line and recipes. */
import { optionTable } from '../base/options.ts'
import { batchOption } from '../data/loader-options.ts'
import { deviceOptions, threadsOption } from '../runtime/device-options.ts'
import { metricRegistry } from './metrics/index.ts'

export const evaluateOptions = optionTable({
  limit: { type: 'integer', minimum: 1, description: 'Images to use; all by default' },
  batch: batchOption(100),
  ...deviceOptions,
  threads: threadsOption,
  minAccuracy: { type: 'share', description: 'Gate: exit 3 if top-1 accuracy is below this share (0.9 or 90%)' },
})

/** What is measured. */
export const metricOptions = optionTable({
  metric: {
    type: 'strings',
    placeholder: 'NAME',
    get description(): string {
      return `What to measure: ${metricRegistry.names.join(', ')}; by default accuracy, or mse where the data have arrays for outputs and no labels`
    },
    get suggestions(): readonly string[] {
      return metricRegistry.names
    },
  },
  reference: {
    type: 'string',
    placeholder: 'FILE',
    description: 'Model whose outputs are wanted, for metrics of values, in place of what the data hold',
  },
})

/** What the network sees. */
export const showOptions = optionTable({
  show: {
    type: 'integer',
    minimum: 1,
    maximum: 10_000,
    placeholder: 'N',
    description: 'Write what the model gets of the first N samples as pictures, into --out',
  },
  out: { type: 'string', placeholder: 'DIR', description: 'Folder for the pictures of --show; seen by default' },
})
