/**
 * Parquet files: a column an input, a row a sample. Columns are numbers or booleans, or lists of equally many of them, nested or
 * not. FILE may be a folder with train.parquet and test.parquet. A process of its own unpacks them (parquet-unpack.ts), within
 * --data-memory, so that a damaged file ends that process at worst; rows come over a pipe into a temporary file, so that memory
 * does not grow with them, and any order of rows can be read.
 *
 * Not read: text, dates, decimals and structs, which are named in a note; nulls, which are refused.
 */
import { spawn } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { bugError, usageError } from '../../base/errors.ts'
import { type Frame, readFrames } from '../../base/frames.ts'
import { noteRead } from '../../base/reads.ts'
import { elementCount, elementTypes } from '../../graph/types.ts'
import { ArraySet, type Column } from '../array-set.ts'
import type { Split } from '../dataset.ts'
import { inMB } from '../memory.ts'
import type { ReadOptions } from '../read-options.ts'
import { RowWriter } from '../rows.ts'
import type { Unpacked } from './parquet-unpack.ts'

/** Next to the chunks that the build writes; in the sources, the script that starts the TypeScript one. */
const script = import.meta.url.endsWith('.ts') ? './parquet-child.dev.mjs' : './parquet-child.js'

/** What Node and the reader take themselves. */
const OWN_BYTES = 256 * 2 ** 20

const OTHER: Readonly<Record<Split, Split>> = { train: 'test', test: 'train' }

/** Throws a usage error that names the file, and column and row, for what is wrong. */
export async function openParquet(place: string, split: Split, { map, memory }: ReadOptions): Promise<ArraySet> {
  if (!existsSync(place)) throw usageError(`parquet: there is no file '${place}'`)
  const isFolder = statSync(place).isDirectory()
  const fileOf = (s: Split): string => (isFolder ? join(place, `${s}.parquet`) : place)
  const file = fileOf(split)
  if (!existsSync(file))
    throw usageError(`parquet: '${place}' has no ${split}.parquet`, `name the other split with #${OTHER[split]}`)
  const { columns, skipped } = await unpacked(file, memory)
  const other = fileOf(OTHER[split])
  const others = isFolder && existsSync(other) ? (await unpacked(other, memory)).columns : undefined
  const notes = [
    ...(isFolder ? [] : [`${place} serves as both splits: it is not a folder with train.parquet and test.parquet`]),
    ...(skipped.length > 0 ? [`columns that are not numbers are not read: ${skipped.join(', ')}`] : []),
  ]
  return ArraySet.of({ name: `parquet:${place}#${split}`, split, columns, map, others, notes })
}

interface Read {
  readonly columns: readonly Column[]
  readonly skipped: readonly string[]
}

function unpacked(file: string, memory: number): Promise<Read> {
  noteRead(file)
  const parts = new Parts(file)
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL(script, import.meta.url)), file, String(memory + OWN_BYTES)],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe'], windowsHide: true },
  )
  const end = (): boolean => child.kill('SIGKILL')
  process.once('exit', end)
  return new Promise<Read>((resolve, reject) => {
    readFrames(child.stdio[3] as Duplex, (frame) => {
      try {
        parts.add(frame)
      } catch (error) {
        end()
        reject(error)
      }
    })
    child.on('error', (cause) => reject(bugError(`the process that reads Parquet cannot be started: ${cause.message}`)))
    // after all that it said has been read
    child.on('close', (_, signal) => {
      if (parts.read) resolve(parts.read)
      else if (signal === 'SIGKILL')
        reject(
          usageError(
            `${file}: a row group takes more than ${inMB(memory)} of memory`,
            'raise --data-memory, or write smaller row groups',
          ),
        )
      else reject(usageError(`${file} is damaged: it says of itself what no file can hold`))
    })
  }).finally(() => process.off('exit', end))
}

/** What has come of a file so far. */
class Parts {
  readonly #file: string
  #said: Extract<Unpacked, { say: 'columns' }> | null = null
  #dims: (readonly number[])[] = []
  #writers: RowWriter[] = []
  read: Read | null = null

  constructor(file: string) {
    this.#file = file
  }

  add({ json, parts }: Frame): void {
    const message = json as Unpacked
    if (message.say === 'error') throw usageError(message.message, message.next)
    if (message.say === 'columns') this.#said = message
    else if (message.say === 'rows') {
      const { column, dims } = message
      const { elem } = this.#said!.columns[column]!
      this.#dims[column] = dims
      this.#writers[column] ??= new RowWriter((elementCount(dims) * elementTypes[elem].bits) / 8)
      this.#writers[column].append(parts[0]!)
    } else {
      const { columns, skipped } = this.#said!
      const rows = columns.map(({ name, elem }, k): Column => {
        return { name, elem, dims: this.#dims[k]!, rows: this.#writers[k]!.rows(), file: this.#file }
      })
      this.read = { columns: rows, skipped }
    }
  }
}
