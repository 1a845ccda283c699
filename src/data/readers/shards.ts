/**
 * The tar shards of a split (split-files.ts) and the samples in them, as WebDataset has it: members with the same name up to the
 * first dot are one sample, which lie together, and what follows the dot says what each is.
 */
import { usageError } from '../../base/errors.ts'
import type { Split } from '../dataset.ts'
import { type SplitFiles, splitFiles } from './split-files.ts'
import { type Archive, archiveOf, type TarMember, tarMembers } from './tar.ts'

export interface Shards extends Pick<SplitFiles, 'notes'> {
  readonly archives: readonly Archive[]
  /** Of the other split; the same where there is one for both. */
  readonly others: readonly Archive[]
}

/** A usage error where there are none, or none of the split, and for one that is compressed and damaged. */
export async function shardsOf(place: string, split: Split): Promise<Shards> {
  const kind = { format: 'tar', words: ['shard', 'shards'], ending: '.tar', pattern: /\.(tar|tar\.gz|tgz)$/ } as const
  const { files, others, notes } = splitFiles(place, split, kind)
  const archives = await archivesOf(files)
  return { archives, others: others === files ? archives : await archivesOf(others), notes }
}

async function archivesOf(files: readonly string[]): Promise<Archive[]> {
  const out: Archive[] = []
  for (const file of files) out.push(await archiveOf(file))
  return out
}

export interface ShardSample {
  readonly shard: string
  readonly archive: Archive
  /** Without what follows the dot. */
  readonly key: string
  /** By what follows the dot, in lower case. */
  readonly members: ReadonlyMap<string, TarMember>
}

/** Samples of all shards, in their order. A usage error for a shard without any, and for two members of one name. */
export function* samplesOf(archives: readonly Archive[]): Generator<ShardSample, void, undefined> {
  for (const archive of archives) {
    const shard = archive.path
    let key: string | null = null
    let members = new Map<string, TarMember>()
    for (const member of tarMembers(archive)) {
      const [, own, kind] = /^((?:.*\/)?[^/.]+)\.([^/]+)$/s.exec(member.name) ?? []
      if (own === undefined || kind === undefined) continue
      if (own !== key) {
        if (key !== null) yield { shard, archive, key, members }
        key = own
        members = new Map()
      }
      const role = kind.toLowerCase()
      if (members.has(role)) throw usageError(`${shard}: '${member.name}' is there twice`)
      members.set(role, member)
    }
    if (key === null)
      throw usageError(`${shard}: there are no samples in it`, 'members are called KEY.KIND: 000.jpg, 000.cls')
    yield { shard, archive, key, members }
  }
}
