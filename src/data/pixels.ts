/**
 * Where a set's pixels are: bytes in shared memory, or picture files, each decoded when it is first asked for. Plain data,
 * so that it goes to a loader thread; reading gives the same bytes either way.
 */

import { decodePicture, type PictureFile } from './decode.ts'
import type { ImageShape } from './image-shape.ts'
import { keepPicture, type PictureStore, storedPicture } from './picture-store.ts'
import type { ResizeMode } from './resize.ts'

/** Picture files, decoded to `shape`. */
export interface PictureFiles {
  readonly files: readonly PictureFile[]
  /** Which of the files the images are. */
  readonly slots: Uint32Array
  readonly shape: ImageShape
  readonly resize: ResizeMode
  readonly store: PictureStore
}

/** C,H,W bytes, one image after the other, or the files that they are decoded from. */
export type Pixels = Uint8Array | PictureFiles

/** Pictures decoded ahead of the one that is used: libvips decodes in threads of its own. */
const AHEAD = 3

/** Images `indices` in that order, C,H,W bytes each; a view, or memory that is the caller's. */
export async function* readPixels(
  pixels: Pixels,
  imageBytes: number,
  indices: ArrayLike<number>,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (pixels instanceof Uint8Array) {
    for (let i = 0; i < indices.length; i++) yield viewOf(pixels, imageBytes, indices[i]!)
    return
  }
  const started: (Uint8Array | Promise<Uint8Array>)[] = []
  const startUpTo = (end: number): void => {
    while (started.length < Math.min(end, indices.length)) {
      const slot = pixels.slots[indices[started.length]!]!
      const one = storedPicture(pixels.store, slot) ?? decoded(pixels, slot)
      if (one instanceof Promise) one.catch(() => {}) // reported where it is awaited
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

async function decoded({ files, shape, resize, store }: PictureFiles, slot: number): Promise<Uint8Array> {
  const bytes = await decodePicture(files[slot]!, shape, resize)
  keepPicture(store, slot, bytes)
  return bytes
}

export const viewOf = (bytes: Uint8Array, imageBytes: number, i: number): Uint8Array =>
  bytes.subarray(i * imageBytes, (i + 1) * imageBytes)
