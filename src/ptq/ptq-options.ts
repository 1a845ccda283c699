/** Options of post-training quantisation, declared once for the command line and the library. */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { batchOption, workersOption } from '../data/loader-options.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { layerOptions } from '../layers/layer-options.ts'
import { weightGroupOptions } from '../quant/weight-group-options.ts'
import { layerWidthOptions, widthOption } from '../quant/width-options.ts'
import { threadsOption } from '../runtime/device-options.ts'

export const effortNames = ['fast', 'default', 'best'] as const
export type Effort = (typeof effortNames)[number]

export const ptqOptions = optionTable({
  weightBits: {
    ...{ type: 'integer', minimum: 0, maximum: 8 },
    description:
      'Width of weights, 2 to 8; 0 leaves them as they are. 8 by default; 7 with --integer, which all processors multiply quickly and rightly',
  },
  activationBits: { ...widthOption("the layers' inputs"), default: 8 },
  firstLayerBits: {
    ...widthOption('weights and inputs of the first layers'),
    default: 8,
    description: 'Width of weights and inputs of the first layers, where the others have less',
  },
  ...layerWidthOptions,
  ...weightGroupOptions,
  sparsity: {
    type: 'share',
    minimum: 0,
    below: true,
    default: 0,
    description: 'Share of the weights to set to zero first, those of least magnitude; the others make up for them',
  },
  layerSparsity: {
    type: 'shareMap',
    minimum: 0,
    below: true,
    description: 'Sparsity of individual layers, by name (globs): conv1=0.5,fc=0, or @FILE',
  },
  ops: { ...layerOptions.ops, default: ['*'] },
  only: layerOptions.only,
  exclude: layerOptions.exclude,
  integer: {
    type: 'boolean',
    default: false,
    description: 'Also quantise what stands between layers, so that an int8 export runs entirely in integers',
  },
  effort: {
    type: 'string',
    enum: effortNames,
    default: 'default',
    description: 'How long it may take: no training, some, or a lot of it',
  },
  without: {
    type: 'strings',
    placeholder: 'STEPS',
    description: 'Steps to leave out, by name: refine, fold-bn, ...',
  },
  rescue: {
    type: 'integer',
    minimum: 0,
    default: 0,
    description:
      'How many of the layers that quantisation costs most get 8 bits, or stay float if they have 8; what that takes is said',
  },
  limit: {
    type: 'integer',
    minimum: 4,
    default: 512,
    description: 'Samples to use; a quarter of them judges and is not calibrated or trained on',
  },
  batch: batchOption(32, 'Samples in a run'),
  workers: { ...workersOption, description: 'Threads that prepare batches' },
  threads: threadsOption,
  ...finiteOptions,
})

/** Options of `ptq`, defaults filled in. */
export type PtqOptions = OptionsOf<typeof ptqOptions> & { readonly weightBits: number }

export type { PtqOptionsInput } from './ptq-options.generated.ts'
