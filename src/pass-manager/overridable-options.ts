/** The option of everything that computes with weights when the file is made (overridable.ts). */
import { optionTable } from '../base/options.ts'

/** For every pass that bakes, and for exports. */
export const overridableOptions = optionTable({
  keepOverridable: {
    type: 'boolean',
    default: false,
    description: 'Leave alone the weights that are inputs with a default value; otherwise they become constants',
  },
})
