/**
 * Where a set's pixels are: bytes in shared memory, or picture files that are decoded whenever they are asked for. Plain
 * data, so that it goes to a loader thread; reading gives the same bytes either way.
 */
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { usageError } from '../errors.ts'
import { decodePicture, type PictureFile } from './decode.ts'

/** Size of the images that come in. */
export interface ImageShape {
  readonly channels: number
  readonly height: number
  readonly width: number
}

/** Picture files, decoded to `shape`. */
export interface PictureFiles {
  readonly files: readonly PictureFile[]
  readonly shape: ImageShape
}

/** C,H,W bytes, one image after the other, or the files that they are decoded from. */
export type Pixels = Uint8Array | PictureFiles

/** Pictures decoded ahead of the one that is used: libvips decodes in threads of its own. */
const AHEAD = 3

/** Images `indices` in that order, C,H,W bytes each; a view or memory that is the caller's until the next one. */
export async function* readPixels(
  pixels: Pixels,
  imageBytes: number,
  indices: ArrayLike<number>,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (pixels instanceof Uint8Array) {
    for (let i = 0; i < indices.length; i++) yield viewOf(pixels, imageBytes, indices[i]!)
    return
  }
  const { files, shape } = pixels
  const started: Promise<Uint8Array>[] = []
  const startUpTo = (end: number): void => {
    while (started.length < Math.min(end, indices.length)) {
      const one = decodePicture(files[indices[started.length]!]!, shape)
      one.catch(() => {}) // told where it is awaited
      started.push(one)
    }
  }
  for (let i = 0; i < indices.length; i++) {
    startUpTo(i + 1 + AHEAD)
    const one = started[i]!
    delete started[i] // its memory goes when the caller is done with it
    yield await one
  }
}

export const viewOf = (bytes: Uint8Array, imageBytes: number, i: number): Uint8Array =>
  bytes.subarray(i * imageBytes, (i + 1) * imageBytes)

/** The chosen images: copied into memory of their own, or the chosen files. */
export function selectPixels(pixels: Pixels, imageBytes: number, indices: readonly number[]): Pixels {
  if (!(pixels instanceof Uint8Array)) return { ...pixels, files: indices.map((i) => pixels.files[i]!) }
  const out = sharedBytes(indices.length * imageBytes)
  for (const [to, from] of indices.entries()) out.set(viewOf(pixels, imageBytes, from), to * imageBytes)
  return out
}

/** Bytes that every thread can see; a usage error where there is no memory for them. */
export function sharedBytes(length: number): Uint8Array {
  try {
    return new Uint8Array(new SharedArrayBuffer(length))
  } catch (cause) {
    if (cause instanceof RangeError) throw usageError(`there is no memory for ${length} bytes of images`)
    throw cause
  }
}

/** Of a picture file, this much of its start and of its end goes into the hash, and its size. */
const HASHED = 32_768

/** SHA-256 of the pixels, or of what the picture files hold: their sizes, first and last 32 KB. */
export function hashPixels(pixels: Pixels): string {
  const hash = createHash('sha256')
  if (pixels instanceof Uint8Array) return hash.update(pixels).digest('hex')
  hash.update(JSON.stringify(pixels.shape))
  const buffer = Buffer.alloc(HASHED)
  for (const { path } of pixels.files) {
    const file = openSync(path, 'r')
    try {
      const { size } = fstatSync(file)
      hash.update(`${size} `)
      for (const at of size > HASHED ? [0, size - HASHED] : [0])
        hash.update(buffer.subarray(0, readSync(file, buffer, 0, HASHED, at)))
    } finally {
      closeSync(file)
    }
  }
  return hash.digest('hex')
}
