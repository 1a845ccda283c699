/**
 * Data references, as `--data` and recipes give them: `KIND:PLACE[#train|#test]`, or `embedded` for the part of
 * Fashion-MNIST that comes with the package.
 */
import { usageError } from '../base/errors.ts'
import { nearest } from '../base/options.ts'
import type { ColumnMap, SampleSet } from './array-set.ts'
import type { DataOptions } from './data-options.ts'
import { Dataset, type Split } from './dataset.ts'
import { type DataFormat, formOf } from './formats/define-format.ts'
import { dataFormats } from './formats/index.ts'
import { guessReference } from './guess-kind.ts'
import { memoryLimit } from './memory.ts'
import { RANDOM } from './random-options.ts'

export interface DataReference {
  readonly kind: string
  readonly place: string
  /** null where the reference leaves it open. */
  readonly split: Split | null
}

const formatNamed = (name: string): DataFormat | undefined => dataFormats.find((f) => f.name === name)

/** Takes a reference apart; throws a usage error for an unknown kind or split. */
export function parseDataReference(reference: string): DataReference {
  const hash = reference.lastIndexOf('#')
  const body = hash < 0 ? reference : reference.slice(0, hash)
  const splitName = hash < 0 ? null : reference.slice(hash + 1)
  if (splitName !== null && splitName !== 'train' && splitName !== 'test')
    throw usageError(`data '${reference}': the split after # must be 'train' or 'test', not '${splitName}'`)
  const colon = body.indexOf(':')
  const kind = colon < 0 ? body : body.slice(0, colon)
  const place = colon < 0 ? '' : body.slice(colon + 1)
  const known = formatNamed(kind)
  if (kind === RANDOM)
    throw usageError(
      'random inputs have no labels',
      'use them for quantize and for train with --teacher; check takes random inputs without --data',
    )
  if (!known) {
    const near = nearest(
      kind,
      dataFormats.map((f) => f.name),
    )
    const meant = near ? null : guessReference(body)
    if (meant !== null) throw usageError(`data '${reference}': the kind of data is missing`, meant)
    throw usageError(
      `data '${reference}': unknown kind '${kind}'${near ? `, did you mean '${near}'?` : ''}`,
      `known: ${dataFormats.map(formOf).join(', ')}`,
    )
  }
  if (known.place !== null && !place)
    throw usageError(`data '${reference}' does not say where the data are`, `write ${formOf(known)}[#train|#test]`)
  return { kind, place, split: splitName }
}

export interface OpenOptions {
  /** Memory that the images may take, in MB; 2048 by default, or half of the machine's where that is less. */
  readonly memory?: number | undefined
  /** Folder in which decoded pictures are kept for the next run; without it a temporary file is used. */
  readonly cache?: string | undefined
  /** Arrays by input, by output, or by `labels`, where their names differ. */
  readonly map?: ColumnMap | undefined
  /** Samples a second to which sounds are resampled; without it all files of `wav:` have to be at one rate. */
  readonly sampleRate?: number | undefined
  /** Length of each sound: longer ones are cut, shorter ones end in silence. By default that of the longest file. */
  readonly seconds?: number | undefined
  /** Called with what takes long, and what the disk has no room for. */
  readonly log?: ((message: string) => void) | undefined
}

/** From the options of a command or a recipe. */
export function openOptions(o: Partial<DataOptions>, log?: (message: string) => void): OpenOptions {
  const { dataMemory: memory, dataCache: cache, map, sampleRate, seconds } = o
  return { memory, cache, map, sampleRate, seconds, log }
}

/**
 * Reads the data set that a reference names. `defaultSplit` is the caller's natural one: train for training, test for
 * evaluation. Images are in memory, except pictures of a folder: those are decoded when they are first read, and what takes
 * more than `memory` is then in a file. Throws a usage error that says what was sought where, or what is wrong with it.
 */
export async function openDataset(
  reference: string,
  defaultSplit: Split,
  { memory, ...more }: OpenOptions = {},
): Promise<SampleSet> {
  const { kind, place, split } = parseDataReference(reference)
  const format = formatNamed(kind)!
  for (const [option, value] of [
    ['--sample-rate', more.sampleRate],
    ['--seconds', more.seconds],
  ] as const)
    if (value !== undefined && !format.isSound)
      throw usageError(`${option} is for sounds, and ${kind} holds none`, `leave it out, or use wav:DIR`)
  return format.open(place, split ?? defaultSplit, { memory: memoryLimit(memory), ...more })
}

/** The same for what needs pictures: a usage error for a set of arrays. */
export async function openPictures(reference: string, split: Split, options: OpenOptions = {}): Promise<Dataset> {
  const set = await openDataset(reference, split, options)
  if (set instanceof Dataset) return set
  throw usageError(`${set.name} holds arrays, and pictures are needed here`)
}
