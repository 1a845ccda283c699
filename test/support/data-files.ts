/** Bytes of data files, written from their formats' definitions: PNG, .npy, ZIP, IDX, CIFAR. */
import { deflateRawSync, deflateSync, crc32 as nodeCrc32 } from 'node:zlib'

/** CRC-32 by the bit, where the runtime has none of its own. */
export function crc32(bytes: Uint8Array): number {
  if (typeof nodeCrc32 === 'function') return nodeCrc32(bytes)
  let crc = ~0
  for (const b of bytes) {
    crc ^= b
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  }
  return ~crc >>> 0
}

export interface PngOptions {
  /** Bits a channel, 8 or 16. */
  readonly depth?: 8 | 16
  /** Further chunks before the pixels. */
  readonly chunks?: readonly (readonly [string, Uint8Array])[]
}

/** A PNG of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels; `pixels`: H,W,C samples. */
export function png(width: number, height: number, channels: number, pixels: ArrayLike<number>, o: PngOptions = {}) {
  const bytes = (o.depth ?? 8) / 8
  const row = 1 + width * channels * bytes
  const raw = Buffer.alloc(height * row)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width * channels; x++) {
      const v = pixels[y * width * channels + x]!
      if (bytes === 1) raw[y * row + 1 + x] = v
      else raw.writeUInt16BE(v, y * row + 1 + 2 * x)
    }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header[8] = 8 * bytes
  header[9] = [0, 0, 4, 2, 6][channels]!
  const parts = [['IHDR', header], ...(o.chunks ?? []), ['IDAT', deflateSync(raw)], ['IEND', Buffer.alloc(0)]] as const
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), ...parts.map(([name, data]) => chunk(name, data))])
}

function chunk(name: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), data])
  const out = Buffer.alloc(body.length + 8)
  out.writeUInt32BE(data.length, 0)
  body.copy(out, 4)
  out.writeUInt32BE(crc32(body), body.length + 4)
  return out
}

type Numbers =
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

const descr = (v: Numbers): string => {
  const letter =
    v instanceof Float32Array || v instanceof Float64Array ? 'f' : /^(Big)?U/.test(v.constructor.name) ? 'u' : 'i'
  return `${v.BYTES_PER_ELEMENT === 1 ? '|' : '<'}${letter}${v.BYTES_PER_ELEMENT}`
}

export interface NpyOptions {
  readonly type?: string
  readonly fortran?: boolean
}

export function npy(
  values: Numbers,
  dims: readonly number[],
  { type = descr(values), fortran = false }: NpyOptions = {},
) {
  const shape = dims.length === 1 ? `${dims[0]},` : dims.join(', ')
  const text = `{'descr': '${type}', 'fortran_order': ${fortran ? 'True' : 'False'}, 'shape': (${shape}), }`
  const padded = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`
  const head = Buffer.alloc(10)
  head.write('\x93NUMPY\x01\x00', 'latin1')
  head.writeUInt16LE(padded.length, 8)
  const body = Buffer.from(values.buffer, values.byteOffset, values.byteLength)
  return Buffer.concat([head, Buffer.from(padded, 'latin1'), body])
}

export interface ZipOptions {
  readonly deflate?: boolean
  /** What is written of an entry instead of the truth. */
  readonly lies?: { readonly crc?: number; readonly bytes?: number }
}

export function zip(entries: Readonly<Record<string, Uint8Array>>, { deflate = false, lies = {} }: ZipOptions = {}) {
  const parts: Buffer[] = []
  const directory: Buffer[] = []
  let at = 0
  for (const [name, data] of Object.entries(entries)) {
    const body = deflate ? deflateRawSync(data) : Buffer.from(data)
    const common = Buffer.alloc(26)
    common.writeUInt16LE(20, 0)
    common.writeUInt16LE(deflate ? 8 : 0, 4)
    common.writeUInt32LE(lies.crc ?? crc32(data), 10)
    common.writeUInt32LE(body.length, 14)
    common.writeUInt32LE(lies.bytes ?? data.length, 18)
    common.writeUInt16LE(Buffer.byteLength(name), 22)
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), common, Buffer.from(name), body])
    const tail = Buffer.alloc(14)
    tail.writeUInt32LE(at, 10)
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02\x14\x00', 'latin1'), common, tail, Buffer.from(name)]))
    parts.push(local)
    at += local.length
  }
  const end = Buffer.alloc(18)
  const size = directory.reduce((n, d) => n + d.length, 0)
  end.writeUInt16LE(directory.length, 4)
  end.writeUInt16LE(directory.length, 6)
  end.writeUInt32LE(size, 8)
  end.writeUInt32LE(at, 12)
  return Buffer.concat([...parts, ...directory, Buffer.from('PK\x05\x06', 'latin1'), end])
}

/** An .npz of arrays: name to .npy bytes. */
export const npz = (arrays: Readonly<Record<string, Uint8Array>>, o?: ZipOptions): Buffer =>
  zip(Object.fromEntries(Object.entries(arrays).map(([name, data]) => [`${name}.npy`, data])), o)

export function idx(dims: readonly number[], bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(4 + 4 * dims.length)
  head.writeUInt32BE(0x0800 + dims.length, 0)
  for (const [i, d] of dims.entries()) head.writeUInt32BE(d, 4 + 4 * i)
  return Buffer.concat([head, bytes])
}

/** One record of CIFAR-10 (one label) or CIFAR-100 (coarse, fine). */
export const cifarRecord = (labels: readonly number[], pixel: (i: number) => number): Buffer =>
  Buffer.from([...labels, ...Array.from({ length: 3072 }, (_, i) => pixel(i))])

export interface WavOptions {
  readonly rate?: number
  /** Of integers; 32f and 64f are floats. */
  readonly bits?: 8 | 16 | 24 | 32 | '32f' | '64f'
  /** WAVE_FORMAT_EXTENSIBLE, which names the kind by a GUID. */
  readonly extensible?: boolean
  /** Chunks before the sound. */
  readonly chunks?: readonly (readonly [string, Uint8Array])[]
  /** In place of the size of the sound. */
  readonly declared?: number
}

/** A RIFF/WAVE file. `channels`: numbers as the file holds them, integers or floats. */
export function wav(channels: readonly ArrayLike<number>[], o: WavOptions = {}): Buffer {
  const { rate = 8000, bits = 16, extensible = false, chunks = [] } = o
  const isFloat = typeof bits === 'string'
  const width = (isFloat ? Number(bits.slice(0, 2)) : bits) / 8
  const frames = channels[0]!.length
  const data = Buffer.alloc(frames * channels.length * width)
  for (let f = 0, at = 0; f < frames; f++)
    for (const values of channels) {
      const v = values[f]!
      if (bits === '32f') data.writeFloatLE(v, at)
      else if (bits === '64f') data.writeDoubleLE(v, at)
      else if (bits === 8) data.writeUInt8(v, at)
      else data.writeIntLE(v, at, width)
      at += width
    }
  const format = Buffer.alloc(extensible ? 40 : 16)
  const kind = isFloat ? 3 : 1
  format.writeUInt16LE(extensible ? 0xfffe : kind, 0)
  format.writeUInt16LE(channels.length, 2)
  format.writeUInt32LE(rate, 4)
  format.writeUInt32LE(rate * channels.length * width, 8)
  format.writeUInt16LE(channels.length * width, 12)
  format.writeUInt16LE(width * 8, 14)
  if (extensible) {
    format.writeUInt16LE(22, 16)
    format.writeUInt16LE(width * 8, 18)
    format.writeUInt16LE(kind, 24)
    Buffer.from('000000001000800000aa00389b71', 'hex').copy(format, 26)
  }
  const parts = [['fmt ', format], ...chunks, ['data', data]] as const
  const body = parts.flatMap(([name, bytes]) => {
    const size = Buffer.alloc(4)
    size.writeUInt32LE(name === 'data' ? (o.declared ?? bytes.length) : bytes.length)
    return [Buffer.from(name, 'latin1'), size, bytes, Buffer.alloc(bytes.length % 2)]
  })
  const head = Buffer.from('RIFF....WAVE', 'latin1')
  head.writeUInt32LE(4 + body.reduce((n, b) => n + b.length, 0), 4)
  return Buffer.concat([head, ...body])
}

/** A tar archive (ustar), members in their order; names of up to 99 bytes. */
export function tar(members: readonly (readonly [name: string, bytes: Uint8Array | string])[]): Buffer {
  const parts = members.map(([name, content]) => {
    const bytes = Buffer.from(content as string)
    const head = Buffer.alloc(512)
    head.write(name, 0)
    head.write('0000644\0', 100)
    head.write(`${bytes.length.toString(8).padStart(11, '0')}\0`, 124)
    head.write('        ', 148)
    head.write('0ustar\x0000', 156)
    const sum = head.reduce((a, b) => a + b, 0)
    head.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    return Buffer.concat([head, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)])
  })
  return Buffer.concat([...parts, Buffer.alloc(1024)])
}
