/**
 * The sample files of a folder's split and the class of each: class sub-folders, or files with a file of labels
 * (label-file.ts), or without any. DIR/train and DIR/test (or val, validation) are the splits where they exist, else DIR itself
 * is both; the training split says which classes there are, and a class that only the test split has is an error. Files
 * are taken in turn from each class, so that the first n of the set hold every class.
 */
import { existsSync, statSync } from 'node:fs'
import { usageError } from '../../base/errors.ts'
import type { Split } from '../dataset.ts'
import { type FoundLabels, testOnlyNote } from '../test-only-classes.ts'
import { type FileKind, missingSplit, readSplit, type SplitTree, splitRoots } from './folder-tree.ts'

export interface LabelledFile {
  readonly path: string
  /** 0 where there are none. */
  readonly label: number
}

export interface LabelledFiles {
  readonly files: readonly LabelledFile[]
  readonly isLabelled: boolean
  /** 0 where there are no labels. */
  readonly classes: number
  /** Where classes have names. */
  readonly classNames: readonly string[] | undefined
  /** They are the training split's, too. */
  readonly isTraining: boolean
  readonly notes: readonly string[]
}

/** A usage error that names the folder for one that is not there or has none of these files, and for splits that disagree. */
export function labelledFiles(folder: string, split: Split, kind: FileKind): LabelledFiles {
  const { format, what } = kind
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw usageError(
      `${format}: there is no folder '${folder}'`,
      `name a folder with one sub-folder of ${what} per class`,
    )
  const { roots, others } = splitRoots(folder, format)
  const root = roots[split]
  if (root === null) throw missingSplit(folder, split, format)
  const tree = readSplit(root, kind)
  const train = roots.train === null || roots.train === root ? tree : readSplit(roots.train, kind)
  const test = roots.test === null || roots.test === root ? tree : readSplit(roots.test, kind)
  checkClasses(train, test, format)
  const { source } = tree
  const numbers = ({ classes, labelled }: SplitTree): FoundLabels => ({
    labels: classes.flatMap((c) => (c.files.length > 0 ? [Number(c.name)] : [])),
    fileOf: () => labelled,
  })
  const names = source === 'numbers' ? numbered([train, test]) : train.classes.map((c) => c.name)
  const files = interleave(names.map((name) => tree.classes.find((c) => c.name === name)?.files ?? []))
  if (files.length === 0)
    throw usageError(
      `${format}: no ${kind.files} in sub-folders of '${root}'`,
      `put the ${what} of each class into a sub-folder of its own`,
    )
  return {
    files,
    isLabelled: source !== 'none',
    classes: source === 'none' ? 0 : names.length,
    classNames: source === 'folders' || source === 'names' ? names : undefined,
    isTraining: train === tree,
    notes: [
      ...splitNotes(folder, roots, split, others, what),
      ...treeNotes(tree, names, what),
      ...(source === 'numbers' ? testOnlyNote('train', numbers(train), numbers(test)) : []),
      ...(source === 'none' ? [`${root} has no class folders and no labels.csv: its ${what} have no labels`] : []),
    ],
  }
}

const origin = {
  folders: 'class folders',
  names: 'names in a file of labels',
  numbers: 'numbers in a file of labels',
  none: 'nowhere',
} as const satisfies Record<SplitTree['source'], string>

/** Output indices up to the largest label of both splits. */
function numbered(trees: readonly SplitTree[]): string[] {
  const largest = Math.max(...trees.flatMap((t) => t.classes.map((c) => Number(c.name))))
  return Array.from({ length: largest + 1 }, (_, i) => String(i))
}

function checkClasses(train: SplitTree, test: SplitTree, format: string): void {
  if (train.source !== test.source)
    throw usageError(
      `${format}: the classes of ${train.root} come from ${origin[train.source]}, those of ${test.root} from ${origin[test.source]}`,
      'lay both splits out alike',
    )
  if (train.source === 'numbers') return
  const known = new Set(train.classes.map((c) => c.name))
  const foreign = test.classes.filter((c) => !known.has(c.name)).map((c) => c.name)
  if (foreign.length === 0) return
  const twin = train.classes.find((c) => c.name.toLowerCase() === foreign[0]!.toLowerCase())
  throw usageError(
    `${format}: ${test.labelled} has classes that ${train.labelled} lacks: ${foreign.map((n) => `'${n}'`).join(', ')}`,
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
  what: string,
): string[] {
  const notes: string[] = []
  if (roots.train === roots.test)
    notes.push(`${folder} has no folders train and test: all ${what} belong to both splits`)
  if (roots.train === null) notes.push(`${folder} has no training split: the classes are those of the ${split} split`)
  if (others.length > 0) notes.push(`left out next to the splits: ${listed(others)}`)
  return notes
}

function treeNotes({ leftOut, classes }: SplitTree, classNames: readonly string[], what: string): string[] {
  const notes: string[] = []
  const counted = Array.from(leftOut, ([kind, n]) => `${n} ${kind}`).sort()
  if (counted.length > 0) notes.push(`left out: ${counted.join(', ')}`)
  const empty = classNames.filter((name) => !classes.some((c) => c.name === name && c.files.length > 0))
  if (empty.length > 0) notes.push(`classes without ${what}: ${listed(empty)}`)
  return notes
}

const SHOWN = 10
const listed = (names: readonly string[]): string =>
  names.length > SHOWN ? `${names.slice(0, SHOWN).join(', ')} and ${names.length - SHOWN} more` : names.join(', ')

function interleave(classes: readonly (readonly string[])[]): LabelledFile[] {
  const out: LabelledFile[] = []
  const longest = classes.reduce((n, c) => Math.max(n, c.length), 0)
  for (let i = 0; i < longest; i++)
    for (const [label, files] of classes.entries()) if (files[i]) out.push({ path: files[i]!, label })
  return out
}
