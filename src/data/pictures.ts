/** The picture files of a set, and what has been decoded of them, by size. */
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { reading } from '../base/files.ts'
import { packageVersion } from '../base/package-files.ts'
import type { PictureFile } from './decode.ts'
import type { ImageShape } from './image-shape.ts'
import { openStore, type PictureStore, type StoreOptions } from './picture-store.ts'
import type { PictureFiles } from './pixels.ts'
import type { ResizeMode } from './resize.ts'

export class Pictures {
  readonly files: readonly PictureFile[]
  readonly #options: StoreOptions
  readonly #stores = new Map<string, PictureStore>()

  constructor(files: readonly PictureFile[], options: StoreOptions) {
    this.files = files
    this.#options = options
  }

  /** Those named, brought to `shape`. Decoded pictures are shared by all callers that ask for this shape. */
  at(slots: Uint32Array, shape: ImageShape, resize: ResizeMode): PictureFiles {
    const { files } = this
    const { channels, height, width } = shape
    const how = JSON.stringify([channels, height, width, resize])
    const bytes = channels * height * width
    const store = this.#stores.get(how) ?? openStore(files.length, bytes, this.#key(how), this.#options)
    this.#stores.set(how, store)
    return { files, slots, shape, resize, store }
  }

  /** A file that is kept has to recognise its pictures; for one that is not, they need not be read. */
  #key(how: string): string {
    const hash = createHash('sha256').update(`${packageVersion()} ${how}`)
    return (this.#options.cache === undefined ? hash : hash.update(hashFiles(this.files, true))).digest('hex')
  }
}

/** This much of a picture file's start and end goes into the hash, and its size. */
const HASHED = 32_768

/** SHA-256 of the contents of picture files: their sizes, first and last 32 KB; with `times` also when they were last changed. */
export function hashFiles(files: Iterable<PictureFile>, times = false): string {
  const hash = createHash('sha256')
  const buffer = Buffer.alloc(HASHED)
  for (const { path, part } of files)
    reading(path, () => {
      const own = part?.descriptor ?? null
      const file = own ?? openSync(path, 'r')
      try {
        const { size: all, mtimeMs } = own === null ? fstatSync(file) : statSync(path)
        const { offset, size } = part ?? { offset: 0, size: all }
        hash.update(times ? `${size} ${mtimeMs} ` : `${size} `)
        for (const at of size > HASHED ? [0, size - HASHED] : [0])
          hash.update(buffer.subarray(0, readSync(file, buffer, 0, Math.min(HASHED, size), offset + at)))
      } finally {
        if (own === null) closeSync(file)
      }
    })
  return hash.digest('hex')
}
