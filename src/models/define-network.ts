/**
 * A family of networks is one declaration. `mnc build`, the JSON Schema of specs and the docs all read it; its file
 * imports types only, since `mnc --help` reads it too.
 */
import type { OptionsOf, OptionTable } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import type { NetworkBuilder } from './layers.ts'

/** A family of networks: its options, and how one is built. */
export interface NetworkDef<T extends OptionTable = OptionTable> {
  /** kebab-case; also the file's name. */
  readonly family: string
  readonly summary: string
  /** An option that two families share means the same in both. Each has a default. */
  readonly options: T
  /** A model with one input `input` [N, channels, size, size] and one output `logits` [N, classes]. */
  build(options: OptionsOf<T>, net: NetworkBuilder): Model
}

/** Declares a family of networks, which `mnc build NAME` then takes. */
export const defineNetwork = <const T extends OptionTable>(def: NetworkDef<T>): NetworkDef<T> => def

/** The options for the sizes of input and output; a family may change the default size and channels. */
export const imageOptions = {
  classes: { type: 'integer', minimum: 2, default: 10, description: 'Number of classes' },
  size: { type: 'integer', minimum: 8, default: 32, description: 'Height and width of the input in pixels' },
  channels: { type: 'integer', minimum: 1, default: 3, description: 'Number of input channels' },
} as const satisfies OptionTable

/** How pixels become the network's input: (pixel / scale - mean) / std. Recorded in the model where mean is given. */
export const pixelOptions = {
  mean: { type: 'numbers', description: 'Mean of pixels / scale, one per channel' },
  std: { type: 'numbers', description: 'Standard deviation of pixels / scale, one per channel' },
  scale: { type: 'number', exclusiveMinimum: 0, default: 255, description: 'Number that pixels are divided by first' },
} as const satisfies OptionTable
