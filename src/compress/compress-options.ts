/** Options of compressing to a goal, declared once for the command line and the library. */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { workersOption } from '../data/loader-options.ts'
import { targets } from '../export/targets/index.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { effortNames } from '../ptq/ptq-options.ts'
import { threadsOption } from '../runtime/device-options.ts'

/** Those whose files hold quantised networks. */
const quantisedTargets = (): string[] => targets.filter((t) => t.quantised).map((t) => t.name)

export const compressOptions = optionTable({
  maxDrop: {
    type: 'share',
    description: 'Accuracy that may be lost: 0.01 or 1% is one point; that is the default where there are labels',
  },
  minCosine: {
    type: 'number',
    exclusiveMinimum: 0,
    maximum: 1,
    description: "Without labels: least cosine between the file's outputs and the float ones; 0.999 by default",
  },
  target: {
    type: 'string',
    get enum(): readonly string[] {
      return quantisedTargets()
    },
    isOpen: true,
    description: 'Where the file is to run: see export. By default size where the goal is bytes or score, else cpu',
  },
  goal: {
    type: 'string',
    placeholder: 'GOAL',
    suggestions: async () => (await import('./goal.ts')).goalKinds.map((kind) => `${kind}=`),
    description: 'What the file must not exceed: bytes=100KB, macs=10M, latency=2ms or score=0.01',
  },
  time: {
    type: 'string',
    placeholder: 'TIME',
    description:
      'How long it may take, with fine-tuning where quantising alone does not reach the goal: 30m, 2h; without it nothing is fine-tuned',
  },
  labels: { type: 'boolean', default: true, description: 'Use the labels of the data; --no-labels compares outputs' },
  effort: {
    type: 'string',
    enum: effortNames,
    default: 'default',
    description: 'How long each quantising may take: see ptq',
  },
  limit: {
    type: 'integer',
    minimum: 4,
    description: 'Samples that quantising calibrates and judges its steps on: by default 512, fewer of large networks',
  },
  held: {
    type: 'integer',
    minimum: 1,
    description:
      'Training samples held out to choose by: by default 5,000, fewer of large networks, a quarter of the set at most',
  },
  batch: { type: 'integer', minimum: 1, default: 32, description: 'Samples in a run' },
  workers: { ...workersOption, description: 'Threads that prepare batches' },
  threads: threadsOption,
  deployThreads: {
    type: 'numbers',
    description: 'Target cpu: threads to measure the forms of a file on, as --threads of export has them: 1,0',
  },
  deployBatch: {
    type: 'numbers',
    description: 'Target cpu: samples in a run that they are measured with, as --batch of export: 1,32',
  },
  ...finiteOptions,
})

/** Options of `compress`, defaults filled in. */
export type CompressOptions = OptionsOf<typeof compressOptions>
export type { CompressOptionsInput } from './compress-options.generated.ts'
