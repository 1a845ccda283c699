/**
 * What a data set's folder contains: the folders of its splits, class folders in them, sample files in those (pictures, sounds), and
 * everything that is none of these, so that nothing is dropped silently. A split with a file of labels (label-file.ts) has the
 * classes that it says; one that holds samples and no folder with any has none. Symbolic links are followed everywhere; one that leads
 * nowhere or back to itself is an error. Nothing below a class folder is read.
 */
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs'
import { join, sep } from 'node:path'
import { usageError } from '../../base/errors.ts'
import { noteRead } from '../../base/reads.ts'
import type { Split } from '../dataset.ts'
import { naturalOrder } from './files.ts'
import { type LabelFile, readLabels } from './label-file.ts'

const splitFolders: Readonly<Record<Split, readonly string[]>> = {
  train: ['train', 'training'],
  test: ['test', 'val', 'validation'],
}

/** What files hold samples. */
export interface FileKind {
  /** The data format, for messages. */
  readonly format: string
  /** What one file of it is, in the plural. */
  readonly what: string
  /** The same, by the kinds of files: `PNG, JPEG or WebP files`. */
  readonly files: string
  readonly pattern: RegExp
}

export interface ClassFolder {
  readonly name: string
  /** Sample files, in natural order. */
  readonly files: readonly string[]
}

export interface SplitTree {
  readonly root: string
  /** The file of labels; without one, the folder. */
  readonly labelled: string
  /** Where classes come from: folders, a file of labels, one whose labels are numbers; none: samples have no labels. */
  readonly source: 'folders' | 'names' | 'numbers' | 'none'
  /** In the order of their names' code points, as PyTorch's ImageFolder has it; of numbers, in their order. */
  readonly classes: readonly ClassFolder[]
  /** What is not part of the set, counted by its kind. */
  readonly leftOut: ReadonlyMap<string, number>
}

/** Where each split lies: DIR/train and DIR/test (or val, validation), in any case of letters, else DIR itself. */
export function splitRoots(
  folder: string,
  format = 'folder',
): {
  readonly roots: Readonly<Record<Split, string | null>>
  /** Folders next to the splits. */
  readonly others: readonly string[]
} {
  const names = entries(folder).flatMap((e) => (e.kind === 'folder' ? [e.name] : []))
  const find = (split: Split): string | null => {
    for (const wanted of splitFolders[split]) {
      const found = names.filter((n) => n.toLowerCase() === wanted)
      if (found.length > 1)
        throw usageError(`${format}: '${folder}' has ${found.join(' and ')}, so its ${split} split is ambiguous`)
      if (found[0] !== undefined) return found[0]
    }
    return null
  }
  const [train, test] = [find('train'), find('test')]
  if (train === null && test === null) return { roots: { train: folder, test: folder }, others: [] }
  const at = (name: string | null): string | null => (name === null ? null : join(folder, name))
  return { roots: { train: at(train), test: at(test) }, others: names.filter((n) => n !== train && n !== test) }
}

/** The error for a split that is not there. */
export const missingSplit = (folder: string, split: Split, format: string) =>
  usageError(
    `${format}: '${folder}' lacks the folder of the ${split} split: ${splitFolders[split].join(', ')}`,
    `name the other split with #${split === 'train' ? 'test' : 'train'}`,
  )

export function readSplit(root: string, kind: FileKind): SplitTree {
  const file = readLabels(root)
  return file ? listedSplit(root, kind, file) : foundSplit(root, kind)
}

/** Only the samples that the file lists. */
function listedSplit(root: string, of: FileKind, { path, labels, isNumbers }: LabelFile): SplitTree {
  const byLabel = new Map<string, string[]>()
  for (const [name, label] of labels) {
    const key = isNumbers ? String(Number(label)) : label
    const files = byLabel.get(key) ?? []
    files.push(join(root, name))
    byLabel.set(key, files)
    noteRead(join(root, name))
  }
  const names = [...byLabel.keys()].sort(isNumbers ? (a, b) => Number(a) - Number(b) : codePointOrder)
  const classes = names.map((name) => ({ name, files: byLabel.get(name)!.sort(naturalOrder) }))
  const others = entries(root).filter((e) => e.kind === 'file' && isSample(e.name, of) && !labels.has(e.name)).length
  const leftOut = new Map(others > 0 ? [[`${of.what} without a label`, others]] : [])
  return { root, labelled: path, source: isNumbers ? 'numbers' : 'names', classes, leftOut }
}

function foundSplit(root: string, of: FileKind): SplitTree {
  const leftOut = new Map<string, number>()
  const leave = (kind: string): void => void leftOut.set(kind, (leftOut.get(kind) ?? 0) + 1)
  const above = realPath(root)
  const names: string[] = []
  const loose: string[] = []
  for (const { name, kind } of entries(root)) {
    if (kind === 'other') leave(NO_FILE)
    else if (kind === 'file' && isSample(name, of)) loose.push(join(root, name))
    else if (kind === 'file') leave(fileKind(name))
    else if (name.startsWith('.') || name === '__MACOSX') leave('hidden folders')
    else names.push(name)
  }
  const classes = names.sort(codePointOrder).map((name): ClassFolder => {
    const folder = join(root, name)
    const real = realPath(folder)
    if (`${above}${sep}`.startsWith(real.endsWith(sep) ? real : `${real}${sep}`))
      throw usageError(`${folder} is a link to a folder that contains it`, 'class folders cannot contain themselves')
    const files: string[] = []
    for (const entry of entries(folder)) {
      if (entry.kind === 'folder') leave('nested folders')
      else if (entry.kind === 'file' && isSample(entry.name, of)) files.push(join(folder, entry.name))
      else leave(entry.kind === 'file' ? fileKind(entry.name) : NO_FILE)
    }
    // decoded later, by a library or in another thread
    for (const file of files) noteRead(file)
    return { name, files: files.sort(naturalOrder) }
  })
  const isPlain = loose.length > 0 && classes.every((c) => c.files.length === 0)
  if (!isPlain) {
    for (const _ of loose) leave(`${of.what} outside class folders`)
    return { root, labelled: root, source: 'folders', classes, leftOut }
  }
  for (const file of loose) noteRead(file)
  return { root, labelled: root, source: 'none', classes: [{ name: '', files: loose.sort(naturalOrder) }], leftOut }
}

const NO_FILE = 'pipes, sockets and devices'

/** The file that an operating system leaves next to another on a foreign disk has that one's name after `._`. */
const isSample = (name: string, { pattern }: FileKind): boolean => pattern.test(name) && !name.startsWith('._')

function fileKind(name: string): string {
  if (name.startsWith('._')) return 'resource forks (._*)'
  const ending = /\.\w{1,8}$/.exec(name)?.[0].toLowerCase()
  return ending ? `${ending} files` : 'other files'
}

/** Order of code points: JavaScript's own is that of UTF-16 units, which puts U+FFxx after emoji. */
const codePointOrder = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))

interface Entry {
  readonly name: string
  readonly kind: 'folder' | 'file' | 'other'
}

/** What is in a folder, links followed; a link that leads nowhere is an error, except for hidden names. */
function entries(folder: string): Entry[] {
  noteRead(folder)
  return guarded(folder, () => readdirSync(folder, { withFileTypes: true })).map((e): Entry => {
    const path = join(folder, e.name)
    if (e.isDirectory()) return { name: e.name, kind: 'folder' }
    if (e.isFile()) return { name: e.name, kind: 'file' }
    if (e.name.startsWith('.') && !existsSync(path)) return { name: e.name, kind: 'other' }
    const s = guarded(path, () => statSync(path))
    return { name: e.name, kind: s.isDirectory() ? 'folder' : s.isFile() ? 'file' : 'other' }
  })
}

const realPath = (path: string): string => guarded(path, () => realpathSync(path))

const reasons: Readonly<Record<string, string>> = {
  ELOOP: 'is a link that leads back to itself',
  ENOENT: 'is a link to something that does not exist',
  EACCES: 'cannot be read: permission denied',
}

function guarded<T>(path: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : ''
    throw usageError(`${path} ${reasons[code] ?? `cannot be read: ${cause instanceof Error ? cause.message : cause}`}`)
  }
}
