/** How pixels become a foreign model's input: the options of every command and recipe stage that feeds images. */
import { optionTable } from '../base/options.ts'

/** --mean, --std, ...: for models that say nothing about their preprocessing. Written into the result. */
export const pixelOptions = optionTable({
  mean: { type: 'numbers', description: 'Mean of pixels / scale, one number or one per channel' },
  std: { type: 'numbers', description: 'Standard deviation of pixels / scale, likewise' },
  scale: { type: 'number', exclusiveMinimum: 0, description: 'Number that pixels are divided by first' },
  replicateGrey: {
    type: 'boolean',
    description: 'Repeat grey images into every channel of a model that takes colours',
  },
  inputSize: { type: 'numbers', description: 'Size of the images that the model is given: side, or height,width' },
})
