/**
 * Parquet files: a column an input, a row a sample. Columns are numbers or booleans, or lists of equally many of them, nested or
 * not; a column of pictures, as Hugging Face stores them ({bytes, path}), makes the set one of pictures. PATH may be a folder of
 * files of splits (split-files.ts). A process of its own unpacks them (parquet-unpack.ts), within --data-memory, so that a damaged
 * file ends that process at worst; rows come over a pipe into a temporary file, so that memory does not grow with them, and any
 * order of rows can be read.
 *
 * Not read: text, dates, decimals and other structs, which are named in a note; nulls, which are refused.
 */
import { spawn } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { bugError, usageError } from '../../base/errors.ts'
import { type Frame, readFrames } from '../../base/frames.ts'
import { noteRead } from '../../base/reads.ts'
import { elementCount, elementTypes } from '../../graph/types.ts'
import { ArraySet, type Column, LABEL_NAMES, LABELS, type SampleSet } from '../array-set.ts'
import type { Dataset, Split } from '../dataset.ts'
import type { PicturePlace } from '../decode.ts'
import { inMB } from '../memory.ts'
import type { ReadOptions } from '../read-options.ts'
import { RowWriter } from '../rows.ts'
import { keptScratch } from '../scratch.ts'
import type { ColumnKind, Unpacked } from './parquet-unpack.ts'
import { pictureSet } from './picture-set.ts'
import { splitFiles } from './split-files.ts'

/** Next to the chunks that the build writes; in the sources, the script that starts the TypeScript one. */
const script = import.meta.url.endsWith('.ts') ? './parquet-child.dev.mjs' : './parquet-child.js'

/** What Node and the reader take themselves. */
const OWN_BYTES = 256 * 2 ** 20

const KIND = { format: 'parquet', words: ['file', 'files'], ending: '.parquet', pattern: /\.parquet$/ } as const

/** Throws a usage error that names the file, and column and row, for what is wrong. */
export async function openParquet(place: string, split: Split, how: ReadOptions): Promise<SampleSet> {
  const { map, memory } = how
  const { files, others, notes } = splitFiles(place, split, KIND)
  const { columns, pictures, skipped } = await unpackedAll(files, memory)
  const labels = [...LABEL_NAMES, ...(map?.[LABELS] === undefined ? [] : [map[LABELS]])]
  const second = others === files ? undefined : (await unpackedAll(others, memory, labels)).columns
  const own = { name: `parquet:${place}#${split}`, split }
  const arrays = (of: readonly Column[], more: readonly string[]): ArraySet =>
    ArraySet.of({ ...own, columns: of, map, others: second, notes: [...notes, ...unread(more)] })
  const [first, ...more] = pictures
  const mapsInputs = Object.keys(map ?? {}).some((key) => key !== LABELS)
  if (!first || mapsInputs) return arrays(columns, [...pictures.map((p) => p.name), ...skipped])
  const { name, places } = first
  const asked = columns.filter((c) => labels.includes(c.name))
  const labelled = asked.length > 0 ? arrays(asked, []) : null
  const isLabelled = labelled?.isLabelled ?? false
  const left = [...columns.filter((c) => c !== labelled?.labelColumn), ...more].map((c) => c.name)
  const init = {
    ...{ ...own, places, isLabelled, classes: labelled?.classes ?? 0, classNames: labelled?.classNames },
    labels: labelled?.labels ?? new Int32Array(places.length),
    notes: [...(labelled?.notes ?? notes), ...unread([...left, ...skipped], ` beside the pictures of '${name}'`)],
    training: split === 'train' || others === files ? null : () => trainingOf(place, how),
  }
  return pictureSet(init, how)
}

const unread = (names: readonly string[], beside = ''): string[] =>
  names.length > 0 ? [`columns that are not read${beside}: ${names.join(', ')}`] : []

async function trainingOf(place: string, how: ReadOptions): Promise<Dataset> {
  const set = await openParquet(place, 'train', how)
  if (set instanceof ArraySet) throw usageError(`parquet: '${place}' has pictures in one split only`)
  return set
}

interface Read {
  readonly columns: readonly Column[]
  readonly pictures: readonly { readonly name: string; readonly places: readonly PicturePlace[] }[]
  /** Columns that are neither. */
  readonly skipped: readonly string[]
}

/** All rows of files with the same columns, one file after the other. `only`: columns that are wanted, where they are there. */
async function unpackedAll(files: readonly string[], memory: number, only: readonly string[] = []): Promise<Read> {
  const parts = new Parts()
  for (const file of files) await unpack(file, parts, memory, only)
  return parts.read()
}

function unpack(file: string, parts: Parts, memory: number, only: readonly string[]): Promise<void> {
  noteRead(file)
  parts.begin(file)
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL(script, import.meta.url)), file, String(memory + OWN_BYTES), ...only],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe'], windowsHide: true },
  )
  const end = (): boolean => child.kill('SIGKILL')
  process.once('exit', end)
  return new Promise<void>((resolve, reject) => {
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
      if (parts.isWhole) resolve()
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

/** What has come of files so far. */
class Parts {
  readonly #files: { readonly path: string; readonly first: number }[] = []
  #columns: readonly ColumnKind[] | null = null
  #skipped: readonly string[] = []
  readonly #dims: (readonly number[])[] = []
  readonly #writers: RowWriter[] = []
  readonly #places: PicturePlace[][] = []
  /** The last file has been read to its end. */
  isWhole = false

  begin(path: string): void {
    this.#files.push({ path, first: this.#rowsOf(0) })
    this.isWhole = false
  }

  add({ json, parts }: Frame): void {
    const message = json as Unpacked
    const { path } = this.#files.at(-1)!
    if (message.say === 'error') throw usageError(message.message, message.next)
    if (message.say === 'columns') this.#begin(message, path)
    else if (message.say === 'rows') this.#addRows(message, parts[0]!, path)
    else if (message.say === 'pictures') this.#addPictures(message, parts[0]!, path)
    else this.isWhole = true
  }

  #begin({ columns, skipped }: Extract<Unpacked, { say: 'columns' }>, path: string): void {
    const form = (list: readonly ColumnKind[]): string => list.map((c) => `${c.name} (${c.elem})`).join(', ')
    if (this.#columns && form(this.#columns) !== form(columns))
      throw usageError(
        `${path}: it has the columns ${form(columns)}, and ${this.#files[0]!.path} has ${form(this.#columns)}`,
        'files of a split need the same columns',
      )
    this.#columns ??= columns
    this.#skipped = skipped
  }

  #addRows({ column, dims }: Extract<Unpacked, { say: 'rows' }>, bytes: Uint8Array, path: string): void {
    const { name, elem } = this.#columns![column]!
    const known = this.#dims[column] ?? dims
    if (known.join() !== dims.join())
      throw usageError(
        `${path}: '${name}' has the shape [${dims}], and [${known}] in ${this.#files[0]!.path}`,
        'samples need equal shapes: pad or cut them',
      )
    this.#dims[column] = dims
    const bits = elem === 'picture' ? 0 : elementTypes[elem].bits
    this.#writers[column] ??= new RowWriter((elementCount(dims) * bits) / 8)
    this.#writers[column].append(bytes)
  }

  #addPictures(
    { column, sizes, names }: Extract<Unpacked, { say: 'pictures' }>,
    bytes: Uint8Array,
    path: string,
  ): void {
    const scratch = keptScratch()
    const { descriptor } = scratch
    let offset = scratch.size
    scratch.append(bytes)
    this.#places[column] ??= []
    for (const [i, size] of sizes.entries()) {
      this.#places[column].push({ path, part: { name: names[i]!, offset, size, descriptor } })
      offset += size
    }
  }

  #rowsOf(column: number): number {
    return this.#places[column]?.length ?? this.#writers[column]?.rows().count ?? 0
  }

  read(): Read {
    const columns = [...this.#columns!.entries()]
    const fileOf = (row: number): string => this.#files.findLast(({ first }) => first <= row)!.path
    return {
      skipped: this.#skipped,
      pictures: columns.flatMap(([k, { name, elem }]) =>
        elem === 'picture' ? [{ name, places: this.#places[k]! }] : [],
      ),
      columns: columns.flatMap(([k, { name, elem, classNames }]): Column[] => {
        if (elem === 'picture') return []
        const rows = { dims: this.#dims[k]!, rows: this.#writers[k]!.rows() }
        return [{ name, elem, ...rows, ...(classNames && { classNames }), file: this.#files[0]!.path, fileOf }]
      }),
    }
  }
}
