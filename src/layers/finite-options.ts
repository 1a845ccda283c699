/** The option of whatever makes something of parameters and of calibration data (finite.ts). */
import { optionTable } from '../base/options.ts'

export const finiteOptions = optionTable({
  allowNonfinite: {
    type: 'boolean',
    description:
      'Go on where weights or calibration data hold NaN or infinity (steps are then made of the other values)',
  },
})
