/**
 * numpy archives: a ZIP of .npy arrays (what np.savez and np.savez_compressed write). Pictures are arrays images (N,H,W),
 * (N,H,W,C) or (N,C,H,W) and labels (N) or (N,1), or x and y; all other archives are arrays by input name (array-names.ts). `train_images`/`test_images` style prefixes hold both splits in one file; without
 * them the file is the same for both. The classes are 0 to the largest label of all splits.
 *
 * What a pixel means follows from the array's type: uint8 is 0..255, bool is black and white, floats are 0..1; a float
 * array of nothing but whole numbers, some above 1, is 0..255. Floats become bytes by rounding; a number whose byte lies
 * outside 0..255 is refused. All zeros and ones are 0..1, unless the other split's array says 0..255.
 */
import { existsSync, statSync } from 'node:fs'
import { type MncError, usageError } from '../../base/errors.ts'
import { readFileBytesSync } from '../../base/files.ts'
import { type ArraySet, badLabel, type Column, type ColumnMap, type SampleSet } from '../array-set.ts'
import { Dataset, MOST_CLASSES, type Split, sharedBytes, statisticsOf } from '../dataset.ts'
import { checkMemory } from '../memory.ts'
import { memoryRows } from '../rows.ts'
import { testOnlyNote } from '../test-only-classes.ts'
import { arraySet, type SplitArray, sampleOf } from './array-names.ts'
import { type NumpyHeader, type NumpyValues, readHeader, readValues, sizeOf } from './npy.ts'
import { readZip, type ZipEntry } from './zip.ts'

const stems = { images: ['images', 'x'], labels: ['labels', 'y'] } as const
const otherSplit: Readonly<Record<Split, Split>> = { train: 'test', test: 'train' }

/** An archive that is open: finds arrays by their role, reads them whole or in part. */
interface Archive {
  readonly file: string
  readonly memory: number
  readonly entries: ReadonlyMap<string, ZipEntry>
  fault(message: string): MncError
}

/** Pictures where the archive holds such, else arrays by input name. `map` asks for arrays. */
export function openArchive(file: string, split: Split, memory: number, map: ColumnMap | undefined): SampleSet {
  const archive = openFile(file, memory)
  return map === undefined && holdsPictures(archive, split) ? pictures(archive, split) : arrays(archive, split, map)
}

function openFile(file: string, memory: number): Archive {
  if (!existsSync(file)) throw usageError(`npz: there is no file '${file}'`)
  if (!statSync(file).isFile()) throw usageError(`npz: '${file}' is not a file`)
  const fault = (message: string): MncError => usageError(`${file}: ${message}`)
  checkMemory(statSync(file).size, memory, file)
  return { file, memory, fault, entries: readZip(readFileBytesSync(file), fault) }
}

/** Arrays named like a set of pictures, of dims that pictures have; without labels only where it has nothing else. */
function holdsPictures(archive: Archive, split: Split): boolean {
  const [images, labels] = [arrayName(archive, 'images', split), arrayName(archive, 'labels', split)]
  if (images === null) return false
  const { dims, type } = headerOf(archive, images)
  const isPicture = dims.length === 3 || (dims.length === 4 && [dims[1], dims[3]].some((d) => d === 1 || d === 3))
  if (labels !== null) return isPicture
  const all = (['train', 'test'] as const).map((s) => `${arrayName(archive, 'images', s)}.npy`)
  return isPicture && (type === 'u1' || type === 'b1') && [...archive.entries.keys()].every((e) => all.includes(e))
}

function arrays(archive: Archive, split: Split, map: ColumnMap | undefined): ArraySet {
  const { file, fault } = archive
  const names = [...archive.entries.keys()].flatMap((entry) => (entry.endsWith('.npy') ? [entry.slice(0, -4)] : []))
  const column = ({ array, name }: SplitArray): Column => {
    const header = headerOf(archive, array)
    const { elem, dims, width } = sampleOf(header, fault)
    const values = valuesOf(archive, header)
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
    return { name, elem, dims, rows: memoryRows(bytes, width), file }
  }
  return arraySet(`npz:${file}`, split, names, { map, column, fault })
}

/** The pictures of a split; throws a usage error that names the file and what is wrong. */
function pictures(archive: Archive, split: Split): Dataset {
  const { file, fault } = archive
  const names = { images: arrayName(archive, 'images', split)!, labels: arrayName(archive, 'labels', split) }
  const header = headerOf(archive, names.images)
  const { size, height, width, channels, channelsLast } = imageDims(header.dims, fault)
  const labels = names.labels === null ? new Int32Array(size) : labelsOf(archive, names.labels)
  if (labels.length !== size) throw fault(`${labels.length} labels for ${size} images`)
  const values = valuesOf(archive, header)
  const meaning = meaningOf(archive, header, values, split)
  const images = sharedBytes(values.length)
  const found = toBytes(values, meaning, images, (m) => fault(`array '${header.name}' ${m}`))
  if (channelsLast && channels > 1) toPlanes(images, size, height * width, channels)
  const other = otherSplit[split]
  const otherLabels = arrayName(archive, 'labels', other)
  const all = otherLabels === null || otherLabels === names.labels ? [labels] : [labels, labelsOf(archive, otherLabels)]
  const inFile = (of: Int32Array) => ({ labels: of, fileOf: () => file })
  const only = names.labels !== null && all[1] ? testOnlyNote(split, inFile(labels), inFile(all[1])) : []
  const set: Dataset = new Dataset({
    name: `npz:${file}#${split}`,
    ...{ split, channels, height, width, images, labels, isLabelled: names.labels !== null },
    classes: names.labels === null ? 0 : 1 + all.reduce((most, some) => some.reduce((a, b) => Math.max(a, b), most), 0),
    notes: [`pixels are ${meaning.text}; found ${found}`, ...archiveNotes(archive, names.images), ...only],
    statistics: async () =>
      statisticsOf(
        split === 'test' && (arrayName(archive, 'images', 'train') ?? names.images) !== names.images
          ? pictures(archive, 'train')
          : set,
      ),
  })
  return set
}

/** The array of a split, or else the one for both. */
function arrayName({ entries }: Archive, role: keyof typeof stems, split: Split): string | null {
  const names = stems[role].flatMap((s) => [`${split}_${s}`, `${s}_${split}`]).concat(stems[role])
  return names.find((n) => entries.has(`${n}.npy`)) ?? null
}

const entryOf = ({ entries }: Archive, name: string): ZipEntry => entries.get(`${name}.npy`)!
const headerOf = (a: Archive, name: string): NumpyHeader => readHeader(entryOf(a, name), name, a.fault)
const valuesOf = (a: Archive, h: NumpyHeader): NumpyValues => readValues(entryOf(a, h.name), h, a.memory, a.file)

function archiveNotes(archive: Archive, images: string): string[] {
  const roles = ['images', 'labels'] as const
  const used = new Set(roles.flatMap((r) => [arrayName(archive, r, 'train'), arrayName(archive, r, 'test')]))
  const unused = [...archive.entries.keys()].filter((n) => !used.has(n.replace(/\.npy$/, '')))
  return [
    ...(arrayName(archive, 'images', 'train') === arrayName(archive, 'images', 'test')
      ? [`'${images}' serves as both splits: ${archive.file} has no arrays train_... and test_...`]
      : []),
    ...(unused.length > 0 ? [`arrays that are not read: ${unused.join(', ')}`] : []),
  ]
}

/** Labels as they are: whole numbers that can be a class, in any type. */
function labelsOf(archive: Archive, name: string): Int32Array {
  const header = headerOf(archive, name)
  const { dims } = header
  if (dims.length !== 1 && !(dims.length === 2 && dims[1] === 1))
    throw archive.fault(`labels '${name}' have dims [${dims.join(',')}]; they must be (N) or (N,1)`)
  if (header.type === 'f2') throw archive.fault(`labels '${name}' are float16; write them as whole numbers`)
  const values = valuesOf(archive, header)
  const labels = new Int32Array(values.length)
  for (let i = 0; i < labels.length; i++) {
    const v = values[i]!
    const label = Number(v)
    if (!(Number.isInteger(label) && label >= 0 && label < MOST_CLASSES))
      throw badLabel(archive.file, `${name}[${i}]`, v)
    labels[i] = label
  }
  return labels
}

function imageDims(dims: readonly number[], fault: (m: string) => MncError) {
  const [size = 0, a = 0, b = 0, c] = dims
  if (sizeOf(dims) === 0) throw fault(`images have dims [${dims.join(',')}]: there are no pixels`)
  if (dims.length === 3) return { size, height: a, width: b, channels: 1, channelsLast: false }
  if (dims.length === 4 && (c === 1 || c === 3)) return { size, height: a, width: b, channels: c, channelsLast: true }
  if (dims.length === 4 && (a === 1 || a === 3))
    return { size, height: b, width: c ?? 0, channels: a, channelsLast: false }
  throw fault(`images have dims [${dims.join(',')}]; (N,H,W), (N,H,W,C) or (N,C,H,W) with 1 or 3 channels is required`)
}

interface Meaning {
  readonly text: string
  /** What a number is multiplied by to be a byte. */
  readonly factor: number
}

/** By the array's type; for floats by whether all are whole numbers, in both splits where one alone does not tell. */
function meaningOf(archive: Archive, header: NumpyHeader, values: NumpyValues, split: Split): Meaning {
  const { type, name } = header
  if (type === 'u1') return { text: 'uint8, 0..255', factor: 1 }
  if (type === 'b1') return { text: 'bool, false and true as 0 and 255', factor: 255 }
  if (!isFloats(values))
    throw archive.fault(`array '${name}' is ${type}: images are uint8 (0..255), float32 or float64, or bool`)
  let whole = wholeness(values)
  const other = arrayName(archive, 'images', otherSplit[split])
  if (whole === 'binary' && other !== null && other !== name) {
    const second = valuesOf(archive, headerOf(archive, other))
    if (isFloats(second)) whole = wholeness(second)
  }
  return whole === 'whole'
    ? { text: 'whole numbers stored as floats, 0..255', factor: 1 }
    : { text: 'float, 0..1', factor: 255 }
}

type Floats = Extract<NumpyValues, Float32Array | Float64Array>

const isFloats = (v: NumpyValues): v is Floats => v instanceof Float32Array || v instanceof Float64Array

/** binary: nothing but 0 and 1. */
function wholeness(values: Floats): 'binary' | 'whole' | 'fractional' {
  let most = 0
  for (let i = 0; i < values.length; i++) {
    const v = values[i]!
    if (!Number.isInteger(v)) return 'fractional'
    if (v > most) most = v
  }
  return most > 1 ? 'whole' : 'binary'
}

/** Fills `out`; returns the range found, for people. */
function toBytes(
  values: NumpyValues,
  { factor, text }: Meaning,
  out: Uint8Array,
  fault: (m: string) => MncError,
): string {
  let low = Number.POSITIVE_INFINITY
  let high = Number.NEGATIVE_INFINITY
  for (let i = 0; i < values.length; i++) {
    const v = Number(values[i]!)
    const byte = Math.round(v * factor)
    if (!(byte >= 0 && byte <= 255)) throw fault(`contains ${v}, but its pixels are ${text} (write 0..255 as uint8)`)
    out[i] = byte
    if (v < low) low = v
    if (v > high) high = v
  }
  return `${low}..${high}`
}

function toPlanes(images: Uint8Array, size: number, plane: number, channels: number): void {
  const one = new Uint8Array(plane * channels)
  for (let i = 0; i < size; i++) {
    const image = images.subarray(i * one.length, (i + 1) * one.length)
    one.set(image)
    for (let c = 0; c < channels; c++) for (let p = 0; p < plane; p++) image[c * plane + p] = one[p * channels + c]!
  }
}
