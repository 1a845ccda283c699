/** What every command that feeds images shares: the data reference and how pixels become the model's input. */
import type { Dataset, Split } from '../data/dataset.ts'
import { pixelOptions } from '../data/pixel-options.ts'
import type { Preprocess } from '../data/preprocess.ts'
import { usageError } from '../errors.ts'
import type { Model } from '../graph/model.ts'
import { type OptionsOf, optionTable } from '../options.ts'
import type { CommandIO } from './io.ts'

export { pixelOptions }

export const dataOption = optionTable({
  data: {
    type: 'string',
    placeholder: 'REF',
    description: 'cifar10:DIR, cifar100:DIR, mnist:DIR, folder:DIR, npz:FILE or embedded, with #train or #test',
  },
})

/** Opens the data of `--data` and finds the preprocessing that `model` wants of it. */
export async function openFor(
  model: Model,
  reference: string | undefined,
  split: Split,
  options: OptionsOf<typeof pixelOptions>,
  io: CommandIO,
): Promise<{ data: Dataset; preprocess: Preprocess }> {
  if (!reference) throw usageError('--data is missing', 'e.g. --data cifar10:DIR or --data embedded')
  const { openDataset, preprocessOf } = await import('../data/index.ts')
  const data = await openDataset(reference, split)
  const { mean, std, scale, inputSize } = options
  const preprocess = await preprocessOf(model, data, { mean, std, scale, inputSize }, (m) => io.log(`note: ${m}`))
  return { data, preprocess }
}
