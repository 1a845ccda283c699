/**
 * Pictures to bytes, by `sharp` (libvips), an optional dependency: its binaries are npm packages of their own, and
 * everything else works without them.
 *
 * The file's content decides what it is, not its name. Opaque 8-bit grey and RGB pictures give the bytes that they hold.
 * Of another size, the shorter side is scaled and the centre cropped: with the triangle filter, as in resize.ts, except
 * that libvips shrinks a JPEG while it decodes it, or by whole pixels first, where it shrinks a lot. Turned as EXIF says;
 * transparency is flattened on black; of 16 bits the upper 8 are taken; of an animation the first frame; CMYK becomes RGB
 * as the Python Imaging Library does it, without a colour profile: with k' = 255 - K, R = k' - round(C k' / 255). A
 * vector picture (SVG, PDF) has no pixels of its own and is refused.
 */
import { statSync } from 'node:fs'
import { MncError, usageError } from '../base/errors.ts'
import { readPart } from '../base/files.ts'
import type { ImageShape } from './image-shape.ts'
import type { ResizeMode } from './resize.ts'

export interface PicturePart {
  readonly name: string
  readonly offset: number
  readonly size: number
  /** Of the open file that has it unpacked; null: it is in the file itself. */
  readonly descriptor: number | null
}

/** A file, or a part of one. */
export interface PicturePlace {
  readonly path: string
  /** Where in it the picture is, and how it is called there; null: it is the file. */
  readonly part: PicturePart | null
}

export interface PictureFile extends PicturePlace {
  readonly cmyk: boolean
}

/** What a picture's header says. */
export interface PictureFacts extends PictureFile {
  readonly format: string
  readonly width: number
  readonly height: number
  readonly grey: boolean
  readonly alpha: boolean
  /** More than 8 bits per channel. */
  readonly deep: boolean
  readonly animated: boolean
}

const VECTOR: ReadonlySet<string> = new Set(['svg', 'pdf'])

/** The header of a picture; a usage error that names the file if it is not one. */
export async function readFacts(place: PicturePlace): Promise<PictureFacts> {
  const sharp = await loadSharp()
  const m = await guarded(place, () => sharp(sourceOf(place)).metadata())
  if (VECTOR.has(m.format))
    throw usageError(`${nameOf(place)} contains ${m.format.toUpperCase()}, a drawing without pixels`, REMEDY)
  return {
    ...{ path: place.path, part: place.part, format: m.format, width: m.autoOrient.width, height: m.autoOrient.height },
    ...{ cmyk: m.space === 'cmyk', grey: m.space === 'b-w', alpha: m.hasAlpha },
    ...{ deep: m.depth !== 'uchar', animated: (m.pages ?? 1) > 1 },
  }
}

/** What the decoder reads. */
function sourceOf({ path, part }: PicturePlace): string | Buffer {
  return part ? readPart(path, part.offset, part.size, part.descriptor) : path
}

const nameOf = ({ path, part }: PicturePlace): string => (part ? `${path}: '${part.name}'` : path)

const REMEDY = 'remove it from the folder, or replace it with a PNG, JPEG or WebP picture'

const kernels = { bilinear: 'linear', nearest: 'nearest' } as const satisfies Record<ResizeMode, string>

/** C,H,W bytes of `shape`: the shorter side scaled, centre cropped, where the picture has another size. */
export async function decodePicture(file: PictureFile, shape: ImageShape, resize: ResizeMode): Promise<Uint8Array> {
  const sharp = await loadSharp()
  const { cmyk } = file
  const fit = { fit: 'cover', kernel: kernels[resize], fastShrinkOnLoad: false } as const
  const { channels, height, width } = shape
  const { data, count } = await guarded(file, async () => {
    const from = sourceOf(file)
    const source = cmyk ? sharp(from).pipelineColourspace('cmyk') : sharp(from)
    const image = source.autoOrient().flatten().resize(width, height, fit)
    const space = cmyk ? 'cmyk' : channels === 1 ? 'b-w' : 'srgb'
    const { data, info } = await image.toColourspace(space).raw().toBuffer({ resolveWithObject: true })
    return { data, count: info.channels }
  })
  const bytes = cmyk ? fromCmyk(data) : data
  const stride = cmyk ? 3 : count
  const planes = new Uint8Array(channels * height * width)
  for (let c = 0; c < channels; c++) plane(bytes, c, stride, planes.subarray(c * height * width))
  return planes
}

function plane(bytes: Uint8Array, channel: number, stride: number, out: Uint8Array): void {
  const count = bytes.length / stride
  for (let p = 0, at = channel; p < count; p++, at += stride) out[p] = bytes[at]!
}

function fromCmyk(cmyk: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((cmyk.length / 4) * 3)
  for (let from = 0, to = 0; from < cmyk.length; from += 4, to += 3) {
    const light = 255 - cmyk[from + 3]!
    for (let c = 0; c < 3; c++) {
      const product = cmyk[from + c]! * light + 128
      rgb[to + c] = light - (((product >> 8) + product) >> 8)
    }
  }
  return rgb
}

type Sharp = typeof import('sharp')['default']

let loading: Promise<Sharp> | null = null

/**
 * A usage error where the decoder is not installed. Not in the package's declarations: its types need those of an optional package.
 *
 * @internal
 */
export const loadSharp = (): Promise<Sharp> => {
  loading ??= startLoading()
  return loading
}

function startLoading(): Promise<Sharp> {
  return import('sharp').then(
    ({ default: sharp }) => {
      sharp.cache(false) // each picture is read once
      return sharp
    },
    (cause: unknown) => {
      throw usageError(
        `folder: the image decoder 'sharp' cannot be loaded: ${cause instanceof Error ? cause.message.split('\n')[0] : cause}`,
        'npm install sharp',
      )
    },
  )
}

async function guarded<T>(place: PicturePlace, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (cause instanceof MncError) throw cause
    if ((place.part?.size ?? statSync(place.path).size) === 0) throw usageError(`${nameOf(place)} is empty`, REMEDY)
    throw usageError(`${nameOf(place)} is not a readable image: ${cause instanceof Error ? cause.message : cause}`)
  }
}
