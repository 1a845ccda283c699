/** Sizes of open dims: the options of every command that runs a model. */
import { optionTable } from '../base/options.ts'

/** Remembered in what is written (input-shapes.ts). */
export const sizeOptions = optionTable({
  dim: { type: 'numberMap', placeholder: 'NAME=N,...', description: 'Sizes of symbolic dims of the inputs' },
  inputShape: {
    type: 'stringMap',
    placeholder: 'NAME=1,3,?,W',
    description: 'Shape of an input, open dims as ? or a symbol; again for others, without NAME= for the only one',
  },
})
