/** What every command that feeds images shares: the data reference, how it is read, how pixels become the input. */
import { usageError } from '../base/errors.ts'
import { type OptionSpec, type OptionsOf, optionsIn, optionTable } from '../base/options.ts'
import type { SampleSet } from '../data/array-set.ts'
import { type DataOptions, dataOptions } from '../data/data-options.ts'
import type { Split } from '../data/dataset.ts'
import { formOf } from '../data/formats/define-format.ts'
import { dataFormats } from '../data/formats/index.ts'
import { pixelOptions } from '../data/pixel-options.ts'
import type { Preprocess } from '../data/preprocess.ts'
import type { Model } from '../graph/model.ts'
import type { CommandIO } from './io.ts'

export { dataOptions, pixelOptions }

/** What completion offers for `--data`: `cifar10:` where a place follows. */
export const dataSuggestions = (): readonly string[] =>
  dataFormats.map(({ name, place }) => (place === null ? name : `${name}:`))

/** `--data`, as it is described for one command; `kinds`: what it takes besides. The list of formats is made when it is asked for: the user's own are known late. */
export const dataOptionWith = (more = '', kinds: readonly string[] = []) =>
  ({
    type: 'string',
    placeholder: 'REF',
    get description(): string {
      return `${dataFormats.map(formOf).join(', ')}, with #train or #test${more}`
    },
    get suggestions(): readonly string[] {
      return [...dataSuggestions(), ...kinds]
    },
  }) as const satisfies OptionSpec

export const dataOption = optionTable({ data: dataOptionWith() })

/** For commands that feed images and nothing else. */
export const imageOptions = optionTable({ ...dataOption, ...dataOptions, ...pixelOptions })

/**
 * Opens the data of `--data`, with the classes as `--classes` (then written into the model) or the model itself number
 * them, prints the notes on the set, and finds the preprocessing that `model` needs.
 */
export async function openFor(
  model: Model,
  reference: string | undefined,
  split: Split,
  options: OptionsOf<typeof pixelOptions> & DataOptions,
  io: CommandIO,
): Promise<{ data: SampleSet; preprocess: Preprocess | undefined }> {
  if (!reference) throw usageError('--data is missing', 'e.g. --data cifar10:DIR or --data embedded')
  const { pixelsOf } = await import('../data/index.ts')
  const { inputWarning } = await import('../data/fed-wrongly.ts')
  const data = await openNamed(model, reference, split, options, io)
  const note = (text: string): void => io.log(`note: ${text}`)
  const preprocess = await pixelsOf(model, data, optionsIn(pixelOptions, options), note)
  const odd = await inputWarning(model, data, preprocess)
  if (odd) note(odd)
  return { data, preprocess }
}

/** The data alone. */
export async function openNamed(
  model: Model,
  reference: string,
  split: Split,
  { classes, ...reading }: DataOptions,
  io: CommandIO,
): Promise<SampleSet> {
  const { openDataset, openOptions } = await import('../data/open.ts')
  const { inClassOrder, inModelOrder, loadClassOrder } = await import('../data/class-order.ts')
  const { writeClassOrder } = await import('../graph/class-names.ts')
  const names = classes === undefined ? null : loadClassOrder(classes)
  const note = (text: string): void => io.log(`note: ${text}`)
  const opened = await openDataset(reference, split, openOptions(reading, note))
  for (const text of opened.notes) note(text)
  if (!names) return inModelOrder(model, opened)
  writeClassOrder(model, names)
  return inClassOrder(opened, names, `--classes ${classes}`)
}
