/**
 * Rows of equal size: an array by sample. They are where they were found, in memory or in a file, or in a temporary file
 * where a format has to be unpacked (RowWriter), so that any row can be read at any time and memory does not grow with
 * their number.
 */
import { DataFile } from '../base/data-file.ts'
import { Scratch } from './scratch.ts'

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

/** Writes rows into a temporary file, which lives as long as they do. */
export class RowWriter {
  readonly #width: number
  readonly #scratch = new Scratch()

  constructor(width: number) {
    this.#width = width
  }

  append(bytes: Uint8Array): void {
    this.#scratch.append(bytes)
  }

  /** What was written. */
  rows(): Rows {
    const [width, scratch] = [this.#width, this.#scratch]
    return {
      count: width === 0 ? 0 : scratch.size / width,
      width,
      readInto: (out, first) => scratch.readInto(out, first * width),
    }
  }
}
