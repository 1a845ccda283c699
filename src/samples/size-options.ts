/** Sizes of dynamic dims: the options of every command that runs a model. */
import { optionTable } from '../base/options.ts'

/** Remembered in what is written (input-shapes.ts). */
export const sizeOptions = optionTable({
  dim: { type: 'numberMap', placeholder: 'NAME=N,...', description: 'Sizes of symbolic dims of the inputs' },
  inputShape: {
    type: 'stringMap',
    placeholder: 'NAME=1,3,?,W',
    description:
      'Shape of an input, with dynamic dims as ? or a symbol; may be repeated; NAME= is optional if there is only one input',
  },
})
