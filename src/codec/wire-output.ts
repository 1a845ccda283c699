/**
 * Protobuf bytes being written, from the last to the first: when a message's length is due, its content is after it.
 * Large data is not copied but becomes part of the result as it is, in memory or not.
 */
import { type Bytes, isLazy, load } from '../base/bytes.ts'

const CHUNK = 1 << 16
/** From this size on bytes become a part of their own. */
const APART_MINIMUM = 1 << 14

export class WireOutput {
  /** Bytes written so far. */
  length = 0
  /** Last part first. */
  readonly #parts: Bytes[] = []
  #chunk = Buffer.alloc(0)
  #at = 0

  /** Makes room for `size` bytes and returns where they go. */
  #room(size: number): number {
    if (this.#at < size) {
      this.#flush()
      this.#chunk = Buffer.allocUnsafeSlow(Math.max(CHUNK, size))
      this.#at = this.#chunk.length
    }
    this.#at -= size
    this.length += size
    return this.#at
  }

  #flush(): void {
    if (this.#at < this.#chunk.length) this.#parts.push(this.#chunk.subarray(this.#at))
    this.#chunk = this.#chunk.subarray(0, this.#at)
  }

  #byte(value: number): void {
    const at = this.#room(1) // first: it may replace the chunk
    this.#chunk[at] = value
  }

  /** A whole number from 0 to 2^53. */
  varint(value: number): void {
    if (value < 128) {
      this.#byte(value)
      return
    }
    const bytes: number[] = []
    for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128)
    bytes.push(value)
    const at = this.#room(bytes.length)
    for (let i = 0; i < bytes.length; i++) this.#chunk[at + i] = bytes[i]!
  }

  int64(value: bigint): void {
    if (value >= 0n && value < 2n ** 53n) {
      this.varint(Number(value))
      return
    }
    let rest = BigInt.asUintN(64, value)
    const bytes: number[] = []
    for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
    bytes.push(Number(rest))
    const at = this.#room(bytes.length)
    for (let i = 0; i < bytes.length; i++) this.#chunk[at + i] = bytes[i]!
  }

  float(value: number): void {
    const at = this.#room(4)
    this.#chunk.writeFloatLE(value, at)
  }

  string(value: string): void {
    const size = Buffer.byteLength(value)
    const at = this.#room(size)
    this.#chunk.write(value, at)
  }

  bytes(value: Bytes): void {
    if (isLazy(value) || value.length >= APART_MINIMUM) {
      this.#flush()
      this.#parts.push(value)
      this.length += value.length
      return
    }
    const at = this.#room(value.length)
    this.#chunk.set(value, at)
  }

  /** The parts in order; together they are the message. */
  parts(): Bytes[] {
    this.#flush()
    return this.#parts.splice(0).reverse()
  }
}

/** Parts as one piece of memory. */
export function joined(parts: readonly Bytes[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(load(part), at)
    at += part.length
  }
  return out
}
