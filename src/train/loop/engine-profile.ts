/**
 * The engine's profile of a run, a Chrome trace. The engine chooses the file's name and does not report when it cannot
 * write all of it, so it writes into a folder next to the destination, and the file is moved there if it is complete.
 */
import { readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { MncError } from '../../base/errors.ts'
import { type TemporaryFolder, temporaryFolder, writing } from '../../base/files.ts'

export class EngineProfile {
  readonly #path: string
  readonly #folder: TemporaryFolder

  private constructor(path: string, folder: TemporaryFolder) {
    this.#path = path
    this.#folder = folder
  }

  /** For a profile at `path`. A user error where its folder cannot be written. */
  static async begin(path: string): Promise<EngineProfile> {
    return new EngineProfile(path, await writing(path, () => temporaryFolder(join(dirname(path), '.profile-'))))
  }

  /** Where the engine is to write: a prefix of the file name. */
  get prefix(): string {
    return join(this.#folder.path, 'step')
  }

  /** Moves what the engine wrote to its destination; returns it. A user error where it is missing or cut short. */
  async keep(written: string | undefined): Promise<string> {
    const text = written === undefined ? '' : await readFile(written, 'utf8')
    if (written === undefined || !text.trimEnd().endsWith(']'))
      throw new MncError('the profile was not written completely', {
        ...{ code: 'file-not-written', blame: 'user', file: this.#path, next: 'check that the device has space left' },
      })
    await writing(this.#path, () => rename(written, this.#path))
    return text
  }

  async close(): Promise<void> {
    await this.#folder.remove()
  }
}
