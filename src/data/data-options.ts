/** How a data set is read: options of every command that takes `--data`. */
import { type OptionsOf, optionTable } from '../base/options.ts'

/** Unless that is more than half of the machine's memory. */
export const DEFAULT_MEMORY_MB = 2048

export const dataOptions = optionTable({
  classes: {
    type: 'string',
    placeholder: 'FILE',
    description: "Names of the classes in the order of the model's outputs, one per line or as JSON",
  },
  map: {
    type: 'stringMap',
    placeholder: 'INPUT=ARRAY',
    description:
      'Array of the data that feeds an input, is the target of an output, or holds the labels (labels=ARRAY), where names differ',
  },
  sampleRate: {
    type: 'integer',
    minimum: 1,
    maximum: 1_000_000,
    placeholder: 'HZ',
    description: 'Rate to which sounds at another are resampled; without it all files have to be at one',
  },
  seconds: {
    type: 'number',
    exclusiveMinimum: 0,
    placeholder: 'S',
    description: 'Length of each sound: longer ones are cut, shorter ones end in silence; by default the longest file',
  },
  dataMemory: {
    type: 'integer',
    minimum: 1,
    maximum: 2 ** 20,
    placeholder: 'MB',
    description: `Memory for the images of a data set, ${DEFAULT_MEMORY_MB} by default; decoded pictures of a folder that do not fit go to a file`,
  },
  dataCache: {
    type: 'string',
    placeholder: 'DIR',
    description: 'Folder that keeps decoded pictures for the next run; without it a temporary file is used',
  },
})

export type DataOptions = OptionsOf<typeof dataOptions>
