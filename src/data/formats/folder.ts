/**
 * A folder of class sub-folders with PNG, JPEG or WebP files. DIR/train and DIR/test (or val, validation) are the
 * splits where they exist, else DIR itself is both. Decoded by `sharp` (libvips), an optional dependency: its binaries
 * are npm packages of their own, and everything else works without them. Images are brought to one size, that of the
 * first file (shorter side scaled, centre cropped); grey only if every file is. Files are taken in turn from each
 * class, so that the first n of the set hold every class.
 */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { usageError } from '../../errors.ts'
import { computeStatistics, Dataset, type Split, sharedBytes } from '../dataset.ts'
import { naturalOrder } from './files.ts'

const splitFolders: Readonly<Record<Split, readonly string[]>> = {
  train: ['train', 'training'],
  test: ['test', 'val', 'validation'],
}

/** Reads and decodes a split; throws a usage error for an empty folder, a broken file, or a missing decoder. */
export async function openFolder(folder: string, split: Split): Promise<Dataset> {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw usageError(`folder: there is no folder '${folder}'`, 'name a folder with one sub-folder of images a class')
  const root = splitRoot(folder, split)
  const classNames = classFolders(splitRoot(folder, 'train'))
  const files = interleave(classNames.map((name) => imageFiles(join(root, name))))
  if (files.length === 0)
    throw usageError(`folder: no PNG, JPEG or WebP files in sub-folders of '${root}'`, 'one sub-folder a class')
  const decode = await loadDecoder()
  const { width, height } = await decode.size(files[0]!.path)
  const grey = await every(files, (f) => decode.isGrey(f.path))
  const channels = grey ? 1 : 3
  const images = sharedBytes(files.length * channels * height * width)
  await inParallel(files, async ({ path }, i) => {
    const planes = await decode.planes(path, width, height, channels)
    images.set(planes, i * planes.length)
  })
  const set: Dataset = new Dataset({
    name: `folder:${folder}#${split}`,
    ...{ split, classes: classNames.length, channels, height, width, images, classNames },
    labels: Int32Array.from(files, (f) => f.label),
    statistics: async () =>
      computeStatistics(
        split === 'test' && splitRoot(folder, 'train') !== root ? await openFolder(folder, 'train') : set,
      ),
  })
  return set
}

function splitRoot(folder: string, split: Split): string {
  const present = new Set(folders(folder))
  const own = splitFolders[split].find((name) => present.has(name))
  if (own) return join(folder, own)
  const other = Object.values(splitFolders)
    .flat()
    .find((name) => present.has(name))
  if (other)
    throw usageError(
      `folder: '${folder}' has '${other}' but none of ${splitFolders[split].join(', ')}, which hold the ${split} split`,
    )
  return folder
}

const folders = (of: string): string[] =>
  readdirSync(of, { withFileTypes: true })
    .filter((e) => e.isDirectory() && !e.name.startsWith('.'))
    .map((e) => e.name)

const classFolders = (root: string): string[] => folders(root).sort(naturalOrder)

function imageFiles(folder: string): string[] {
  if (!existsSync(folder)) return []
  const names = readdirSync(folder).filter((n) => /\.(png|jpe?g|webp)$/i.test(n))
  return names.sort(naturalOrder).map((n) => join(folder, n))
}

interface Labelled {
  readonly path: string
  readonly label: number
}

function interleave(classes: readonly (readonly string[])[]): Labelled[] {
  const out: Labelled[] = []
  const longest = Math.max(0, ...classes.map((c) => c.length))
  for (let i = 0; i < longest; i++)
    for (const [label, files] of classes.entries()) if (files[i]) out.push({ path: files[i]!, label })
  return out
}

interface Decoder {
  size(path: string): Promise<{ width: number; height: number }>
  isGrey(path: string): Promise<boolean>
  /** C,H,W bytes. */
  planes(path: string, width: number, height: number, channels: number): Promise<Uint8Array>
}

async function loadDecoder(): Promise<Decoder> {
  const { default: sharp } = await import('sharp').catch((cause: unknown) => {
    throw usageError(
      `folder: the image decoder 'sharp' does not load: ${cause instanceof Error ? cause.message.split('\n')[0] : cause}`,
      'npm install sharp',
    )
  })
  const guarded = async <T>(path: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (cause) {
      throw usageError(`${path} is not a readable image: ${cause instanceof Error ? cause.message : cause}`)
    }
  }
  const metadata = (path: string) => guarded(path, () => sharp(path).metadata())
  return {
    size: async (path) => {
      const { width, height } = (await metadata(path)).autoOrient
      return { width, height }
    },
    isGrey: async (path) => (await metadata(path)).space === 'b-w',
    planes: (path, width, height, channels) =>
      guarded(path, async () => {
        const image = sharp(path).autoOrient().flatten().resize(width, height, { fit: 'cover' })
        const { data } = await image
          .toColourspace(channels === 1 ? 'b-w' : 'srgb')
          .raw()
          .toBuffer({ resolveWithObject: true })
        const plane = width * height
        const planes = new Uint8Array(channels * plane)
        for (let c = 0; c < channels; c++)
          for (let p = 0; p < plane; p++) planes[c * plane + p] = data[p * channels + c]!
        return planes
      }),
  }
}

async function every<T>(items: readonly T[], test: (item: T) => Promise<boolean>): Promise<boolean> {
  for (const item of items) if (!(await test(item))) return false
  return true
}

/** A few at once: decoding runs in libvips' own threads. */
async function inParallel<T>(items: readonly T[], work: (item: T, i: number) => Promise<void>): Promise<void> {
  let next = 0
  const lane = async () => {
    while (next < items.length) {
      const i = next++
      await work(items[i]!, i)
    }
  }
  await Promise.all(Array.from({ length: 4 }, lane))
}
