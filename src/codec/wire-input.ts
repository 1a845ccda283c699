/**
 * Where protobuf bytes are read from: memory, or a file through a window, so that what is passed over is never loaded.
 * Positions count from the start. Errors are model errors that say at which byte.
 */
import type { Bytes } from '../base/bytes.ts'
import type { DataFile } from '../base/data-file.ts'
import { modelError } from '../base/errors.ts'

const WINDOW = 1 << 16
/** Data fields of a file from this size on are left there. */
const LAZY_MINIMUM = 1 << 16

export const malformed = (why: string): Error =>
  modelError('not-onnx', `this is not an ONNX model, or it is truncated: ${why}`, {
    next: 'check that the file is complete',
  })

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class WireInput {
  readonly length: number
  pos = 0
  readonly #file: DataFile | undefined
  #buffer: Uint8Array
  /** Position of the buffer's first byte, and the position after its last. */
  #base = 0
  #limit: number

  constructor(source: Uint8Array | DataFile) {
    if (source instanceof Uint8Array) {
      // never a Buffer: `slice` of a Buffer does not copy, which callers of a Uint8Array count on
      this.#buffer = plain(source)
      this.#limit = source.length
      this.length = source.length
    } else {
      this.#file = source
      this.#buffer = new Uint8Array(0)
      this.#limit = 0
      this.length = source.size
    }
  }

  /** Makes sure that `size` (at most WINDOW) bytes from `pos` on are in the buffer. */
  #need(size: number): void {
    const { pos } = this
    if (pos >= this.#base && pos + size <= this.#limit) return
    if (!this.#file || pos + size > this.length) throw malformed(`the data ends at byte ${this.length}`)
    const window = new Uint8Array(Math.min(WINDOW, this.length - pos))
    this.#file.readInto(window, pos)
    this.#buffer = window
    this.#base = pos
    this.#limit = pos + window.length
  }

  #byte(): number {
    if (this.pos < this.#base || this.pos >= this.#limit) this.#need(1)
    return this.#buffer[this.pos++ - this.#base]!
  }

  /** A varint's low 32 bits, unsigned. */
  uint32(): number {
    let byte = this.#byte()
    if (byte < 128) return byte
    let value = byte & 127
    for (let shift = 7; shift < 70; shift += 7) {
      byte = this.#byte()
      if (shift < 32) value |= (byte & 127) << shift
      if (byte < 128) return value >>> 0
    }
    throw malformed(`the number at byte ${this.pos} does not end`)
  }

  /** The length of what follows; it must end by `end`. */
  size(end: number): number {
    const start = this.pos
    const size = this.uint32()
    if (this.pos + size > end) throw malformed(`${size} bytes at byte ${start} extend beyond their message`)
    return size
  }

  int64(): bigint {
    let byte = this.#byte()
    if (byte < 128) return BigInt(byte)
    let low = byte & 127
    let high = 0n
    for (let shift = 7; shift < 70; shift += 7) {
      byte = this.#byte()
      // 49 bits are exact in a number; beyond that bigints
      if (shift < 49) low += (byte & 127) * 2 ** shift
      else high |= BigInt(byte & 127) << BigInt(shift)
      if (byte < 128) return high === 0n ? BigInt(low) : BigInt.asIntN(64, high | BigInt(low))
    }
    throw malformed(`the number at byte ${this.pos} does not end`)
  }

  float(): number {
    this.#need(4)
    const at = this.pos - this.#base
    this.pos += 4
    return new DataView(this.#buffer.buffer, this.#buffer.byteOffset + at, 4).getFloat32(0, true)
  }

  /** Bytes by position: a view of the memory read from, a copy of a file's. */
  range(start: number, end: number): Uint8Array {
    if (start >= this.#base && end <= this.#limit) {
      const view = this.#buffer.subarray(start - this.#base, end - this.#base)
      return this.#file ? view.slice() : view
    }
    const out = new Uint8Array(end - start)
    this.#file!.readInto(out, start)
    return out
  }

  bytes(size: number): Uint8Array {
    this.pos += size
    return this.range(this.pos - size, this.pos)
  }

  /** Data of a tensor: left in the file where it is large. */
  data(size: number): Bytes {
    if (!this.#file || size < LAZY_MINIMUM) return this.bytes(size)
    this.pos += size
    return this.#file.slice(this.pos - size, size)
  }

  string(size: number): string {
    if (size === 0) return ''
    const at = this.pos
    const bytes = this.bytes(size)
    if (ascii(bytes)) return Buffer.from(bytes.buffer, bytes.byteOffset, size).toString('latin1')
    try {
      return utf8.decode(bytes)
    } catch {
      throw malformed(`the text at byte ${at} is not UTF-8`)
    }
  }

  /** Skips a field of this tag, which is just before `pos`. */
  skip(tag: number, end: number, depth: number): void {
    const start = this.pos
    const wire = tag & 7
    if (wire === 0) this.int64()
    else if (wire === 1) this.#pass(8)
    else if (wire === 2) this.#pass(this.size(end))
    else if (wire === 5) this.#pass(4)
    else if (wire === 3) this.#skipGroup(tag >>> 3, end, depth)
    else throw malformed(`wire type ${wire} at byte ${start}`)
    if (this.pos > end) throw malformed(`the field at byte ${start} extends beyond its message`)
  }

  #pass(size: number): void {
    this.pos += size
  }

  #skipGroup(field: number, end: number, depth: number): void {
    checkDepth(depth)
    while (this.pos < end) {
      const tag = this.uint32()
      if ((tag & 7) === 4 && tag >>> 3 === field) return
      this.skip(tag, end, depth + 1)
    }
    throw malformed(`the group ending at byte ${end} has no end mark`)
  }
}

/** protobuf's own limit: no other program reads what is nested deeper. */
const DEPTH_LIMIT = 100

export function checkDepth(depth: number): void {
  if (depth > DEPTH_LIMIT)
    throw modelError('not-onnx', 'graphs are nested too deeply', { next: 'graphs may be nested at most 33 deep' })
}

function ascii(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i]! > 127) return false
  return true
}

/** The same memory, never as a Buffer. */
export const plain = (bytes: Uint8Array): Uint8Array =>
  Buffer.isBuffer(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : bytes
