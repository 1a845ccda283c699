/**
 * TensorProto to Tensor and back. A tensor that nobody changed is written as it was read (Tensor.origin.proto); a new
 * one goes into raw_data. The typed fields (float_data ...) are unpacked when the bytes are first asked for, their
 * lengths are checked at once.
 */
import { type Bytes, load } from '../base/bytes.ts'
import { modelError } from '../base/errors.ts'
import { Tensor } from '../graph/tensor.ts'
import { byteLength, type ElementType, elementTypeOf, elementTypes } from '../graph/types.ts'
import type { DataFiles } from './external-data.ts'
import { copyProto, type Proto } from './proto-schema.ts'

type TensorProto = Proto<'TensorProto'>
type PackedField = 'float_data' | 'double_data' | 'int32_data' | 'int64_data' | 'uint64_data'

/** Where onnx.proto puts the elements of each type, and how wide one stored number is in memory. */
function storageOf(type: ElementType): { field: PackedField; fixed: 4 | 8 | 0; width: number } {
  if (type === 'float32' || type === 'complex64') return { field: 'float_data', fixed: 4, width: 4 }
  if (type === 'float64' || type === 'complex128') return { field: 'double_data', fixed: 8, width: 8 }
  if (type === 'int64') return { field: 'int64_data', fixed: 0, width: 8 }
  if (type === 'uint64' || type === 'uint32')
    return { field: 'uint64_data', fixed: 0, width: elementTypes[type].bits / 8 }
  // Everything up to 32 bits, one element per number; sub-byte types, one packed byte per number.
  return { field: 'int32_data', fixed: 0, width: Math.max(1, elementTypes[type].bits / 8) }
}

/** First byte of an element that was written unpacked: its tag (field number << 3 | wire type). */
const loneTag = { float_data: 0x25, int32_data: 0x28, int64_data: 0x38, double_data: 0x51, uint64_data: 0x58 } as const

function chunksOf(p: TensorProto, field: PackedField): readonly Bytes[] {
  const packed = p[field]
  if (packed?.length) return packed
  return (p.$unknowns ?? []).filter((raw) => raw[0] === loneTag[field]).map((raw) => withoutTags(raw, loneTag[field]))
}

/** The elements of neighbours that were written one by one, each after its tag. */
function withoutTags(raw: Uint8Array, tag: number): Uint8Array {
  const out = new Uint8Array(raw.length)
  let size = 0
  for (let at = 1; at < raw.length; at++) {
    const wire = tag & 7
    let end = at
    if (wire === 0) while (raw[end]! > 127) end++
    else end += (wire === 1 ? 8 : 4) - 1
    out.set(raw.subarray(at, end + 1), size)
    size += end + 1 - at
    at = end + 1
  }
  return out.subarray(0, size)
}

/** How many varints: bytes without the continuation bit. */
function countVarints(chunks: readonly Uint8Array[]): number {
  let n = 0
  for (const c of chunks) for (let i = 0; i < c.length; i++) if (c[i]! < 128) n++
  return n
}

/** Little-endian numbers of `width` bytes out of varints, cut to that width. */
function unpackVarints(chunks: readonly Uint8Array[], count: number, width: number): Uint8Array {
  const out = new Uint8Array(count * width)
  let at = 0
  let low = 0
  let high = 0
  let shift = 0
  for (const chunk of chunks) {
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!
      const bits = byte & 127
      if (shift < 28) low |= bits << shift
      else if (shift === 28) {
        low |= bits << 28
        high |= bits >> 4
      } else if (shift < 64) high |= bits << (shift - 32)
      shift += 7
      if (byte >= 128) continue
      for (let k = 0; k < width; k++) out[at++] = k < 4 ? low >>> (8 * k) : high >>> (8 * (k - 4))
      low = high = shift = 0
    }
  }
  return out
}

function concat(chunks: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(chunks.reduce((n, c) => n + c.length, 0))
  let at = 0
  for (const c of chunks) {
    out.set(c, at)
    at += c.length
  }
  return out
}

function dimsOf(p: TensorProto, name: string): number[] {
  const dims = (p.dims ?? []).map(Number)
  const size = dims.reduce((a, b) => a * b, 1)
  if (dims.some((d) => d < 0) || !Number.isSafeInteger(size))
    throw modelError('tensor-dims', `tensor '${name}' has dims [${dims.join(',')}]`)
  return dims
}

/** `name` is for messages. The bytes stay views into what was read. */
export function decodeTensor(p: TensorProto, name: string, files: DataFiles): Tensor {
  const type = elementTypeOf(p.data_type ?? 0)
  if (!type)
    throw modelError('tensor-type', `tensor '${name}' has element type ${p.data_type ?? 0}, which ONNX does not define`)
  if (p.segment) throw modelError('tensor-segment', `tensor '${name}' is stored in segments, which mnc does not read`)
  const dims = dimsOf(p, name)
  const size = dims.reduce((a, b) => a * b, 1)
  const fail = (has: number, needs: number, unit: string) =>
    modelError('tensor-length', `tensor '${name}' ${type}[${dims.join(',')}] needs ${needs} ${unit} but has ${has}`)
  if (type === 'string') {
    const strings = p.string_data ?? []
    if (strings.length !== size) throw fail(strings.length, size, 'strings')
    return new Tensor(type, dims, () => packStrings(strings), { proto: p })
  }
  const length = byteLength(type, size)
  if (p.data_location === 1) {
    const external = files.locate(p.external_data ?? [], name, length)
    return new Tensor(type, dims, external, { proto: p, external })
  }
  const raw = p.raw_data
  const { field, fixed, width } = storageOf(type)
  const chunks = raw?.length ? [] : chunksOf(p, field)
  if (chunks.length === 0) {
    if ((raw?.length ?? 0) !== length) throw fail(raw?.length ?? 0, length, 'bytes')
    return new Tensor(type, dims, raw ?? new Uint8Array(0), { proto: p })
  }
  if (fixed) {
    const has = chunks.reduce((n, c) => n + c.length, 0)
    if (has !== length) throw fail(has / fixed, length / fixed, 'numbers')
    return new Tensor(type, dims, chunks.length === 1 ? chunks[0]! : () => concat(chunks.map(load)), { proto: p })
  }
  const varints = chunks.map(load)
  const has = countVarints(varints)
  if (has * width !== length) throw fail(has, length / width, 'numbers')
  return new Tensor(type, dims, () => unpackVarints(varints, has, width), { proto: p })
}

/** Bytes of a string tensor in memory: each string's length (uint32, little-endian), then its bytes. */
export function packStrings(strings: readonly Uint8Array[]): Uint8Array {
  const parts = strings.flatMap((s) => {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(s.length)
    return [length, s]
  })
  return concat(parts)
}

/** The strings of a string tensor. */
export function unpackStrings(t: Tensor): Uint8Array[] {
  const { bytes } = t
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const out: Uint8Array[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true)
    out.push(bytes.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  return out
}

/** What becomes of a tensor's bytes in the file being written. */
export interface TensorPlacement {
  /** Entries of external_data for a tensor that goes, or stays, outside the file; undefined for one that goes inside. */
  place(t: Tensor): Proto<'StringStringEntryProto'>[] | 'keep' | undefined
}

/** `name`: the initializer's; undefined for attributes, which keep what they had. */
export function encodeTensor(t: Tensor, name: string | undefined, placement: TensorPlacement): TensorProto {
  const read = t.origin?.proto as TensorProto | undefined
  const where = placement.place(t)
  let p: TensorProto
  if (read && where !== 'keep' && (where || t.origin?.external)) {
    p = { ...tensorShell(read), dims: read.dims ?? [], data_type: read.data_type ?? 0 }
    if (!where) p.raw_data = t.data
  } else if (read) p = copyProto(read)
  else {
    p = { dims: t.dims.map(BigInt), data_type: elementTypes[t.type].code }
    if (t.type === 'string') p.string_data = unpackStrings(t)
    else if (!where) p.raw_data = t.data
  }
  if (where && where !== 'keep') {
    p.external_data = where
    p.data_location = 1
  }
  if (name !== undefined && (p.name ?? '') !== name) p.name = name
  return p
}

/** A tensor's message without its data. */
export function tensorShell(p: TensorProto): TensorProto {
  const shell = copyProto(p, ...dataFields, 'dims', 'data_type')
  const lone: readonly number[] = Object.values(loneTag)
  const others = shell.$unknowns?.filter((raw) => !lone.includes(raw[0]!)) ?? []
  delete shell.$unknowns
  if (others.length > 0) shell.$unknowns = others
  return shell
}

/** Fields that say where and what the data is. */
const dataFields = [
  'raw_data',
  'float_data',
  'double_data',
  'int32_data',
  'int64_data',
  'uint64_data',
  'string_data',
  'external_data',
  'data_location',
] as const satisfies (keyof TensorProto)[]
