/** Samples for passes and exports that look at what the network computes: `--data` and what belongs to it. */
import { optionsIn, parseOptions } from '../base/options.ts'
import { calibrationOptions } from '../data/calibration-options.ts'
import { dataOptions } from '../data/data-options.ts'
import { pixelOptions } from '../data/pixel-options.ts'
import type { PreprocessOverrides } from '../data/preprocess.ts'
import { RANDOM } from '../data/random-options.ts'
import type { Model } from '../graph/model.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { sizeOptions } from '../samples/size-options.ts'
import type { CommandIO } from './io.ts'
import { dataSuggestions } from './pixel-options.ts'

export const calibrationTable = {
  data: {
    type: 'string',
    placeholder: 'REF',
    get suggestions(): readonly string[] {
      return [...dataSuggestions(), RANDOM]
    },
    description: 'Data to calibrate on, e.g. cifar10:DIR, embedded, or random',
  },
  ...calibrationOptions,
  ...dataOptions,
  ...pixelOptions,
  ...sizeOptions,
} as const

type Given = Readonly<Record<string, unknown>>

/** --mean, --std, ... say how this model reads pixels: they are written into it. `name`: of the command, for messages. */
export async function calibrate(
  model: Model,
  reference: string,
  options: Given,
  { name, io }: { readonly name: string; readonly io: CommandIO },
): Promise<CalibrationData> {
  const { calibrationData, pixelsOf, randomWarning, writePreprocess } = await import('../data/index.ts')
  const { openNamed } = await import('./pixel-options.ts')
  const size = parseOptions(calibrationOptions, optionsIn(calibrationOptions, options), name)
  if (reference === RANDOM) {
    io.log(randomWarning('calibrating on'))
    return calibrationData(model, RANDOM, size)
  }
  const reading = parseOptions(dataOptions, optionsIn(dataOptions, options), name)
  const data = await openNamed(model, reference, 'train', reading, io)
  const overrides: PreprocessOverrides = parseOptions(pixelOptions, optionsIn(pixelOptions, options), name)
  const warn = (message: string): void => io.log(message)
  const preprocess = Object.keys(overrides).length > 0 && (await pixelsOf(model, data, overrides, warn))
  if (preprocess) writePreprocess(model, preprocess)
  return calibrationData(model, data, { ...size, warn })
}

/** What the options say of the sizes of inputs, in the model's metadata. */
export async function recordGivenSizes(model: Model, { dim, inputShape }: Given, name: string): Promise<void> {
  const { recordSizes } = await import('../samples/input-shapes.ts')
  recordSizes([model], parseOptions(sizeOptions, { dim, inputShape }, name))
}
