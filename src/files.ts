/**
 * Files that are whole or not there: written beside their place under a temporary name, then renamed. The mode of a
 * file that is replaced stays, links are followed, '-' is standard output. What is no regular file (/dev/null, a pipe)
 * is written straight.
 */
import { randomBytes } from 'node:crypto'
import { rmSync, writeSync } from 'node:fs'
import { type FileHandle, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { MncError, type MncErrorDetails } from './errors.ts'

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EISDIR: 'is a folder',
  ENOTDIR: 'a part of the path is not a folder',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left on the device',
  ERR_FS_FILE_TOO_LARGE: 'is larger than 2 GB',
  ENAMETOOLONG: 'the name is too long',
}

/** A user error for what the operating system refused; other errors come back as they are. */
export function fileError(error: unknown, path: string, doing: 'read' | 'written'): unknown {
  const reason = reasons[codeOf(error)]
  if (!reason) return error
  const details: MncErrorDetails = { code: `file-not-${doing}`, blame: 'user', file: path, cause: error }
  return new MncError(`cannot be ${doing}: ${reason}`, details)
}

/** Bytes of a file; '-' is standard input. */
export async function readFileBytes(path: string): Promise<Uint8Array> {
  if (path === '-') {
    const chunks: Uint8Array[] = []
    for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array)
    return Buffer.concat(chunks)
  }
  try {
    return await readFile(path)
  } catch (error) {
    throw fileError(error, path, 'read')
  }
}

/** Temporary files of writes under way. */
const temporaries = new Set<string>()

/** Takes away what is half written: for a process that is about to end. */
export function dropTemporaries(): void {
  for (const path of temporaries) rmSync(path, { force: true })
  temporaries.clear()
}

/** A file being written: nothing is seen at its path before `commit`. */
export interface PendingFile {
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
  try {
    const target = await realpath(path).catch(() => path)
    const old = await stat(target).catch(() => null)
    if (old && !old.isFile()) {
      const handle = await open(target, 'w')
      const write = (bytes: Uint8Array): void => append(handle, bytes)
      return { handle, write, commit: () => handle.close(), abort: () => handle.close().catch(() => {}) }
    }
    const temporary = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.tmp`)
    const handle = await open(temporary, 'wx', old ? old.mode & 0o777 : 0o666)
    temporaries.add(temporary)
    if (old) await handle.chmod(old.mode & 0o777)
    let done = false
    return {
      handle,
      write: (bytes) => append(handle, bytes),
      async commit() {
        await handle.close()
        await rename(temporary, target)
        temporaries.delete(temporary)
        done = true
      },
      async abort() {
        if (done) return
        await handle.close().catch(() => {})
        await rm(temporary, { force: true })
        temporaries.delete(temporary)
      },
    }
  } catch (error) {
    throw fileError(error, path, 'written')
  }
}

/** Writes all of `bytes` or leaves what was there; '-' writes standard output. */
export async function writeFileAtomic(path: string, bytes: Uint8Array | string): Promise<void> {
  if (path === '-') {
    await new Promise<void>((done, fail) => process.stdout.write(bytes, (error) => (error ? fail(error) : done())))
    return
  }
  const file = await openAtomic(path)
  try {
    await file.handle.writeFile(bytes)
    await file.commit()
  } catch (error) {
    throw fileError(error, path, 'written')
  } finally {
    await file.abort()
  }
}
