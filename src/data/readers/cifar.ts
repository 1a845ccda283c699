/**
 * CIFAR-10 and CIFAR-100 in their standard binary form: records of one label byte (CIFAR-100: coarse, then fine) and
 * 3072 pixel bytes, red, green and blue planes of 32x32. https://www.cs.toronto.edu/~kriz/cifar.html
 */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { DataFile } from '../../base/data-file.ts'
import { usageError } from '../../base/errors.ts'
import { listFolder, reading, readTextSync } from '../../base/files.ts'
import { Dataset, type Split, type Statistics, sharedBytes } from '../dataset.ts'
import { checkMemory } from '../memory.ts'
import { testOnlyNote } from '../test-only-classes.ts'
import { findFolder, missingFiles } from './files.ts'

interface CifarKind {
  readonly classes: number
  readonly labelBytes: number
  /** The folder inside the published archive. */
  readonly folder: string
  readonly names: string
  /** Each alternative is a list of files that together make the split. */
  readonly files: Readonly<Record<Split, readonly (readonly string[])[]>>
  /** Over all pixels of the training split. */
  readonly statistics: Statistics
}

const numbered = (stem: string, n: number): string[] => Array.from({ length: n }, (_, i) => `${stem}${i + 1}.bin`)

const kinds = {
  cifar10: {
    classes: 10,
    labelBytes: 1,
    folder: 'cifar-10-batches-bin',
    names: 'batches.meta.txt',
    files: { train: [numbered('data_batch_', 5)], test: [['test_batch.bin']] },
    statistics: { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616] },
  },
  cifar100: {
    classes: 100,
    labelBytes: 2,
    folder: 'cifar-100-binary',
    names: 'fine_label_names.txt',
    files: { train: [['train.bin'], ['train-part*.bin']], test: [['test.bin']] },
    statistics: { mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] },
  },
} as const satisfies Record<string, CifarKind>

const PIXELS = 3 * 32 * 32

/** Reads a split; `folder` holds the files or the archive's own folder. Throws a usage error for what is missing. */
export function openCifar(kindName: keyof typeof kinds, folder: string, split: Split, memory: number): Dataset {
  const kind: CifarKind = kinds[kindName]
  const wanted = kind.files[split]
  const found = findFolder(folder, [kind.folder], wanted)
  if (!found) throw missingFiles(kindName, folder, split, wanted)
  checkMemory(
    found.files.reduce((n, file) => n + statSync(join(found.folder, file)).size, 0),
    memory,
    `${kindName}:${folder}`,
  )
  const parts = partsOf(found, kind)
  const size = parts.reduce((n, { count }) => n + count, 0)
  const images = sharedBytes(size * PIXELS)
  const labels = new Int32Array(size)
  let at = 0
  for (const [label, record] of recordsOf(parts, kind)) {
    labels[at] = label
    images.set(record.subarray(kind.labelBytes), at++ * PIXELS)
  }
  const name = `${kindName}:${folder}#${split}`
  const classNames = readNames(join(found.folder, kind.names), kind.classes)
  const { classes, statistics } = kind
  return new Dataset({
    ...{ name, split, classes, channels: 3, height: 32, width: 32, images, labels, classNames },
    statistics: async () => statistics,
    notes: [...partNotes(found.folder, found.files, split), ...testOnly(kind, folder, split, { labels, parts })],
  })
}

interface Part {
  readonly path: string
  /** Row of its first record. */
  readonly first: number
  readonly count: number
}

function partsOf({ folder, files }: { readonly folder: string; readonly files: readonly string[] }, kind: CifarKind) {
  let first = 0
  return files.map((file): Part => {
    const path = join(folder, file)
    const count = countRecords(path, kind.labelBytes + PIXELS)
    first += count
    return { path, first: first - count, count }
  })
}

function countRecords(path: string, recordBytes: number): number {
  const bytes = reading(path, () => statSync(path).size)
  const count = bytes / recordBytes
  if (count === 0 || !Number.isInteger(count))
    throw usageError(
      `${path}: ${bytes} bytes are not a whole number of records of ${recordBytes} bytes`,
      'the file is truncated, or is not the binary version of the data set',
    )
  return count
}

/** Every record, with its label, valid until the next is asked for. A usage error for a label that there is not. */
function* recordsOf(parts: readonly Part[], { labelBytes, classes }: CifarKind): Generator<[number, Uint8Array]> {
  for (const { path, count } of parts)
    for (const [r, record] of records(path, labelBytes + PIXELS, count)) {
      const label = record[labelBytes - 1]!
      if (label >= classes) throw usageError(`${path}, record ${r}: label ${label} is outside 0..${classes - 1}`)
      yield [label, record]
    }
}

/** Each split has every class as these sets are published, and nothing more is read then. */
function testOnly(
  kind: CifarKind,
  folder: string,
  split: Split,
  { labels, parts }: { readonly labels: Int32Array; readonly parts: readonly Part[] },
): string[] {
  if (split === 'train' && new Set(labels).size === kind.classes) return []
  const found = findFolder(folder, [kind.folder], kind.files[split === 'train' ? 'test' : 'train'])
  if (!found) return []
  const others = partsOf(found, kind)
  const own = { labels, fileOf: (row: number) => partWith(parts, row) }
  const other = { labels: labelsIn(others, kind), fileOf: (row: number) => partWith(others, row) }
  return testOnlyNote(split, own, other)
}

function* labelsIn(parts: readonly Part[], kind: CifarKind): Generator<number> {
  for (const [label] of recordsOf(parts, kind)) yield label
}

const partWith = (parts: readonly Part[], row: number): string => parts.findLast(({ first }) => first <= row)!.path

/** Records that are read at a time: all of a file, beside the images, would be twice their memory. */
const RECORDS_AT_ONCE = 1000

/** Each is valid until the next is asked for. */
function* records(path: string, recordBytes: number, count: number): Generator<[number, Uint8Array]> {
  const piece = new Uint8Array(recordBytes * Math.min(count, RECORDS_AT_ONCE))
  const file = reading(path, () => new DataFile(path))
  for (let first = 0; first < count; first += RECORDS_AT_ONCE) {
    const here = Math.min(count - first, RECORDS_AT_ONCE)
    file.readInto(piece.subarray(0, here * recordBytes), first * recordBytes)
    for (let r = 0; r < here; r++) yield [first + r, piece.subarray(r * recordBytes, (r + 1) * recordBytes)]
  }
}

/** Parts that should exist by the numbers of the others, and parts that exist but belong to no list. */
function partNotes(folder: string, used: readonly string[], split: Split): string[] {
  const numbers = used.flatMap((f) => /^train-part(\d+)\.bin$/.exec(f)?.[1] ?? []).map(Number)
  const first = numbers.includes(0) ? 0 : 1
  const missing: number[] = []
  for (let n = first; n < Math.max(...numbers, 0) && missing.length < 10; n++) if (!numbers.includes(n)) missing.push(n)
  const more = listFolder(folder).filter((f) => isPart(f, split) && !used.includes(f))
  return [
    ...(missing.length > 0 ? [`parts that are missing: ${missing.map((n) => `train-part${n}.bin`).join(', ')}`] : []),
    ...(more.length > 0 ? [`parts that are not read: ${more.join(', ')}`] : []),
  ]
}

const isPart = (file: string, split: Split): boolean =>
  split === 'train' && /^(data_batch_\d+|train(-part\d+)?)\.bin$/.test(file)

function readNames(path: string, classes: number): string[] | undefined {
  if (!existsSync(path)) return undefined
  const names = readTextSync(path)
    .split('\n')
    .map((s) => s.trim())
    .filter(Boolean)
  return names.length === classes ? names : undefined
}
