/**
 * numpy archives: a ZIP of .npy arrays (stored or deflated, what np.savez and np.savez_compressed write) with images
 * (N,H,W), (N,H,W,C) or (N,C,H,W) and labels (N) or (N,1). uint8 pixels are taken as they are; floats must be 0..1 or
 * 0..255 and are rounded to bytes. `train_images`/`test_images` style prefixes hold both splits in one file; without
 * them the file is the same for both. Not for ZIP64 or Fortran order.
 */
import { existsSync, readFileSync } from 'node:fs'
import { inflateRawSync } from 'node:zlib'
import { type MncError, usageError } from '../../errors.ts'
import { computeStatistics, Dataset, type Split, sharedBytes } from '../dataset.ts'

interface NumpyArray {
  readonly dims: readonly number[]
  readonly values:
    | Uint8Array
    | Int8Array
    | Uint16Array
    | Int16Array
    | Int32Array
    | Uint32Array
    | Float32Array
    | Float64Array
    | BigInt64Array
    | BigUint64Array
}

const imageNames = ['images', 'x']
const labelNames = ['labels', 'y']

/** Reads the arrays of a split; throws a usage error that names the file and what it lacks. */
export function openNpz(file: string, split: Split): Dataset {
  if (!existsSync(file)) throw usageError(`npz: there is no file '${file}'`)
  const fault = (message: string): MncError => usageError(`${file}: ${message}`)
  const entries = unzip(readFileSync(file), fault)
  const find = (stems: readonly string[]) => {
    const names = stems.flatMap((s) => [`${split}_${s}`, `${s}_${split}`]).concat(stems)
    const hit = names.find((n) => entries.has(`${n}.npy`))
    if (hit) return parseNpy(entries.get(`${hit}.npy`)!(), hit, fault)
    throw fault(`no array ${stems.join(' or ')} in it; it holds ${[...entries.keys()].join(', ') || 'nothing'}`)
  }
  const pixels = find(imageNames)
  const labels = Int32Array.from(find(labelNames).values as ArrayLike<number | bigint>, Number)
  const { size, height, width, channels, channelsLast } = imageDims(pixels.dims, fault)
  if (labels.length !== size) throw fault(`${labels.length} labels for ${size} images`)
  const images = sharedBytes(size * channels * height * width)
  toBytes(pixels, images, fault)
  if (channelsLast && channels > 1) toPlanes(images, size, height * width, channels)
  const set: Dataset = new Dataset({
    name: `npz:${file}#${split}`,
    ...{ split, channels, height, width, images, labels },
    classes: labels.reduce((a, b) => Math.max(a, b), 0) + 1,
    statistics: async () => {
      const hasTrain = split === 'test' && [...entries.keys()].some((n) => /^train_|_train\.npy$/.test(n))
      return computeStatistics(hasTrain ? openNpz(file, 'train') : set)
    },
  })
  return set
}

function imageDims(dims: readonly number[], fault: (m: string) => MncError) {
  const [size = 0, a = 0, b = 0, c] = dims
  if (dims.length === 3) return { size, height: a, width: b, channels: 1, channelsLast: false }
  if (dims.length === 4 && (c === 1 || c === 3)) return { size, height: a, width: b, channels: c, channelsLast: true }
  if (dims.length === 4 && (a === 1 || a === 3))
    return { size, height: b, width: c ?? 0, channels: a, channelsLast: false }
  throw fault(`images have dims [${dims.join(',')}]; (N,H,W), (N,H,W,C) or (N,C,H,W) with 1 or 3 channels is needed`)
}

function toBytes({ values }: NumpyArray, out: Uint8Array, fault: (m: string) => MncError): void {
  if (values instanceof Uint8Array) {
    out.set(values)
    return
  }
  if (!(values instanceof Float32Array || values instanceof Float64Array))
    throw fault('images must be uint8, float32 or float64')
  let low = 0
  let high = 0
  for (const v of values) {
    if (v < low || Number.isNaN(v)) low = v
    if (v > high) high = v
  }
  if (!(low >= 0 && high <= 255)) throw fault(`float images must lie in 0..1 or 0..255, not ${low}..${high}`)
  const factor = high <= 1 ? 255 : 1
  for (let i = 0; i < values.length; i++) out[i] = Math.round(values[i]! * factor)
}

function toPlanes(images: Uint8Array, size: number, plane: number, channels: number): void {
  const one = new Uint8Array(plane * channels)
  for (let i = 0; i < size; i++) {
    const image = images.subarray(i * one.length, (i + 1) * one.length)
    one.set(image)
    for (let c = 0; c < channels; c++) for (let p = 0; p < plane; p++) image[c * plane + p] = one[p * channels + c]!
  }
}

const readers = {
  u1: Uint8Array,
  b1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  i2: Int16Array,
  u4: Uint32Array,
  i4: Int32Array,
  u8: BigUint64Array,
  i8: BigInt64Array,
  f4: Float32Array,
  f8: Float64Array,
} as const

function parseNpy(bytes: Buffer, name: string, fault: (m: string) => MncError): NumpyArray {
  if (bytes.subarray(0, 6).toString('latin1') !== '\x93NUMPY') throw fault(`'${name}' is not a .npy array`)
  const long = bytes[6]! >= 2
  const headerAt = long ? 12 : 10
  const headerLength = long ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8)
  const header = bytes.subarray(headerAt, headerAt + headerLength).toString('latin1')
  const kind = /'descr':\s*'[<|=]([a-z]\d)'/.exec(header)?.[1]
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1]
  const Reader = readers[kind as keyof typeof readers]
  if (!Reader || shape === undefined || /'fortran_order':\s*True/.test(header))
    throw fault(`array '${name}' has a form that is not read (${header.trim()}); use C order, little-endian numbers`)
  const dims = shape
    .split(',')
    .filter((s) => s.trim())
    .map(Number)
  const count = dims.reduce((n, d) => n * d, 1)
  // A copy, so that wide elements are aligned.
  const body = bytes.subarray(headerAt + headerLength)
  if (body.length < count * Reader.BYTES_PER_ELEMENT) throw fault(`array '${name}' is cut short`)
  const own = new Uint8Array(body.subarray(0, count * Reader.BYTES_PER_ELEMENT)).buffer
  return { dims, values: new Reader(own) }
}

/** Names to lazily unpacked contents, by the central directory (APPNOTE 4.3.12). */
function unzip(zip: Buffer, fault: (m: string) => MncError): Map<string, () => Buffer> {
  const end = zip.lastIndexOf('PK\x05\x06')
  if (end < 0) throw fault('this is not a ZIP archive, so not an .npz')
  const files = new Map<string, () => Buffer>()
  let at = zip.readUInt32LE(end + 16)
  for (let n = zip.readUInt16LE(end + 10); n > 0; n--) {
    if (at + 46 > zip.length || zip.readUInt32LE(at) !== 0x02014b50) throw fault('its ZIP directory is damaged')
    const [method, packed, nameLength] = [
      zip.readUInt16LE(at + 10),
      zip.readUInt32LE(at + 20),
      zip.readUInt16LE(at + 28),
    ]
    const local = zip.readUInt32LE(at + 42)
    const name = zip.subarray(at + 46, at + 46 + nameLength).toString('utf8')
    files.set(name, () => {
      const from = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28)
      const body = zip.subarray(from, from + packed)
      if (method !== 0 && method !== 8) throw fault(`'${name}' is compressed in a way that is not read (${method})`)
      return method === 0 ? body : inflateRawSync(body)
    })
    at += 46 + nameLength + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32)
  }
  return files
}
