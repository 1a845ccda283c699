/**
 * The files of a split, of a data set that has several in a folder (tar shards, Parquet). DIR/train/* and DIR/test/* (or val,
 * validation) are the splits, or files in DIR with those words in their names; else all files are of both.
 */
import { existsSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { usageError } from '../../base/errors.ts'
import { listFolder } from '../../base/files.ts'
import type { Split } from '../dataset.ts'
import { naturalOrder } from './files.ts'
import { splitRoots } from './folder-tree.ts'

export interface SplitFiles {
  readonly files: readonly string[]
  /** Of the other split; the same where there is one for both. */
  readonly others: readonly string[]
  readonly notes: readonly string[]
}

/** What files hold samples. */
export interface SetKind {
  /** The data format, for messages. */
  readonly format: string
  /** One file and several, for messages: `shard`, `shards`. */
  readonly words: readonly [string, string]
  /** `.tar`, for messages. */
  readonly ending: string
  readonly pattern: RegExp
}

const WORDS: Readonly<Record<Split, RegExp>> = {
  train: /(^|[^a-z])train(ing)?([^a-z]|$)/i,
  test: /(^|[^a-z])(test|val|validation)([^a-z]|$)/i,
}

/** Of a file or folder. A usage error where there are none, or none of the split. */
export function splitFiles(place: string, split: Split, { format, words, ending, pattern }: SetKind): SplitFiles {
  const [word, plural] = words
  if (!existsSync(place)) throw usageError(`${format}: there is no file or folder '${place}'`)
  const both = (files: readonly string[], why: string): SplitFiles => ({
    ...{ files, others: files },
    notes: [`${place} serves as both splits: ${why}`],
  })
  const filesIn = (folder: string): string[] =>
    listFolder(folder)
      .filter((name) => pattern.test(name) && !name.startsWith('.'))
      .sort(naturalOrder)
      .map((name) => join(folder, name))
  if (!statSync(place).isDirectory()) return both([place], `it is one ${word}`)
  const { roots } = splitRoots(place, format)
  const other = split === 'train' ? 'test' : 'train'
  const missing = (what: string) =>
    usageError(`${format}: '${place}' has no ${what} of the ${split} split`, `name the other split with #${other}`)
  if (roots.train !== place) {
    const root = roots[split]
    if (root === null) throw missing('folder')
    const files = filesIn(root)
    if (files.length === 0) throw usageError(`${format}: there are no ${ending} files in '${root}'`)
    return { files, others: roots[other] === null ? files : filesIn(roots[other]), notes: [] }
  }
  const all = filesIn(place)
  if (all.length === 0) throw usageError(`${format}: there are no ${ending} files in '${place}'`)
  const named = (s: Split): string[] => all.filter((file) => WORDS[s].test(basename(file)))
  const [files, others] = [named(split), named(other)]
  if (files.length === 0 && others.length === 0) return both(all, `no ${word} has train or test in its name`)
  if (files.length === 0) throw missing(plural)
  const left = all.filter((file) => !files.includes(file) && !others.includes(file))
  const notes =
    left.length > 0 ? [`${plural} of neither split are not read: ${left.map((f) => basename(f)).join(', ')}`] : []
  return { files, others: others.length > 0 ? others : files, notes }
}
