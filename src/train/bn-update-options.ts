/** Options of re-estimating BatchNormalization, declared once for the command line and recipes. */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { augmentNames, batchOption, workersOption } from '../data/loader-options.ts'
import { deviceOptions } from '../runtime/device-options.ts'

export const bnUpdateOptions = optionTable({
  epochs: { type: 'number', exclusiveMinimum: 0, default: 1, description: 'Passes over the training set' },
  batch: batchOption(64),
  augment: {
    type: 'string',
    default: 'standard',
    placeholder: 'NAME|FILE',
    suggestions: augmentNames,
    description: 'Augmentation: none, standard, micronet, or a policy FILE',
  },
  limit: { type: 'integer', minimum: 1, description: 'Use the first N images only' },
  ...deviceOptions,
  workers: workersOption,
})

export type ParsedBnUpdateOptions = OptionsOf<typeof bnUpdateOptions>
