/** The option of everything that computes with parameters and calibration data (finite.ts). */
import { optionTable } from '../base/options.ts'

export const finiteOptions = optionTable({
  allowNonfinite: {
    type: 'boolean',
    description:
      'Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values)',
  },
})
