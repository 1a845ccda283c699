/**
 * Tensors stored outside the model file (TensorProto.external_data): where they are, checked before anything is read,
 * and their bytes, read slice by slice when asked for. A location must stay inside the model's folder, links followed.
 * The optional checksum (SHA-1 of the whole file) is carried and not verified: that would read files that may be far
 * larger than what is asked for.
 */
import { realpathSync, statSync } from 'node:fs'
import { isAbsolute, join, relative, sep } from 'node:path'
import { DataFile, type FileSlice } from '../base/data-file.ts'
import { MncError, modelError } from '../base/errors.ts'
import type { Proto } from './proto-schema.ts'

/** Finds the data files of one model; each is checked once. */
export class DataFiles {
  readonly #folder: string | undefined
  readonly #files = new Map<string, DataFile>()

  constructor(folder: string | undefined) {
    this.#folder = folder
  }

  /** The place of a tensor of `length` bytes. Model error for a path outside, a missing file or a slice past its end. */
  locate(entries: Proto<'StringStringEntryProto'>[], tensor: string, length: number): FileSlice {
    const keys = new Map(entries.map(({ key, value }) => [key ?? '', value ?? '']))
    const location = keys.get('location')
    if (!location) throw modelError('external-data', `tensor '${tensor}' is external but has no location`)
    const number = (key: string, otherwise: number): number => {
      const text = keys.get(key)
      if (text === undefined) return otherwise
      if (/^\d{1,15}$/.test(text)) return Number(text)
      throw modelError('external-data', `the ${key} of external tensor '${tensor}' is '${text}'`)
    }
    const offset = number('offset', 0)
    const declared = number('length', length)
    if (declared !== length)
      throw modelError('tensor-length', `external tensor '${tensor}' needs ${length} bytes but declares ${declared}`)
    const file = this.#open(location, tensor)
    if (offset + length > file.size)
      throw modelError(
        'external-data',
        `tensor '${tensor}' lies at ${offset}..${offset + length} of '${location}', which has ${file.size} bytes`,
      )
    return file.slice(offset, length)
  }

  #open(location: string, tensor: string): DataFile {
    const known = this.#files.get(location)
    if (known) return known
    const bad = (why: string) =>
      modelError('external-data', `tensor '${tensor}' lies in '${location}', ${why}`, {
        next: 'external data must be inside the folder of the model',
      })
    if (this.#folder === undefined) throw bad('but the model was not read from a file')
    if (isAbsolute(location) || location.split(/[/\\]/).includes('..') || location.includes('\0'))
      throw bad('a path outside the folder of the model')
    const path = join(this.#folder, location)
    let file: DataFile
    try {
      const real = realpathSync(path)
      const inside = relative(realpathSync(this.#folder), real)
      if (inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside))
        throw bad('a link that leads outside the folder of the model')
      // asked before it is opened: opening a pipe would wait for a writer
      if (!statSync(real).isFile()) throw bad('which is not a file')
      file = new DataFile(real)
    } catch (error) {
      if (error instanceof MncError) throw error
      const { code } = error as NodeJS.ErrnoException
      throw bad(code === 'ENOENT' ? 'which does not exist' : `which cannot be opened (${code})`)
    }
    this.#files.set(location, file)
    return file
  }
}
