/**
 * Data references, as `--data` and recipes give them: `KIND:PLACE[#train|#test]`, or `embedded` for the part of
 * Fashion-MNIST that comes with the package.
 */
import { usageError } from '../base/errors.ts'
import { nearest } from '../base/options.ts'
import { packageFile } from '../base/package-files.ts'
import type { Dataset, Split } from './dataset.ts'
import { openCifar } from './formats/cifar.ts'
import { openFolder } from './formats/folder.ts'
import { openIdx } from './formats/idx.ts'
import { openNpz } from './formats/npz.ts'
import { memoryLimit } from './memory.ts'
import { RANDOM } from './random-options.ts'
import type { ReadOptions } from './read-options.ts'

interface Kind {
  /** What comes after the colon, for messages; null where nothing does. */
  readonly place: string | null
  readonly summary: string
  open(place: string, split: Split, how: ReadOptions): Dataset | Promise<Dataset>
}

const embeddedFolder = packageFile('data/fashion-mnist')

/** Of the full training split, as published; names from the set's README. */
const fashionMnist = {
  statistics: async () => ({ mean: [0.286], std: [0.353] }),
  classNames: 'T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot'.split(','),
}

/** Every kind of data reference; help and messages list them from here. */
export const dataKinds: Readonly<Record<string, Kind>> = {
  cifar100: {
    place: 'DIR',
    summary: 'CIFAR-100, binary version (train.bin, test.bin)',
    open: (place, split, { memory }) => openCifar('cifar100', place, split, memory),
  },
  cifar10: {
    place: 'DIR',
    summary: 'CIFAR-10, binary version (data_batch_1..5.bin, test_batch.bin)',
    open: (place, split, { memory }) => openCifar('cifar10', place, split, memory),
  },
  mnist: {
    place: 'DIR',
    summary: 'MNIST, Fashion-MNIST and the like: IDX files, plain or .gz',
    open: (place, split, { memory }) => openIdx(place, split, memory),
  },
  folder: { place: 'DIR', summary: 'one sub-folder of PNG, JPEG or WebP images per class', open: openFolder },
  npz: {
    place: 'FILE',
    summary: 'numpy archive with arrays images and labels (or x and y)',
    open: (place, split, { memory }) => openNpz(place, split, memory),
  },
  embedded: {
    place: null,
    summary: 'the 9,000 + 2,000 images of Fashion-MNIST that come with mnc',
    open: (_, split, { memory }) =>
      openIdx(embeddedFolder, split, memory, { name: `embedded#${split}`, ...fashionMnist }),
  },
}

export interface DataReference {
  readonly kind: string
  readonly place: string
  /** null where the reference leaves it open. */
  readonly split: Split | null
}

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
  const known = dataKinds[kind]
  if (kind === RANDOM)
    throw usageError(
      'random inputs have no labels',
      'use them for quantize and for train with --teacher; check takes random inputs without --data',
    )
  if (!known) {
    const near = nearest(kind, Object.keys(dataKinds))
    const all = Object.entries(dataKinds).map(([name, k]) => (k.place ? `${name}:${k.place}` : name))
    throw usageError(
      `data '${reference}': unknown kind '${kind}'${near ? `, did you mean '${near}'?` : ''}`,
      `known: ${all.join(', ')}`,
    )
  }
  if (known.place && !place)
    throw usageError(
      `data '${reference}' does not say where the data are`,
      `write ${kind}:${known.place}[#train|#test]`,
    )
  return { kind, place, split: splitName }
}

export interface OpenOptions {
  /** Memory that the images may take, in MB; 2048 by default, or half of the machine's where that is less. */
  readonly memory?: number | undefined
  /** Folder in which decoded pictures are kept for the next run; without it a temporary file is used. */
  readonly cache?: string | undefined
  /** Called with what takes long, and what the disk has no room for. */
  readonly log?: ((message: string) => void) | undefined
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
): Promise<Dataset> {
  const { kind, place, split } = parseDataReference(reference)
  return dataKinds[kind]!.open(place, split ?? defaultSplit, { memory: memoryLimit(memory), ...more })
}
