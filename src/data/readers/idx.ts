/**
 * IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped: a big-endian header (magic 0x0800 + rank, one
 * uint32 per dimension), then unsigned bytes. http://yann.lecun.com/exdb/mnist/
 */
import { constants } from 'node:buffer'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { usageError } from '../../base/errors.ts'
import { readFileBytesSync } from '../../base/files.ts'
import { Dataset, type DatasetInit, type Split, sharedBytes, statisticsOf } from '../dataset.ts'
import { checkMemory } from '../memory.ts'
import { testOnlyNote } from '../test-only-classes.ts'
import { findFolder, missingFiles } from './files.ts'

/** Standard names; some mirrors write a dot for the second dash. */
const fileNames: Readonly<Record<Split, readonly (readonly string[])[]>> = {
  train: alternatives('train'),
  test: alternatives('t10k'),
}

function alternatives(stem: string): string[][] {
  const pairs = ['-', '.'].map((dash) => [`${stem}-images${dash}idx3-ubyte`, `${stem}-labels${dash}idx1-ubyte`])
  return pairs.flatMap((pair) => [pair, pair.map((name) => `${name}.gz`)])
}

type Known = Pick<DatasetInit, 'name' | 'statistics' | 'classNames'>

/** Reads a split of an MNIST-like folder. `known` overrides the name and statistics of sets that mnc ships. */
export function openIdx(folder: string, split: Split, memory: number, known?: Known): Dataset {
  const found = findFolder(folder, [], fileNames[split])
  if (!found) throw missingFiles('mnist', folder, split, fileNames[split].slice(0, 2))
  const [imageFile = '', labelFile = ''] = found.files.map((f) => join(found.folder, f))
  const images = readIdx(imageFile, 3, memory)
  const labels = readIdx(labelFile, 1, memory)
  const [size = 0, height = 0, width = 0] = images.dims
  if (labels.dims[0] !== size)
    throw usageError(`${labelFile} holds ${labels.dims[0]} labels for the ${size} images of ${imageFile}`)
  const other = otherLabels(folder, split, memory)
  const shared = sharedBytes(images.bytes.length)
  shared.set(images.bytes)
  const set = new Dataset({
    name: `mnist:${folder}#${split}`,
    ...{ split, channels: 1, height, width, images: shared, labels: Int32Array.from(labels.bytes) },
    // The format does not say how many classes there are; every set in it but EMNIST has ten.
    classes: Math.max(10, largest(labels.bytes) + 1, largest(other?.labels ?? NONE) + 1),
    notes: testOnlyNote(split, { labels: labels.bytes, fileOf: () => labelFile }, other),
    statistics: async () => statisticsOf(split === 'test' ? trainingPart(folder, set, memory) : set),
    ...known,
  })
  return set
}

/** Statistics belong to the training split; the test split has to do if it is the only one. */
function trainingPart(folder: string, test: Dataset, memory: number): Dataset {
  return findFolder(folder, [], fileNames.train) ? openIdx(folder, 'train', memory) : test
}

const largest = (labels: Uint8Array): number => labels.reduce((a, b) => Math.max(a, b), 0)

const NONE = new Uint8Array()

/** Both splits are of the same classes, though one may lack images of some. */
function otherLabels(folder: string, split: Split, memory: number) {
  const other = findFolder(folder, [], fileNames[split === 'train' ? 'test' : 'train'])
  if (!other) return null
  const file = join(other.folder, other.files[1]!)
  return { labels: readIdx(file, 1, memory).bytes, fileOf: () => file }
}

function readIdx(path: string, rank: number, memory: number): { dims: number[]; bytes: Uint8Array } {
  const header = 4 + 4 * rank
  checkMemory(statSync(path).size, memory, path)
  const raw = readFileBytesSync(path)
  const file = path.endsWith('.gz') ? gunzip(path, raw, memory) : raw
  if (file.length < header || file.readUInt32BE(0) !== 0x0800 + rank)
    throw usageError(`${path} is not an IDX file of unsigned bytes with ${rank} dimension(s)`)
  const dims = Array.from({ length: rank }, (_, i) => file.readUInt32BE(4 + 4 * i))
  const count = dims.reduce((n, d) => n * d, 1)
  if (file.length - header !== count)
    throw usageError(`${path}: ${count} values declared, ${file.length - header} present`, 'the file is truncated')
  return { dims, bytes: file.subarray(header) }
}

/** A file that unpacks to more than the limit is abandoned there. */
function gunzip(path: string, raw: Buffer, memory: number): Buffer {
  try {
    return gunzipSync(raw, { maxOutputLength: Math.min(memory, constants.MAX_LENGTH) })
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE')
      checkMemory(Number.POSITIVE_INFINITY, memory, path)
    throw usageError(`${path} cannot be unpacked: ${cause instanceof Error ? cause.message : cause}`)
  }
}
