/**
 * A folder of class sub-folders with PNG, JPEG or WebP files, or of pictures with a file of labels, or without any
 * (labelled-files.ts). Images are brought to one size, the one that a model takes, else that of the first
 * file (shorter side scaled, centre cropped; data/decode.ts), when they are first read; grey only if every file is.
 */
import { inLanes } from '../../base/lanes.ts'
import { Once } from '../../base/reads.ts'
import { Dataset, type Size, type Split, type Statistics, statisticsOf } from '../dataset.ts'
import { type PictureFacts, readFacts } from '../decode.ts'
import type { ImageShape } from '../image-shape.ts'
import { Pictures } from '../pictures.ts'
import type { ReadOptions } from '../read-options.ts'
import type { FileKind } from './folder-tree.ts'
import { labelledFiles } from './labelled-files.ts'

const pictureFiles: FileKind = {
  format: 'folder',
  what: 'pictures',
  files: 'PNG, JPEG or WebP files',
  pattern: /\.(png|jpe?g|webp)$/i,
}

/** Finds a split's pictures; a usage error for an empty folder, a file that is not a picture, or a missing decoder. */
export async function openFolder(folder: string, split: Split, how: ReadOptions): Promise<Dataset> {
  const found = labelledFiles(folder, split, pictureFiles)
  const facts = await inLanes(found.files, LANES, ({ path }) => readFacts(path))
  const { height, width } = facts[0]!
  const shape = { channels: facts.every((f) => f.grey) ? 1 : 3, height, width }
  const pictures = new Pictures(
    facts.map(({ path, cmyk }) => ({ path, cmyk })),
    how,
  )
  const training = new Once(async () => (found.isTraining ? set : openFolder(folder, 'train', how)))
  const set: Dataset = new Dataset({
    name: `folder:${folder}#${split}`,
    ...{ split, classes: found.classes, ...shape, isLabelled: found.isLabelled, classNames: found.classNames },
    images: { pictures, slots: Uint32Array.from(found.files.keys()) },
    labels: Int32Array.from(found.files, (f) => f.label),
    notes: [...found.notes, ...pictureNotes(facts, shape)],
    statistics: bySize(async ({ height, width, resize }) => {
      const all = await training.get()
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
