/**
 * Picture files, or pictures inside files, as a data set. Images are brought to one size, the one that a model takes, else that
 * of the first (shorter side scaled, centre cropped; data/decode.ts), when they are first read; grey only if all are.
 */
import { inLanes } from '../../base/lanes.ts'
import { Once } from '../../base/reads.ts'
import { Dataset, type Size, type Split, type Statistics, statisticsOf } from '../dataset.ts'
import { type PictureFacts, type PicturePlace, readFacts } from '../decode.ts'
import type { ImageShape } from '../image-shape.ts'
import { Pictures } from '../pictures.ts'
import type { ReadOptions } from '../read-options.ts'

export interface PictureSetInit {
  readonly name: string
  readonly split: Split
  readonly places: readonly PicturePlace[]
  /** Of each. */
  readonly labels: Int32Array
  readonly isLabelled: boolean
  readonly classes: number
  readonly classNames?: readonly string[] | undefined
  readonly notes: readonly string[]
  /** Opens the training split; null where these are its pictures. */
  readonly training: (() => Promise<Dataset>) | null
}

/** A usage error that names the file for one that is not a picture, and for a missing decoder. */
export async function pictureSet(init: PictureSetInit, how: ReadOptions): Promise<Dataset> {
  const { places, training, ...own } = init
  const facts = await inLanes(places, LANES, readFacts)
  const { height, width } = facts[0]!
  const shape = { channels: facts.every((f) => f.grey) ? 1 : 3, height, width }
  const pictures = new Pictures(
    facts.map(({ path, part, cmyk }) => ({ path, part, cmyk })),
    how,
  )
  const first = new Once(async () => (training ? training() : set))
  const set: Dataset = new Dataset({
    ...own,
    ...shape,
    images: { pictures, slots: Uint32Array.from(places.keys()) },
    notes: [...init.notes, ...pictureNotes(facts, shape)],
    statistics: bySize(async ({ height, width, resize }) => {
      const all = await first.get()
      if (all.size >= MANY)
        how.log?.(
          `the mean and standard deviation are computed from all ${all.size} pictures; --mean and --std avoid that`,
        )
      return statisticsOf(all.sized([height, width], resize))
    }),
  })
  return set
}

/** Headers read at a time: decoding runs in libvips' own threads. */
const LANES = 4

/** Number of training pictures whose statistics take so long that a note says so: some 20 s of photos. */
const MANY = 1000

/** Computed once for each size. */
function bySize(compute: (at: Size) => Promise<Statistics>): (at: Size) => Promise<Statistics> {
  const known = new Map<string, Promise<Statistics>>()
  return (at) => {
    const key = `${at.height} ${at.width} ${at.resize}`
    const statistics = known.get(key) ?? compute(at)
    known.set(key, statistics)
    return statistics
  }
}

/** Files that are not plain 8-bit pictures, counted by what is done with them. */
function pictureNotes(facts: readonly PictureFacts[], { channels, height, width }: ImageShape): string[] {
  const usual = new Set(['png', 'jpeg', 'webp'])
  const kinds: readonly (readonly [string, (f: PictureFacts) => boolean])[] = [
    ['with transparency: flattened on black', (f) => f.alpha],
    ['of more than 8 bits per channel: the upper 8 are used', (f) => f.deep],
    ['grey: repeated into three channels', (f) => f.grey && channels === 3],
    ['CMYK: converted without colour profiles', (f) => f.cmyk],
    ['animated: the first frame is used', (f) => f.animated],
    ['neither PNG, JPEG nor WebP inside, whatever their names', (f) => !usual.has(f.format)],
    [`of a size other than that of the first, ${height}x${width}`, (f) => f.height !== height || f.width !== width],
  ]
  const counted = kinds.flatMap(([what, is]) => {
    const n = facts.filter(is).length
    return n > 0 ? [`${n} ${what}`] : []
  })
  return counted.length > 0 ? [`of ${facts.length} pictures ${counted.join('; ')}`] : []
}
