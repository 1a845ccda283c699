/**
 * Files that are either complete or absent: written next to their destination under a temporary name, then renamed. The mode of a
 * file that is replaced is kept, links are followed, '-' is standard output. Anything but a regular file (/dev/null, a pipe)
 * is written directly.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs'
import { type FileHandle, link, mkdir, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { MncError, type MncErrorDetails, usageError } from './errors.ts'
import { noteRead } from './reads.ts'

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EISDIR: 'is a folder',
  ENOTDIR: 'a part of the path is not a folder',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'is larger than the file system or a limit allows',
  EIO: 'the device reported an error',
  EEXIST: 'something else with this name is already there',
  EPIPE: 'its reader has gone away',
  EMFILE: 'too many files are open',
  ELOOP: 'the symbolic links form a cycle',
  ERR_FS_FILE_TOO_LARGE: 'is larger than 2 GB',
  ENAMETOOLONG: 'the name is too long',
}

/** What the operating system refused, in words; null for other errors and for what only a bug can cause. */
export function systemReason(error: unknown): string | null {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return null
  const known = reasons[error.code]
  if (known) return known
  const isSystem = 'syscall' in error && /^E[A-Z0-9]+$/.test(error.code) && !['EBADF', 'EINVAL'].includes(error.code)
  return isSystem ? error.message : null
}

/** A user error for what the operating system refused; other errors come back as they are. */
export function fileError(error: unknown, path: string, doing: 'read' | 'written'): unknown {
  const reason = systemReason(error)
  if (reason === null) return error
  const details: MncErrorDetails = { code: `file-not-${doing}`, blame: 'user', file: path, cause: error }
  return new MncError(`cannot be ${doing}: ${reason}`, details)
}

/** Does work with files of mnc's own; a refusal by the operating system becomes a usage error, `what` and the reason. */
export function refused<T>(work: () => T, what: string, next: string): T {
  try {
    return work()
  } catch (error) {
    const reason = systemReason(error)
    throw reason === null ? error : usageError(`${what}: ${reason}`, next)
  }
}

/** Runs work that writes to `path`; a refusal by the operating system becomes a user error that names the path. */
export async function writing<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw fileError(error, path, 'written')
  }
}

/** The same for work that reads `path`, synchronous or not; the path is recorded as read (reads.ts). */
export function reading<T>(path: string, work: () => T): T {
  noteRead(path)
  try {
    const result = work()
    if (!(result instanceof Promise)) return result
    return result.catch((error: unknown) => {
      throw fileError(error, path, 'read')
    }) as T
  } catch (error) {
    throw fileError(error, path, 'read')
  }
}

/** Bytes of a file; '-' is standard input. */
export async function readFileBytes(path: string): Promise<Uint8Array> {
  if (path === '-') {
    const chunks: Uint8Array[] = []
    for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array)
    return Buffer.concat(chunks)
  }
  return reading(path, () => readFile(path))
}

/** Bytes of a file, synchronously. */
export const readFileBytesSync = (path: string): Buffer => reading(path, () => readFileSync(path))

/** Bytes `offset`.. of a file; a user error where it ends before. `descriptor`: of the open file that has what is in it unpacked. */
export function readPart(path: string, offset: number, size: number, descriptor: number | null = null): Buffer {
  if (descriptor !== null) return readAt(path, descriptor, offset, size)
  return reading(path, () => {
    const file = openSync(path, 'r')
    try {
      return readAt(path, file, offset, size)
    } finally {
      closeSync(file)
    }
  })
}

/** The same of one that is open. */
export function readAt(path: string, file: number, offset: number, size: number): Buffer {
  const out = Buffer.alloc(size)
  for (let done = 0; done < size; ) {
    const n = readSync(file, out, done, size - done, offset + done)
    if (n === 0) throw usageError(`${path}: it ended early`, 'it may still be being written')
    done += n
  }
  return out
}

/** Text of a file, synchronously. */
export const readTextSync = (path: string): string => reading(path, () => readFileSync(path, 'utf8'))

/** Text of a file. */
export const readText = (path: string): Promise<string> => reading(path, () => readFile(path, 'utf8'))

/** Names in a folder, in the order of the file system. */
export const listFolder = (path: string): string[] => reading(path, () => readdirSync(path))

/** Temporary files of writes under way, and folders that are in use. */
const temporaries = new Set<string>()
let onTemporaries: (some: boolean) => void = () => {}

/** `told` is called when the first temporary file appears and when the last one is gone. */
export function watchTemporaries(told: (some: boolean) => void): void {
  onTemporaries = told
}

function remember(path: string): void {
  temporaries.add(path)
  if (temporaries.size === 1) onTemporaries(true)
}

function forget(path: string): void {
  if (temporaries.delete(path) && temporaries.size === 0) onTemporaries(false)
}

/** Removes half-written files: for a process that is about to end. */
export function dropTemporaries(): void {
  for (const path of temporaries) rmSync(path, { force: true, recursive: true })
  temporaries.clear()
}

export interface TemporaryFolder {
  readonly path: string
  remove(): Promise<void>
}

/** A new folder whose name begins with `prefix`. */
export async function temporaryFolder(prefix: string): Promise<TemporaryFolder> {
  const path = `${prefix}${randomBytes(6).toString('hex')}`
  remember(path)
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    forget(path)
    throw error
  }
  return {
    path,
    async remove() {
      await rm(path, { recursive: true, force: true })
      forget(path)
    },
  }
}

/** A file being written: nothing is seen at its path before `commit`. */
export interface PendingFile {
  /** Where it will be, links followed. */
  readonly target: string
  readonly handle: FileHandle
  /** Appends; done when it returns, so that the caller may use the memory again. */
  write(bytes: Uint8Array): void
  commit(): Promise<void>
  /** Drops what was written. Does nothing after `commit`. */
  abort(): Promise<void>
}

function append({ fd }: FileHandle, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}

/** Starts a file at `path` (not '-'). User error where the folder is missing or may not be written. */
export async function openAtomic(path: string): Promise<PendingFile> {
  return writing(path, async () => {
    const target = await realpath(path).catch(() => path)
    const old = await stat(target).catch(() => null)
    if (old && !old.isFile()) {
      const handle = await open(target, 'w')
      const write = (bytes: Uint8Array): void => append(handle, bytes)
      return { target, handle, write, commit: () => handle.close(), abort: () => handle.close().catch(() => {}) }
    }
    const temporary = temporaryName(target)
    // before it is there: a signal may come at any time
    remember(temporary)
    const handle = await open(temporary, 'wx', old ? old.mode & 0o777 : 0o666).catch((error: unknown) => {
      forget(temporary)
      throw error
    })
    let done = false
    const abort = async (): Promise<void> => {
      if (done) return
      await handle.close().catch(() => {})
      await rm(temporary, { force: true })
      forget(temporary)
    }
    if (old)
      await handle.chmod(old.mode & 0o777).catch(async (error: unknown) => {
        await abort()
        throw error
      })
    return {
      ...{ target, handle, abort },
      write: (bytes) => append(handle, bytes),
      async commit() {
        await handle.close()
        await rename(temporary, target)
        forget(temporary)
        done = true
      },
    }
  })
}

/** Commits files that belong together, in this order: if one fails, those before it are restored. */
export async function commitAll(files: readonly PendingFile[]): Promise<void> {
  const old: OldFile[] = []
  try {
    for (const file of files.slice(0, -1)) {
      old.push(await keepOld(file.target))
      await file.commit()
    }
    await files.at(-1)?.commit()
  } catch (error) {
    for (const { restore } of old.reverse()) await restore()
    throw error
  } finally {
    for (const { forget } of old) await forget()
  }
}

interface OldFile {
  /** Puts it back, or removes the new file where there was none before. */
  restore(): Promise<void>
  forget(): Promise<void>
}

/** Gives the file at `target` a second name. On a file system without links nothing is kept. */
async function keepOld(target: string): Promise<OldFile> {
  if (!existsSync(target)) return { restore: () => rm(target, { force: true }), forget: async () => {} }
  const second = temporaryName(target)
  remember(second)
  const isKept = await link(target, second).then(
    () => true,
    () => false,
  )
  return {
    restore: async () => void (isKept && (await rename(second, target))),
    async forget() {
      await rm(second, { force: true })
      forget(second)
    },
  }
}

const temporaryName = (target: string): string =>
  join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.tmp`)

/** Writes all of `bytes` or leaves what was there; '-' writes standard output. */
export async function writeFileAtomic(path: string, bytes: Uint8Array | string): Promise<void> {
  if (path === '-') {
    await new Promise<void>((done, fail) => process.stdout.write(bytes, (error) => (error ? fail(error) : done())))
    return
  }
  const file = await openAtomic(path)
  try {
    await writing(path, async () => {
      await file.handle.writeFile(bytes)
      await file.commit()
    })
  } finally {
    await file.abort()
  }
}
