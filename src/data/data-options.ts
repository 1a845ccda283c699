/** How a data set is read: options of every command that takes `--data`. */
import { optionTable } from '../base/options.ts'

/** Where it is not more than half of the machine's memory. */
export const DEFAULT_MEMORY_MB = 2048

export const dataOptions = optionTable({
  classes: {
    type: 'string',
    placeholder: 'FILE',
    description: "Names of the classes in the order of the model's outputs, one a line or as JSON",
  },
  dataMemory: {
    type: 'integer',
    minimum: 1,
    maximum: 2 ** 20,
    placeholder: 'MB',
    description: `Memory for the images of a set, ${DEFAULT_MEMORY_MB} by default; decoded pictures of a folder that take more are in a file`,
  },
  dataCache: {
    type: 'string',
    placeholder: 'DIR',
    description: 'Folder that decoded pictures are kept in for the next run; a temporary file without',
  },
})
