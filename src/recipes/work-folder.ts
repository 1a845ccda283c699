/**
 * The work folder: `<stage>.onnx`, its record `<stage>.json`, its loss curve `<stage>.jsonl`, and while it trains
 * `<stage>.checkpoint.onnx`. A record says under which key (hash of inputs, options, tool version) the file was made, and
 * the state of every file that was read for it.
 */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { MncError } from '../base/errors.ts'
import { readFileBytes, writeFileAtomic, writing } from '../base/files.ts'
import { readModel } from '../codec/codec.ts'
import type { StageRecord, Stamp, Stamps } from './record.ts'

export interface StageFiles {
  readonly model: string
  readonly record: string
  readonly log: string
  readonly checkpoint: string
  readonly best: string
}

export class WorkFolder {
  readonly path: string
  readonly #hashes = new Map<string, Promise<string>>()

  constructor(path: string) {
    this.path = path
  }

  async create(): Promise<void> {
    await writing(this.path, () => mkdir(this.path, { recursive: true }))
  }

  files(stage: string): StageFiles {
    const at = (end: string): string => join(this.path, `${stage}.${end}`)
    return {
      ...{ model: at('onnx'), record: at('json'), log: at('jsonl') },
      ...{ checkpoint: at('checkpoint.onnx'), best: at('best.onnx') },
    }
  }

  /** The stage's record; null if there is none, or one that no version of mnc wrote. */
  async record(stage: string): Promise<StageRecord | null> {
    const { record } = this.files(stage)
    if (!existsSync(record)) return null
    try {
      const value: unknown = JSON.parse(await readFile(record, 'utf8'))
      return typeof value === 'object' && value !== null && 'key' in value ? (value as StageRecord) : null
    } catch {
      return null
    }
  }

  async writeRecord(stage: string, record: StageRecord): Promise<void> {
    await writeFileAtomic(this.files(stage).record, `${JSON.stringify(record, null, 2)}\n`)
  }

  /** Removes what an unfinished run with another key left. */
  async dropCheckpoint(stage: string): Promise<void> {
    const { checkpoint, best } = this.files(stage)
    await rm(checkpoint, { force: true })
    await rm(best, { force: true })
  }

  /** SHA-256 of a file, remembered until `forget`. */
  hashOf(path: string): Promise<string> {
    const known = this.#hashes.get(path)
    if (known) return known
    const hash = contentHash(path)
    this.#hashes.set(path, hash)
    return hash
  }

  forget(path: string): void {
    this.#hashes.delete(path)
  }

  /** The state of the files that a stage read, by their paths from here; its own files do not count. */
  async stampsOf(reads: Iterable<string>, stage: string): Promise<Stamps> {
    const own = new Set(Object.values(this.files(stage)).map((path) => resolve(path)))
    const paths = [...reads].filter((path) => !own.has(path)).sort()
    const stamps: Record<string, Stamp> = {}
    for (const path of paths) stamps[relative(this.path, path)] = await this.#stampOf(path)
    return stamps
  }

  /** The first file that has changed; null if none has. */
  async changedSince(stamps: Stamps): Promise<string | null> {
    for (const [path, then] of Object.entries(stamps)) {
      const at = join(this.path, path)
      const now = await stat(at).catch(() => null)
      if (then && now && now.size === then.size && now.mtimeMs === then.mtime && !now.isDirectory()) continue
      if ((await this.#stampOf(at))?.sha256 !== then?.sha256) return at
    }
    return null
  }

  async #stampOf(path: string): Promise<Stamp> {
    const found = await stat(path).catch(() => null)
    if (!found) return null
    const { size, mtimeMs: mtime } = found
    const names = found.isDirectory() ? (await readdir(path)).sort() : null
    return { size, mtime, sha256: names ? sha256(names.join('\n')) : await hashOfFile(path) }
  }
}

export const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex')

/** For a model, including the files that contain its tensors. */
async function contentHash(path: string): Promise<string> {
  const own = sha256(await readFileBytes(path))
  if (!path.endsWith('.onnx')) return own
  const files = new Set<string>()
  try {
    for (const v of (await readModel(path)).graph.stored()) {
      const file = v.stored?.origin?.external?.file.path
      if (file) files.add(file)
    }
  } catch (error) {
    // a damaged file has a hash like any other; reading the model later reports what is wrong with it
    if (!(error instanceof MncError)) throw error
    return own
  }
  if (files.size === 0) return own
  const data = await Promise.all([...files].sort().map(hashOfFile))
  return sha256([own, ...data].join(' '))
}

async function hashOfFile(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece as Uint8Array)
  return hash.digest('hex')
}
