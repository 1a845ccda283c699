/**
 * A temporary file for what has to be unpacked. It is removed from its folder as soon as it is open, so that nothing is left of
 * it however the process ends, and memory does not grow with it. Threads of the process read it by its descriptor.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { usageError } from '../base/errors.ts'
import { refused } from '../base/files.ts'

const letGo = new FinalizationRegistry((descriptor: number) => closeSync(descriptor))

export class Scratch {
  readonly descriptor: number
  #size = 0

  constructor() {
    const path = join(tmpdir(), `mnc-${process.pid}-${randomBytes(4).toString('hex')}.rows`)
    this.descriptor = refusals(() => openSync(path, 'wx+', 0o600))
    unlinkSync(path)
    letGo.register(this, this.descriptor)
  }

  get size(): number {
    return this.#size
  }

  /** At its end. */
  append(bytes: Uint8Array): void {
    refusals(() => {
      for (let at = 0; at < bytes.length; )
        at += writeSync(this.descriptor, bytes, at, bytes.length - at, this.#size + at)
    })
    this.#size += bytes.length
  }

  readInto(out: Uint8Array, offset: number): void {
    for (let at = 0; at < out.length; ) {
      const n = refusals(() => readSync(this.descriptor, out, at, out.length - at, offset + at))
      if (n === 0) throw usageError('the temporary file of unpacked data ended early')
      at += n
    }
  }
}

let kept: Scratch | undefined

/** The one that lives as long as the process, for what threads read. */
export function keptScratch(): Scratch {
  kept ??= new Scratch()
  return kept
}

const refusals = <T>(work: () => T): T =>
  refused(
    work,
    `unpacked data cannot be kept in ${tmpdir()}`,
    'name a folder that has room with the environment variable TMPDIR',
  )
