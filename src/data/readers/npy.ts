/**
 * Arrays in numpy's .npy format (NEP 1): a magic, a header that is a Python dictionary, then the numbers. C order and
 * little-endian only. The size that the header declares is compared with the file's before anything is unpacked.
 */
import type { MncError } from '../../base/errors.ts'
import type { ElementType } from '../../graph/types.ts'
import { checkMemory } from '../memory.ts'
import type { ZipEntry } from './zip.ts'

const readers = {
  b1: Uint8Array,
  u1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  i2: Int16Array,
  u4: Uint32Array,
  i4: Int32Array,
  u8: BigUint64Array,
  i8: BigInt64Array,
  /** As bits. */
  f2: Uint16Array,
  f4: Float32Array,
  f8: Float64Array,
} as const

export type NumpyType = keyof typeof readers

export const elementOf: Readonly<Record<NumpyType, ElementType>> = {
  ...{ b1: 'bool', u1: 'uint8', i1: 'int8', u2: 'uint16', i2: 'int16', u4: 'uint32', i4: 'int32', u8: 'uint64' },
  ...{ i8: 'int64', f2: 'float16', f4: 'float32', f8: 'float64' },
}

export interface NumpyHeader {
  readonly name: string
  readonly type: NumpyType
  readonly dims: readonly number[]
  /** Where the numbers begin. */
  readonly offset: number
}

export type NumpyValues = InstanceType<(typeof readers)[NumpyType]>

type Fault = (message: string) => MncError

/** Reads the header alone. */
export function readHeader(entry: Pick<ZipEntry, 'bytes' | 'head'>, name: string, fault: Fault): NumpyHeader {
  if (entry.bytes === 0) throw fault(`'${name}' is empty`)
  const bytes = entry.head()
  if (bytes.length < 12 || bytes.subarray(0, 6).toString('latin1') !== '\x93NUMPY')
    throw fault(`'${name}' is not a .npy array`)
  const long = bytes[6]! >= 2
  const from = long ? 12 : 10
  const offset = from + (long ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8))
  if (offset > bytes.length) throw fault(`array '${name}' is damaged: its header is longer than its data`)
  const header = bytes.subarray(from, offset).toString('latin1')
  const type = /'descr':\s*'[<|=]([a-z]\d)'/.exec(header)?.[1] ?? ''
  const shape = /'shape':\s*\(([\d\sL,]*)\)/.exec(header)?.[1]
  if (!isType(type) || shape === undefined || !/'fortran_order':\s*False/.test(header))
    throw fault(`array '${name}' has an unsupported form (${header.trim()}); use C order, little-endian numbers`)
  const dims = shape.split(',').flatMap((s) => (s.trim() ? [Number.parseInt(s, 10)] : []))
  const length = offset + sizeOf(dims) * readers[type].BYTES_PER_ELEMENT
  if (entry.bytes < length) throw fault(`array '${name}' is truncated`)
  if (entry.bytes > length)
    throw fault(`array '${name}' contains ${entry.bytes - length} bytes more than its shape (${dims.join(',')}) needs`)
  return { name, type, dims, offset }
}

const isType = (type: string): type is NumpyType => Object.hasOwn(readers, type)

export const sizeOf = (dims: readonly number[]): number => dims.reduce((n, d) => n * d, 1)

/** The numbers; a usage error where they would take more than `memory` bytes, before they are unpacked. */
export function readValues(entry: ZipEntry, header: NumpyHeader, memory: number, file: string): NumpyValues {
  checkMemory(entry.bytes, memory, `${file}: array '${header.name}'`)
  const { type, offset } = header
  // A copy, so that wide elements are aligned.
  return new readers[type](new Uint8Array(entry.read().subarray(offset)).buffer)
}
