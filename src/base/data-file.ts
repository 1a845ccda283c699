/**
 * A file that contains tensors, in whole or in part, read slice by slice on demand. It is kept open, so that it can
 * still be read when another file has taken its name (a model written over the one that was read); a file that changed in
 * place is a model error, never different numbers.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import type { LazyBytes } from './bytes.ts'
import { modelError } from './errors.ts'
import { reading } from './files.ts'

/** Of a model with one data file per tensor, those beyond this many are opened for each read: a process may have 1024 files open. */
const HELD_LIMIT = 128
let held = 0
const letGo = new FinalizationRegistry((fd: number) => {
  closeSync(fd)
  held--
})

const stampOf = (s: { ino: number; size: number; mtimeMs: number }): string => `${s.ino}:${s.size}:${s.mtimeMs}`

export class DataFile {
  readonly path: string
  readonly size: number
  /** Identity when it was first seen. */
  readonly #stamp: string
  readonly #fd: number | undefined

  /** Opens a regular file; throws the operating system's error. */
  constructor(path: string) {
    this.path = path
    const fd = openSync(path, 'r')
    const stat = fstatSync(fd)
    this.size = stat.size
    this.#stamp = stampOf(stat)
    if (held < HELD_LIMIT) {
      held++
      letGo.register(this, fd)
      this.#fd = fd
    } else closeSync(fd)
  }

  /** Fills `out` from `offset` on. A model error if the file has changed or ends early. */
  readInto(out: Uint8Array, offset: number): void {
    reading(this.path, () => this.#readInto(out, offset))
  }

  #readInto(out: Uint8Array, offset: number): void {
    const fd = this.#fd ?? openSync(this.path, 'r')
    try {
      if (stampOf(fstatSync(fd)) !== this.#stamp) throw this.#bad('the file changed after the model was read')
      for (let at = 0; at < out.length; ) {
        const n = readSync(fd, out, at, Math.min(out.length - at, 1 << 30), offset + at)
        if (n === 0) throw this.#bad('the file ended early')
        at += n
      }
    } finally {
      if (this.#fd === undefined) closeSync(fd)
    }
  }

  slice(offset: number, length: number): FileSlice {
    return new FileSlice(this, offset, length)
  }

  #bad(why: string): Error {
    return modelError('data-changed', why, { file: this.path, next: 'read the model again' })
  }
}

export class FileSlice implements LazyBytes {
  readonly file: DataFile
  readonly offset: number
  readonly length: number

  constructor(file: DataFile, offset: number, length: number) {
    this.file = file
    this.offset = offset
    this.length = length
  }

  read(start: number, end: number, into?: Uint8Array): Uint8Array {
    const size = end - start
    const out = into && into.length >= size ? into.subarray(0, size) : new Uint8Array(size)
    this.file.readInto(out, this.offset + start)
    return out
  }
}
