/**
 * Which samples serve what: the first ones of the training split are quantised and trained on, its last ones are held out
 * to choose by, and the test split gives the final figure alone. Where there is one set for both, its last part is halved:
 * one half to choose by, one for the figure. Random inputs are drawn anew for each purpose.
 */
import { MncError, usageError } from '../base/errors.ts'
import type { OptionsOf } from '../base/options.ts'
import type { CheckBatch } from '../check/check.ts'
import type { SampleSet } from '../data/array-set.ts'
import { inClassOrder, inModelOrder, loadClassOrder } from '../data/class-order.ts'
import type { dataOptions } from '../data/data-options.ts'
import { openDataset, openOptions } from '../data/open.ts'
import type { pixelOptions } from '../data/pixel-options.ts'
import { type Preprocess, statedClasses } from '../data/preprocess.ts'
import { RANDOM, type TrainingData } from '../data/random-options.ts'
import { pixelsOf, sampleBatches } from '../data/sample-set.ts'
import { writeClassOrder } from '../graph/class-names.ts'
import type { Model } from '../graph/model.ts'
import { randomInputs } from '../samples/random-inputs.ts'
import { scoresOutput } from '../train/step/outputs.ts'
import { mixed } from './mixed.ts'
import type { SampleSource } from './sample-source.ts'

export interface Samples {
  readonly training: TrainingData
  readonly preprocess: Preprocess | undefined
  /** Labels are the classes of the model's scores, and to be used. */
  readonly labelled: boolean
  /** Of the training set, that may be quantised with and trained on: the first ones. */
  readonly fitted: number
  readonly held: SampleSource
  /** Those held out, each mixed with another; null without labels, and for inputs that cannot be mixed. */
  readonly mixed: SampleSource | null
  readonly test: SampleSource
  /** The test samples are a part of the training split, for want of another. */
  readonly oneSet: boolean
  /** Of what the samples hold, for whoever asks whether two runs are about the same. */
  readonly identity: unknown
}

export interface Wanted {
  readonly data: string
  readonly reading: Partial<OptionsOf<typeof dataOptions>>
  readonly pixels: Partial<OptionsOf<typeof pixelOptions>>
  readonly labels: boolean
  /** Most samples to hold out. */
  readonly held: number
  readonly batch: number
  readonly log: (message: string) => void
}

/** Fewer cannot be calibrated on and judged. */
const LEAST = 8
/** Of the training split, that may be held out. */
const HELD_SHARE = 0.25
/** Compared with the float outputs alone, a few samples tell as much as many. */
export const UNLABELLED = 128
/** Keys that random inputs are drawn with; quantising draws with 0 and 1. */
const HELD_KEY = 2
const TEST_KEY = 3

export async function openSamples(model: Model, w: Wanted): Promise<Samples> {
  if (w.data === RANDOM) return randomSamples(model, w)
  const open = async (split: 'train' | 'test'): Promise<SampleSet> => {
    const set = await openDataset(w.data, split, openOptions(w.reading, w.log))
    if (split === 'train') for (const note of set.notes) w.log(`note: ${note}`)
    const names = w.reading.classes === undefined ? null : loadClassOrder(w.reading.classes)
    if (!names) return inModelOrder(model, set)
    writeClassOrder(model, names)
    return inClassOrder(set, names, `--classes ${w.reading.classes}`)
  }
  const train = await open('train')
  if (train.size < LEAST)
    throw usageError(`${train.name} has ${train.size} images, which are too few`, `give at least ${LEAST}; 200 do well`)
  const preprocess = await pixelsOf(model, train, w.pixels, (m) => w.log(`note: ${m}`))
  const given = await open('test').catch((error: unknown) => {
    if (error instanceof MncError && error.blame === 'user') return null
    throw error
  })
  const test = given && given.contentHash() !== train.contentHash() ? given : null
  const labelled = w.labels && areLabels(model, train, w.log)
  const most = labelled ? w.held : Math.min(w.held, UNLABELLED)
  const held = Math.max(1, Math.min(most, Math.floor(train.size * HELD_SHARE * (test ? 1 : 0.5))))
  const reserved = test ? held : 2 * held
  const fitted = train.size - reserved
  const part = (from: number, count: number): SampleSet =>
    train.select(Array.from({ length: count }, (_, i) => from + i))
  const figure = test ? (labelled ? test : test.take(UNLABELLED)) : part(fitted + held, held)
  if (labelled) refuseSorted(train, fitted, held)
  const others = Array.from({ length: held }, (_, i) => fitted + ((i + Math.ceil(held / 2)) % held))
  const isMixable = labelled && model.graph.inputs.every((v) => /^float(16|32)$/.test(v.type?.elem ?? ''))
  const source = (set: SampleSet): SampleSource => ({
    count: set.size,
    batches: () => checkedBatches(model, set, preprocess, w.batch, labelled),
  })
  return {
    ...{ training: train, preprocess, labelled, fitted, oneSet: test === null },
    ...{ held: source(part(fitted, held)), test: source(figure) },
    mixed: isMixable ? mixed(source(part(fitted, held)), source(train.select(others))) : null,
    identity: [train.contentHash(), figure.contentHash(), fitted, held, preprocess, labelled],
  }
}

async function randomSamples(model: Model, { held, batch }: Wanted): Promise<Samples> {
  const count = Math.min(held, UNLABELLED)
  const source = (key: number): SampleSource => ({
    count,
    async *batches() {
      const { feeds, batch: size } = await randomInputs(model, Math.min(batch, count))
      for (let i = 0; i * size < count; i++) yield { feeds: feeds(key, i), count: size }
    },
  })
  return {
    ...{ training: RANDOM, preprocess: undefined, labelled: false, fitted: Number.POSITIVE_INFINITY, oneSet: false },
    ...{ held: source(HELD_KEY), mixed: null, test: source(TEST_KEY), identity: [RANDOM, count] },
  }
}

/** Whether the labels are classes of the model's scores. */
function areLabels(model: Model, train: SampleSet, log: (message: string) => void): boolean {
  const stated = statedClasses(model)
  const output = scoresOutput(model.graph.outputs)
  if (!train.isLabelled) return false
  const used = new Set(train.labels).size
  if (used < 2) return false
  const dims = output?.type?.dims
  if (output && (stated === null || stated === train.classes) && (!dims || dims.length === 2)) return true
  log(
    `note: ${train.name} has ${train.classes} classes and the model gives no scores of as many: outputs are compared with the float model's, labels are not used`,
  )
  return false
}

/** Parts of a set that is sorted by class say nothing about the others. */
function refuseSorted(train: SampleSet, fitted: number, held: number): void {
  const classes = new Set(train.labels).size
  const own = new Set(train.labels.subarray(fitted, fitted + held)).size
  if (held < 5 * classes || own >= classes / 2) return
  throw usageError(
    `${train.name} seems to be sorted by class: its last ${held} images are of ${own} classes, of ${classes} in all`,
    'shuffle the images, so that each part of the set holds all classes',
  )
}

async function* checkedBatches(
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
  batch: number,
  labelled: boolean,
): AsyncGenerator<CheckBatch, void, undefined> {
  for await (const { feeds, labels, count } of sampleBatches(model, set, preprocess, batch))
    yield { feeds, count, ...(labelled && labels && { labels }) }
}
