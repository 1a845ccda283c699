/**
 * Large training steps as onnxruntime's optimiser left them, kept in a folder: optimising takes most of the time of
 * loading one (DenseNet-BC-100-12 with a merged DenseNet-BC-172-30: 5.7 of 8.1 s, and 1.8 from here), and the next stage,
 * a resumed run or the same one with another learning rate load the same step.
 *
 * Safe because nothing is guessed: a file's name is the hash of the very graph that the engine was given, of the engine's
 * version and of the processor, and of its own content, which is checked before it is used. A folder that cannot be
 * written is not an error; neither is a file that the engine refuses, which is removed. The least recently used are
 * removed when all together exceed a limit.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { cpus, homedir } from 'node:os'
import { join } from 'node:path'

/** Raised when what is kept changes although the graph does not. */
const FORMAT = 1

const UNFINISHED = '.unfinished'
/** No step takes as long to load. */
const STALE_MS = 3_600_000

/** Bytes of all files together. */
const LIMIT = 2 * 2 ** 30

const sha256 = (...parts: (string | Uint8Array)[]): string => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex').slice(0, 32)
}

/** The folder that commands use: MNC_CACHE (`off`: none), or mnc/ in the user's folder for caches. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  if (env.MNC_CACHE === 'off') return undefined
  return env.MNC_CACHE || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'mnc')
}

export class SessionCache {
  readonly #folder: string
  readonly #limit: number

  constructor(folder: string, limit = LIMIT) {
    this.#folder = folder
    this.#limit = limit
  }

  /** The key for the bytes of a graph, one engine and this machine. */
  key(graph: Uint8Array, engine: string): string {
    const [cpu] = cpus()
    return sha256(`${FORMAT} ${engine} ${process.platform} ${process.arch} ${cpu?.model}\n`, graph)
  }

  /** The optimised graph of that key, whole; null where there is none. */
  async find(key: string): Promise<Uint8Array | null> {
    const name = (await this.#names()).find((n) => n.startsWith(key))
    if (name === undefined) return null
    const path = join(this.#folder, name)
    const bytes = await readFile(path).catch(() => null)
    if (!bytes || name !== nameOf(key, bytes)) {
      await removed(path)
      return null
    }
    const now = new Date()
    await utimes(path, now, now).catch(() => {})
    return bytes
  }

  /** An empty file to write to before `keep`; null where the folder cannot be used. */
  async begin(): Promise<string | null> {
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 })
      const path = join(this.#folder, `${randomBytes(8).toString('hex')}${UNFINISHED}`)
      await writeFile(path, '', { flag: 'wx', mode: 0o600 })
      return path
    } catch {
      return null
    }
  }

  /** Keeps what was written to `temporary` under the key, and makes room for it. */
  async keep(key: string, temporary: string): Promise<void> {
    try {
      await rename(temporary, join(this.#folder, nameOf(key, await readFile(temporary))))
      await this.#makeRoom()
    } catch {
      await removed(temporary)
    }
  }

  /** Removes the file that `begin` made. */
  async abandon(temporary: string): Promise<void> {
    await removed(temporary)
  }

  async drop(key: string): Promise<void> {
    for (const name of await this.#names()) if (name.startsWith(key)) await removed(join(this.#folder, name))
  }

  async #names(): Promise<readonly string[]> {
    return (await readdir(this.#folder).catch(() => [])).filter((n) => n.endsWith('.onnx'))
  }

  async #makeRoom(): Promise<void> {
    const files = []
    for (const name of await this.#names()) {
      const path = join(this.#folder, name)
      const found = await stat(path).catch(() => null)
      if (found) files.push({ path, used: found.mtimeMs, bytes: found.size })
    }
    files.sort((a, b) => b.used - a.used)
    let bytes = 0
    for (const file of files) {
      bytes += file.bytes
      if (bytes > this.#limit) await removed(file.path)
    }
    // what a killed process left behind
    for (const name of await readdir(this.#folder)) {
      const path = join(this.#folder, name)
      const found = name.endsWith(UNFINISHED) ? await stat(path).catch(() => null) : null
      if (found && Date.now() - found.mtimeMs > STALE_MS) await removed(path)
    }
  }
}

/** A file that cannot be removed is not this process's to remove. */
const removed = (path: string): Promise<void> => rm(path, { force: true }).catch(() => {})

const nameOf = (key: string, content: Uint8Array): string => `${key}-${sha256(content)}.onnx`
