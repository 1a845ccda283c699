/** The option of whatever computes with weights when the file is made (overridable.ts). */
import { optionTable } from '../base/options.ts'

/** Of every pass that bakes, and of exports. */
export const overridableOptions = optionTable({
  keepOverridable: {
    type: 'boolean',
    default: false,
    description: 'Leave alone the weights that are inputs with a default value; otherwise they become constants',
  },
})
