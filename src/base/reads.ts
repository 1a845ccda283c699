/**
 * Which files a piece of work reads. Everything that reads a file or lists a folder records it here (files.ts does so for its
 * callers), so that code that needs to know what a result depends on can look it up.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { resolve } from 'node:path'

const current = new AsyncLocalStorage<Set<string>>()

/** A file that is read, or a folder that is listed, by the work under way. */
export function noteRead(path: string): void {
  current.getStore()?.add(resolve(path))
}

export interface Recorded<T> {
  readonly result: T
  /** Absolute paths. */
  readonly reads: ReadonlySet<string>
}

/** Does the work; returns its result and what it read. */
export async function recordReads<T>(work: () => Promise<T>): Promise<Recorded<T>> {
  const reads = new Set<string>()
  const result = await current.run(reads, work)
  for (const path of reads) noteRead(path)
  return { result, reads }
}

/** Work that is done once; what it read counts for everyone who asks for its result. */
export class Once<T> {
  readonly #work: () => Promise<T>
  #done: Promise<Recorded<T>> | undefined

  constructor(work: () => Promise<T>) {
    this.#work = work
  }

  async get(): Promise<T> {
    this.#done ??= recordReads(this.#work)
    const { result, reads } = await this.#done
    for (const path of reads) noteRead(path)
    return result
  }
}
