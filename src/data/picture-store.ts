/**
 * Decoded pictures of a set, all of one size, so that each is decoded once, by the thread that needs it first: the first
 * ones in shared memory, as many as --data-memory has room for, the others in a file. Plain data, so that it goes to loader
 * threads; a file's descriptor is the whole process's.
 *
 * A record of the file is a picture's bytes, the first half of the set's key and a CRC-32. What does not match (not written
 * yet, cut off, damaged, of another set) counts as not there, and is rewritten. The file is removed from its folder as
 * soon as it is open, so that nothing is left of it however the process ends, or with --data-cache kept for the next run,
 * then with the pictures that are in memory too; several processes may use it at once.
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from '../base/crc32.ts'
import { usageError } from '../base/errors.ts'
import { refused } from '../base/files.ts'

export interface PictureStore {
  readonly imageBytes: number
  /** Pictures 0, 1, ... as far as it goes; all threads see it. */
  readonly memory: Uint8Array
  /** For each of these, 1 if it is there. */
  readonly known: Uint8Array
  readonly file: StoreFile | null
}

interface StoreFile {
  readonly descriptor: number
  readonly path: string
  /** Pictures first..end-1 have a place in it. */
  readonly first: number
  readonly end: number
  readonly mark: number
}

export interface StoreOptions {
  /** Bytes of memory. */
  readonly memory: number
  /** Folder in which the file is kept; without it a temporary one. */
  readonly cache?: string | undefined
  /** Called if the disk does not have room for all. */
  readonly log?: ((message: string) => void) | undefined
}

/** After a picture's bytes in the file: mark and CRC. */
const TAIL = 8
/** The fraction of a disk's free space that is used: others need some too. */
const SHARE = 0.9

/** Closes files of sets that are no longer in use. */
const unused = new FinalizationRegistry<number>((descriptor) => closeSync(descriptor))

/** `key`: hexadecimal, of the set's content and of how it is decoded. */
export function openStore(count: number, imageBytes: number, key: string, o: StoreOptions): PictureStore {
  const held = Math.min(count, Math.floor(o.memory / imageBytes))
  const first = o.cache === undefined ? held : 0
  const file = first < count ? openFile(first, count, imageBytes, key, o) : null
  const store = { imageBytes, memory: sharedBytes(held * imageBytes), known: sharedBytes(held), file }
  if (file) unused.register(store, file.descriptor)
  return store
}

function openFile(first: number, count: number, imageBytes: number, key: string, o: StoreOptions): StoreFile {
  const folder = o.cache ?? tmpdir()
  const name = o.cache === undefined ? `mnc-${process.pid}-${randomBytes(4).toString('hex')}` : key.slice(0, 32)
  const path = join(folder, `${name}.pictures`)
  return refusals(path, () => {
    if (o.cache !== undefined) mkdirSync(folder, { recursive: true })
    const descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    const { bavail, bsize } = statfsSync(folder)
    const room = bavail * bsize * SHARE + fstatSync(descriptor).blocks * 512
    if (o.cache === undefined) unlinkSync(path)
    const end = Math.min(count, first + Math.floor(room / (imageBytes + TAIL)))
    if (end < count)
      o.log?.(
        `${folder} has room for ${end - first} of ${count - first} pictures; the others are decoded whenever they are needed (choose another folder with --data-cache DIR)`,
      )
    return { descriptor, path, first, end, mark: Number.parseInt(key.slice(0, 8), 16) }
  })
}

/** Picture `i`, if it is there: a view of memory, or bytes that are the caller's. */
export function storedPicture(store: PictureStore, i: number): Uint8Array | null {
  const { imageBytes, memory, known, file } = store
  if (i < known.length && Atomics.load(known, i) === 1) return memory.subarray(i * imageBytes, (i + 1) * imageBytes)
  if (!file || i < file.first || i >= file.end) return null
  const record = Buffer.alloc(imageBytes + TAIL)
  const at = (i - file.first) * record.length
  const read = refusals(file.path, () => readSync(file.descriptor, record, 0, record.length, at))
  if (read < record.length || record.readUInt32LE(imageBytes) !== file.mark) return null
  const bytes = record.subarray(0, imageBytes)
  if (record.readUInt32LE(imageBytes + 4) !== crc32(bytes)) return null
  remember(store, i, bytes)
  return bytes
}

/** Keeps a decoded picture, if it has a place. Two threads that do so at once write the same. */
export function keepPicture(store: PictureStore, i: number, bytes: Uint8Array): void {
  remember(store, i, bytes)
  const { imageBytes, file } = store
  if (!file || i < file.first || i >= file.end) return
  const record = Buffer.alloc(imageBytes + TAIL)
  record.set(bytes)
  record.writeUInt32LE(file.mark, imageBytes)
  record.writeUInt32LE(crc32(bytes), imageBytes + 4)
  const at = (i - file.first) * record.length
  refusals(file.path, () => {
    for (let done = 0; done < record.length; )
      done += writeSync(file.descriptor, record, done, record.length - done, at + done)
  })
}

function remember({ imageBytes, memory, known }: PictureStore, i: number, bytes: Uint8Array): void {
  if (i >= known.length) return
  memory.set(bytes, i * imageBytes)
  Atomics.store(known, i, 1)
}

const refusals = <T>(path: string, work: () => T): T =>
  refused(
    work,
    `decoded pictures cannot be kept in ${path}`,
    'name a folder that has room with --data-cache, or raise --data-memory',
  )

/** Bytes that every thread can see; a usage error where there is no memory for them. */
export function sharedBytes(length: number): Uint8Array {
  try {
    return new Uint8Array(new SharedArrayBuffer(length))
  } catch (cause) {
    if (cause instanceof RangeError) throw usageError(`there is no memory for ${length} bytes of images`)
    throw cause
  }
}
