/** How much data a calibrating pass sees: options of `mnc pass` and of recipes. */
import { optionTable } from '../base/options.ts'
import { batchOption } from './loader-options.ts'

export const calibrationOptions = optionTable({
  limit: { type: 'integer', minimum: 1, default: 512, description: 'Images to calibrate on' },
  batch: batchOption(64, 'Images per calibration batch'),
  copies: {
    type: 'integer',
    minimum: 0,
    default: 0,
    description: 'Of each image so many cropped and mirrored copies as well; for passes that train',
  },
})
