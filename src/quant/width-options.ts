/** How wide single layers are quantised: options of everything that quantises. */
import { optionTable } from '../base/options.ts'

export const layerWidthOptions = optionTable({
  layerWeightBits: {
    type: 'numberMap',
    description: 'Weight bits of individual layers, by name (globs): fc=8,conv1=0, or @FILE',
  },
  layerActivationBits: {
    type: 'numberMap',
    description: 'Activation bits of individual layers, by name (globs), or @FILE',
  },
})

/** Width of `what`; other commands have other defaults. */
export const widthOption = (what: string) =>
  ({
    type: 'integer',
    minimum: 0,
    maximum: 8,
    default: 4,
    description: `Width of ${what}, 2 to 8; 0 leaves them as they are`,
  }) as const
