/**
 * The tar shards of a split and the samples in them, as WebDataset has it: members with the same name up to the first dot
 * are one sample, which lie together, and what follows the dot says what each is. Of a folder, DIR/train/*.tar and DIR/test/*.tar
 * (or val, validation) are the splits, or DIR/*.tar with those words in their names; else all shards are of both.
 */
import { existsSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { usageError } from '../../base/errors.ts'
import { listFolder } from '../../base/files.ts'
import type { Split } from '../dataset.ts'
import { naturalOrder } from './files.ts'
import { splitRoots } from './folder-tree.ts'
import { type TarMember, tarMembers } from './tar.ts'

export interface Shards {
  readonly files: readonly string[]
  /** Of the other split; the same where there is one for both. */
  readonly others: readonly string[]
  readonly notes: readonly string[]
}

const WORDS: Readonly<Record<Split, RegExp>> = {
  train: /(^|[^a-z])train(ing)?([^a-z]|$)/i,
  test: /(^|[^a-z])(test|val|validation)([^a-z]|$)/i,
}

/** A usage error where there are none, or none of the split. */
export function shardsOf(place: string, split: Split): Shards {
  if (!existsSync(place)) throw usageError(`tar: there is no file or folder '${place}'`)
  const both = (files: readonly string[], why: string): Shards => ({
    ...{ files, others: files },
    notes: [`${place} serves as both splits: ${why}`],
  })
  if (!statSync(place).isDirectory()) return both([place], 'it is one shard')
  const { roots } = splitRoots(place, 'tar')
  const other = split === 'train' ? 'test' : 'train'
  const missing = (what: string) =>
    usageError(`tar: '${place}' has no ${what} of the ${split} split`, `name the other split with #${other}`)
  if (roots.train !== place) {
    const root = roots[split]
    if (root === null) throw missing('folder')
    const files = shardsIn(root)
    if (files.length === 0) throw usageError(`tar: there are no .tar files in '${root}'`)
    return { files, others: roots[other] === null ? files : shardsIn(roots[other]), notes: [] }
  }
  const all = shardsIn(place)
  if (all.length === 0) throw usageError(`tar: there are no .tar files in '${place}'`)
  const named = (s: Split): string[] => all.filter((file) => WORDS[s].test(basename(file)))
  const [files, others] = [named(split), named(other)]
  if (files.length === 0 && others.length === 0) return both(all, 'no shard has train or test in its name')
  if (files.length === 0) throw missing('shards')
  const left = all.filter((file) => !files.includes(file) && !others.includes(file))
  const notes =
    left.length > 0 ? [`shards of neither split are not read: ${left.map((f) => basename(f)).join(', ')}`] : []
  return { files, others: others.length > 0 ? others : files, notes }
}

const shardsIn = (folder: string): string[] =>
  listFolder(folder)
    .filter((name) => name.endsWith('.tar') && !name.startsWith('.'))
    .sort(naturalOrder)
    .map((name) => join(folder, name))

export interface ShardSample {
  readonly shard: string
  /** Without what follows the dot. */
  readonly key: string
  /** By what follows the dot, in lower case. */
  readonly members: ReadonlyMap<string, TarMember>
}

/** Samples of all shards, in their order. A usage error for a shard without any, and for two members of one name. */
export function* samplesOf(shards: readonly string[]): Generator<ShardSample, void, undefined> {
  for (const shard of shards) {
    let key: string | null = null
    let members = new Map<string, TarMember>()
    for (const member of tarMembers(shard)) {
      const [, own, kind] = /^((?:.*\/)?[^/.]+)\.([^/]+)$/s.exec(member.name) ?? []
      if (own === undefined || kind === undefined) continue
      if (own !== key) {
        if (key !== null) yield { shard, key, members }
        key = own
        members = new Map()
      }
      const role = kind.toLowerCase()
      if (members.has(role)) throw usageError(`${shard}: '${member.name}' is there twice`)
      members.set(role, member)
    }
    if (key === null)
      throw usageError(`${shard}: there are no samples in it`, 'members are called KEY.KIND: 000.jpg, 000.cls')
    yield { shard, key, members }
  }
}
