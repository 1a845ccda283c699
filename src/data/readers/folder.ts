/**
 * A folder of class sub-folders with PNG, JPEG or WebP files, or of pictures with a file of labels (label-file.ts), or without
 * any. DIR/train and DIR/test (or val, validation) are the
 * splits where they exist, else DIR itself is both; the training split says which classes there are, and a class that
 * only the test split has is an error. Images are brought to one size, the one that a model takes, else that of the first
 * file (shorter side scaled, centre cropped; data/decode.ts), when they are first read; grey only if every file is. Files
 * are taken in turn from each class, so that the first n of the set hold every class.
 */
import { existsSync, statSync } from 'node:fs'
import { usageError } from '../../base/errors.ts'
import { inLanes } from '../../base/lanes.ts'
import { Once } from '../../base/reads.ts'
import { Dataset, type Size, type Split, type Statistics, statisticsOf } from '../dataset.ts'
import { type PictureFacts, readFacts } from '../decode.ts'
import type { ImageShape } from '../image-shape.ts'
import { Pictures } from '../pictures.ts'
import type { ReadOptions } from '../read-options.ts'
import { missingSplit, readSplit, type SplitTree, splitRoots } from './folder-tree.ts'

/** Finds a split's pictures; a usage error for an empty folder, a file that is not a picture, or a missing decoder. */
export async function openFolder(folder: string, split: Split, how: ReadOptions): Promise<Dataset> {
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw usageError(`folder: there is no folder '${folder}'`, 'name a folder with one sub-folder of images per class')
  const { roots, others } = splitRoots(folder)
  const root = roots[split]
  if (root === null) throw missingSplit(folder, split)
  const tree = readSplit(root)
  const train = roots.train === null || roots.train === root ? tree : readSplit(roots.train)
  const test = roots.test === null || roots.test === root ? tree : readSplit(roots.test)
  checkClasses(train, test)
  const { source } = tree
  const classNames = source === 'numbers' ? numbered([train, test]) : train.classes.map((c) => c.name)
  const files = interleave(classNames.map((name) => tree.classes.find((c) => c.name === name)?.files ?? []))
  if (files.length === 0)
    throw usageError(
      `folder: no PNG, JPEG or WebP files in sub-folders of '${root}'`,
      'put the pictures of each class into a sub-folder of its own',
    )
  const facts = await inLanes(files, LANES, ({ path }) => readFacts(path))
  const { height, width } = facts[0]!
  const shape = { channels: facts.every((f) => f.grey) ? 1 : 3, height, width }
  const pictures = new Pictures(
    facts.map(({ path, cmyk }) => ({ path, cmyk })),
    how,
  )
  const training = new Once(async () => (train === tree ? set : openFolder(folder, 'train', how)))
  const set: Dataset = new Dataset({
    name: `folder:${folder}#${split}`,
    ...{ split, classes: source === 'none' ? 0 : classNames.length, ...shape, isLabelled: source !== 'none' },
    ...((source === 'folders' || source === 'names') && { classNames }),
    images: { pictures, slots: Uint32Array.from(files.keys()) },
    labels: Int32Array.from(files, (f) => f.label),
    notes: [
      ...splitNotes(folder, roots, split, others),
      ...treeNotes(tree, classNames),
      ...(source === 'none' ? [`${root} has no class folders and no labels.csv: its pictures have no labels`] : []),
      ...pictureNotes(facts, shape),
    ],
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

const origin = {
  folders: 'class folders',
  names: 'names in a file of labels',
  numbers: 'numbers in a file of labels',
  none: 'nowhere',
} as const satisfies Record<SplitTree['source'], string>

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

/** Output indices up to the largest label of both splits. */
function numbered(trees: readonly SplitTree[]): string[] {
  const largest = Math.max(...trees.flatMap((t) => t.classes.map((c) => Number(c.name))))
  return Array.from({ length: largest + 1 }, (_, i) => String(i))
}

function checkClasses(train: SplitTree, test: SplitTree): void {
  if (train.source !== test.source)
    throw usageError(
      `folder: the classes of ${train.root} come from ${origin[train.source]}, those of ${test.root} from ${origin[test.source]}`,
      'lay both splits out alike',
    )
  if (train.source === 'numbers') return
  const known = new Set(train.classes.map((c) => c.name))
  const foreign = test.classes.filter((c) => !known.has(c.name)).map((c) => c.name)
  if (foreign.length === 0) return
  const twin = train.classes.find((c) => c.name.toLowerCase() === foreign[0]!.toLowerCase())
  throw usageError(
    `folder: ${test.root} has classes that ${train.root} lacks: ${foreign.map((n) => `'${n}'`).join(', ')}`,
    twin
      ? `names are case-sensitive: '${twin.name}' is a different one`
      : 'the training split says which classes there are',
  )
}

function splitNotes(
  folder: string,
  roots: Readonly<Record<Split, string | null>>,
  split: Split,
  others: readonly string[],
): string[] {
  const notes: string[] = []
  if (roots.train === roots.test)
    notes.push(`${folder} has no folders train and test: all images belong to both splits`)
  if (roots.train === null) notes.push(`${folder} has no training split: the classes are those of the ${split} split`)
  if (others.length > 0) notes.push(`left out next to the splits: ${listed(others)}`)
  return notes
}

function treeNotes({ leftOut, classes }: SplitTree, classNames: readonly string[]): string[] {
  const notes: string[] = []
  const counted = Array.from(leftOut, ([kind, n]) => `${n} ${kind}`).sort()
  if (counted.length > 0) notes.push(`left out: ${counted.join(', ')}`)
  const empty = classNames.filter((name) => !classes.some((c) => c.name === name && c.files.length > 0))
  if (empty.length > 0) notes.push(`classes without images: ${listed(empty)}`)
  return notes
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

const SHOWN = 10
const listed = (names: readonly string[]): string =>
  names.length > SHOWN ? `${names.slice(0, SHOWN).join(', ')} and ${names.length - SHOWN} more` : names.join(', ')

interface Labelled {
  readonly path: string
  readonly label: number
}

function interleave(classes: readonly (readonly string[])[]): Labelled[] {
  const out: Labelled[] = []
  const longest = classes.reduce((n, c) => Math.max(n, c.length), 0)
  for (let i = 0; i < longest; i++)
    for (const [label, files] of classes.entries()) if (files[i]) out.push({ path: files[i]!, label })
  return out
}
