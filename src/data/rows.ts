/**
 * Rows of equal size: an array by sample. They are where they were found, in memory or in a file, or in a temporary file
 * where a format has to be unpacked (RowWriter), so that any row can be read at any time and memory does not grow with
 * their number.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DataFile } from '../base/data-file.ts'
import { usageError } from '../base/errors.ts'
import { refused } from '../base/files.ts'

export interface Rows {
  readonly count: number
  /** Bytes in a row. */
  readonly width: number
  /** Rows `first`.. into `out`, which holds a whole number of them. */
  readInto(out: Uint8Array, first: number): void
}

export const memoryRows = (bytes: Uint8Array, width: number): Rows => ({
  count: width === 0 ? 0 : bytes.length / width,
  width,
  readInto: (out, first) => out.set(bytes.subarray(first * width, first * width + out.length)),
})

/** `count` rows from `offset` on. */
export function fileRows(path: string, offset: number, count: number, width: number): Rows {
  const file = new DataFile(path)
  return { count, width, readInto: (out, first) => file.readInto(out, offset + first * width) }
}

/** Those named, in that order; neighbours are read at once. */
export function readRows(rows: Rows, indices: ArrayLike<number>): Uint8Array {
  const { width } = rows
  const out = new Uint8Array(indices.length * width)
  for (let i = 0; i < indices.length; ) {
    let n = 1
    while (i + n < indices.length && indices[i + n] === indices[i]! + n) n++
    rows.readInto(out.subarray(i * width, (i + n) * width), indices[i]!)
    i += n
  }
  return out
}

/** Bytes of rows that are looked through at once. */
const PIECE = 2 ** 18

/** All of them, in pieces, each in the memory of the one before. */
export function* piecesOf(rows: Rows, count = rows.count): Generator<Uint8Array, void, undefined> {
  const at = Math.max(1, Math.floor(PIECE / Math.max(1, rows.width)))
  const memory = new Uint8Array(Math.min(at, count) * rows.width)
  for (let first = 0; first < count; first += at) {
    const out = memory.subarray(0, Math.min(at, count - first) * rows.width)
    rows.readInto(out, first)
    yield out
  }
}

const letGo = new FinalizationRegistry((descriptor: number) => closeSync(descriptor))

/**
 * Writes rows into a temporary file. It is removed from its folder as soon as it is open, so that nothing is left of it
 * however the process ends.
 */
export class RowWriter {
  readonly #width: number
  readonly #descriptor: number
  #bytes = 0

  constructor(width: number) {
    const path = join(tmpdir(), `mnc-${process.pid}-${randomBytes(4).toString('hex')}.rows`)
    this.#width = width
    this.#descriptor = refusals(() => openSync(path, 'wx+', 0o600))
    unlinkSync(path)
    letGo.register(this, this.#descriptor)
  }

  append(bytes: Uint8Array): void {
    refusals(() => {
      for (let at = 0; at < bytes.length; )
        at += writeSync(this.#descriptor, bytes, at, bytes.length - at, this.#bytes + at)
    })
    this.#bytes += bytes.length
  }

  /** What was written; the file lives as long as they do. */
  rows(): Rows {
    const width = this.#width
    return {
      count: width === 0 ? 0 : this.#bytes / width,
      width,
      readInto: (out, first) => this.#read(out, first * width),
    }
  }

  #read(out: Uint8Array, offset: number): void {
    for (let at = 0; at < out.length; ) {
      const n = refusals(() => readSync(this.#descriptor, out, at, out.length - at, offset + at))
      if (n === 0) throw usageError('the temporary file of unpacked data ended early')
      at += n
    }
  }
}

const refusals = <T>(work: () => T): T =>
  refused(
    work,
    `unpacked data cannot be kept in ${tmpdir()}`,
    'name a folder that has room with the environment variable TMPDIR',
  )
