/** `--data synthetic`: the keyword, how much is made, and the warning that users see. */
import type { Effort } from '../ptq-options.ts'

export const SYNTHETIC = 'synthetic'

export const syntheticWarning =
  'WARNING: quantising on SYNTHETIC inputs, made from what BatchNormalization remembers of the training data; a few hundred real samples, which need no labels, are better'

/** Samples, and steps for each batch of them. */
export const SYNTHETIC_SIZE: Readonly<Record<Effort, { readonly samples: number; readonly steps: number }>> = {
  fast: { samples: 64, steps: 60 },
  default: { samples: 128, steps: 100 },
  best: { samples: 256, steps: 200 },
}
