/** How a data set is read: options of every command that takes `--data`. */
import { optionTable } from '../base/options.ts'

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
