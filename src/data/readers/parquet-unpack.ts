/**
 * Unpacks the columns of a Parquet file (https://parquet.apache.org/docs/file-format/) with hyparquet, one column of one row group
 * after the other. It runs in a process of its own (parquet.ts): hyparquet believes what a file says about itself, and the
 * engine ends a process that asks for an array of an impossible size; there is no error to catch.
 */
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import type { AsyncBuffer, ColumnData, Compressors, FileMetaData, SchemaElement } from 'hyparquet'
import { DataFile } from '../../base/data-file.ts'
import { MncError, usageError } from '../../base/errors.ts'
import { reading } from '../../base/files.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type ElementType, elementCount } from '../../graph/types.ts'
import { isObject } from './json-columns.ts'

/** `picture`: files of pictures, as Hugging Face stores them: {bytes, path}. */
export interface ColumnKind {
  readonly name: string
  readonly elem: ElementType | 'picture'
  /** Of the classes that a column numbers, where Hugging Face's note in the file says them. */
  readonly classNames?: readonly string[] | undefined
}

/** What this process says: the columns, then their rows (the frame's part), then the end. */
export type Unpacked =
  | { readonly say: 'columns'; readonly columns: readonly ColumnKind[]; readonly skipped: string[] }
  | { readonly say: 'rows'; readonly column: number; readonly dims: readonly number[] }
  /** Files of pictures, one after the other: sizes, and names where they have any. */
  | {
      readonly say: 'pictures'
      readonly column: number
      readonly sizes: readonly number[]
      readonly names: readonly string[]
    }
  | { readonly say: 'end' }
  | { readonly say: 'error'; readonly message: string; readonly next: string | undefined }

/** Besides Snappy, which hyparquet unpacks itself. */
const compressors: Compressors = {
  GZIP: (input) => new Uint8Array(gunzipSync(input)),
  BROTLI: (input) => new Uint8Array(brotliDecompressSync(input)),
}

type Tell = (json: Unpacked, part?: Uint8Array) => void

/** Says everything about a file, or what is wrong with it. `only`: columns that are wanted, if they are there; else all are. */
export async function unpackParquet(file: string, tell: Tell, only?: readonly string[]): Promise<void> {
  try {
    await unpack(file, tell, only)
    tell({ say: 'end' })
  } catch (error) {
    tell(errorOf(file, error))
  }
}

/** What hyparquet cannot read is the file's fault. */
function errorOf(file: string, error: unknown): Unpacked {
  if (error instanceof MncError) return { say: 'error', message: error.message, next: error.next }
  const reason = error instanceof Error ? error.message : String(error)
  const message = `${file} cannot be read as Parquet: ${reason.replace(/^parquet /, '')}`
  return { say: 'error', message, next: undefined }
}

async function unpack(file: string, tell: Tell, only: readonly string[] | undefined): Promise<void> {
  const { parquetMetadataAsync, parquetRead, parquetSchema } = await import('hyparquet')
  const data = reading(file, () => new DataFile(file))
  if (data.size === 0) throw usageError(`${file}: it is empty`)
  const buffer: AsyncBuffer = {
    byteLength: data.size,
    slice(start, end = data.size) {
      const out = new Uint8Array(Math.max(0, Math.min(end, data.size) - start))
      data.readInto(out, start)
      return out.buffer
    },
  }
  const metadata = await parquetMetadataAsync(buffer)
  const kinds = kindsOf(parquetSchema(metadata))
  const names = classNamesIn(metadata)
  const columns = kinds.flatMap(({ name, elem }): ColumnKind[] =>
    elem && (only?.includes(name) ?? true) ? [{ name, elem, classNames: names.get(name) }] : [],
  )
  if (columns.length === 0 && !only) throw usageError(`${file}: none of its columns holds numbers or pictures`)
  checkCounts(file, metadata)
  const skipped = kinds.flatMap(({ name, elem }) => (elem ? [] : [name]))
  tell({ say: 'columns', columns, skipped })
  const packers = columns.map(({ name, elem }, k): ((rows: ArrayLike<unknown>, first: number) => void) => {
    if (elem === 'picture') return (rows, first) => tellPictures(file, name, rows, first, k, tell)
    const shape = new ColumnShape(file, name, elem)
    return (rows, first) => {
      const { dims, bytes } = shape.pack(rows, first)
      tell({ say: 'rows', column: k, dims }, bytes)
    }
  })
  let first = 0
  for (const group of metadata.row_groups) {
    const rowEnd = first + Number(group.num_rows)
    for (const [k, { name }] of columns.entries()) {
      // an error in onChunk would be lost
      const chunks: ColumnData[] = []
      const onChunk = (chunk: ColumnData): void => void chunks.push(chunk)
      await parquetRead({
        ...{ file: buffer, metadata, columns: [name], rowStart: first, rowEnd, compressors, onChunk },
        // bytes of pictures stay bytes; what the file calls text is text
        utf8: false,
      })
      let rows = 0
      for (const { columnData, rowStart } of chunks) {
        rows += columnData.length
        packers[k]!(columnData, rowStart)
      }
      if (rows !== rowEnd - first) throw usageError(`${file}: a row group has ${rows} of ${rowEnd - first} rows`)
    }
    first = rowEnd
  }
  if (first === 0) throw usageError(`${file}: it has no rows`)
}

type SchemaTree = ReturnType<typeof import('hyparquet')['parquetSchema']>

/** Columns; null for those that are neither numbers nor pictures. */
const kindsOf = ({ children }: SchemaTree) =>
  children.map((tree) => ({
    name: tree.element.name,
    elem: isPicture(tree) ? ('picture' as const) : elementOf(leafOf(tree).element),
  }))

/** Hugging Face's Image: a struct of the picture's file and of its name. */
const isPicture = ({ children }: SchemaTree): boolean => {
  const kinds = new Map(children.map(({ element }) => [element.name, element.type]))
  return kinds.size === 2 && kinds.get('bytes') === 'BYTE_ARRAY' && kinds.get('path') === 'BYTE_ARRAY'
}

/** Names of classes by column, in Hugging Face's note on a file; a note that is none says nothing. */
function classNamesIn({ key_value_metadata }: FileMetaData): ReadonlyMap<string, readonly string[]> {
  const note = key_value_metadata?.find(({ key }) => key === 'huggingface')?.value
  let said: unknown = null
  try {
    said = JSON.parse(note ?? 'null')
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause
  }
  const field = (x: unknown, name: string): unknown => (isObject(x) ? Reflect.get(x, name) : undefined)
  const features = field(field(said, 'info'), 'features')
  return new Map(
    (isObject(features) ? Object.entries(features) : []).flatMap(([name, feature]) => {
      const names = field(feature, 'names')
      const isNamed = Array.isArray(names) && names.length > 0 && names.every((n) => typeof n === 'string')
      return isNamed ? [[name, names] as const] : []
    }),
  )
}

/** What a list is of; a struct stays as it is. */
const leafOf = (tree: SchemaTree): SchemaTree => (tree.children.length === 1 ? leafOf(tree.children[0]!) : tree)

const INTEGERS = ['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'uint64', 'int64'] as const

function elementOf({ type, converted_type, logical_type }: SchemaElement): ElementType | null {
  const said = converted_type ?? logical_type?.type
  if (type === 'BOOLEAN') return 'bool'
  if (type === 'FLOAT') return 'float32'
  if (type === 'DOUBLE') return 'float64'
  if (type !== 'INT32' && type !== 'INT64') return null
  const narrow = (converted_type ?? '').toLowerCase().replace('_', '')
  const integer = INTEGERS.find((name) => name === narrow)
  if (integer) return integer
  if (said !== undefined && said !== 'INTEGER') return null
  return type === 'INT32' ? 'int32' : 'int64'
}

/** Rows of a row group that are unpacked at once; writers make some hundred thousand. */
const MOST_ROWS = 2 ** 24

/** Numbers of rows and values that agree with each other. */
function checkCounts(file: string, { num_rows, row_groups }: FileMetaData): void {
  const damaged = (what: string): MncError => usageError(`${file} is damaged: ${what}`)
  let total = 0n
  for (const [i, group] of row_groups.entries()) {
    if (group.num_rows < 0 || group.num_rows > MOST_ROWS) throw damaged(`row group ${i} has ${group.num_rows} rows`)
    total += group.num_rows
    for (const { meta_data } of group.columns) {
      if (!meta_data) throw damaged(`row group ${i} has a column that says nothing about itself`)
      const { num_values, path_in_schema } = meta_data
      const isFlat = path_in_schema.length === 1
      if (isFlat ? num_values !== group.num_rows : num_values < group.num_rows || num_values > 32 * MOST_ROWS)
        throw damaged(
          `column '${path_in_schema[0]}' has ${num_values} values in row group ${i}, of ${group.num_rows} rows`,
        )
    }
  }
  if (total !== num_rows) throw damaged(`its row groups have ${total} rows, but it says ${num_rows}`)
}

/** Pictures that are told at once. */
const PIECE = 2 ** 20

function tellPictures(file: string, name: string, rows: ArrayLike<unknown>, first: number, column: number, tell: Tell) {
  for (let i = 0; i < rows.length; ) {
    const parts: Uint8Array[] = []
    const names: string[] = []
    for (let size = 0; i < rows.length && size < PIECE; i++) {
      const row = rows[i] as { readonly bytes?: unknown; readonly path?: unknown } | null | undefined
      const bytes = row?.bytes
      if (!(bytes instanceof Uint8Array))
        throw usageError(
          `${file}: '${name}' has no picture in row ${first + i}${typeof row?.path === 'string' ? `, only a path (${row.path})` : ''}`,
          'write the file with the bytes of its pictures',
        )
      parts.push(bytes)
      names.push(typeof row?.path === 'string' ? row.path : `row ${first + i}`)
      size += bytes.length
    }
    tell({ say: 'pictures', column, sizes: parts.map((p) => p.length), names }, Buffer.concat(parts))
  }
}

/** Rows of a column as bytes; all have the shape of the first. */
class ColumnShape {
  readonly #file: string
  readonly #name: string
  readonly #elem: ElementType
  #dims: readonly number[] | null = null

  constructor(file: string, name: string, elem: ElementType) {
    this.#file = file
    this.#name = name
    this.#elem = elem
  }

  pack(rows: ArrayLike<unknown>, first: number): { dims: readonly number[]; bytes: Uint8Array } {
    const fault = (what: string, next?: string): MncError => usageError(`${this.#file}: '${this.#name}' ${what}`, next)
    const dims = this.#dims ?? shapeOf(rows[0])
    const size = elementCount(dims)
    if (size === 0) throw fault(`is an empty list in row ${first}`)
    this.#dims = dims
    const isWide = this.#elem === 'int64' || this.#elem === 'uint64'
    const values = new Float64Array(isWide ? 0 : rows.length * size)
    const wide = new BigInt64Array(isWide ? rows.length * size : 0)
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]
      const flat = isList(row) ? Array.from(row).flat(dims.length) : [row]
      if (flat.length !== size || shapeOf(row).join() !== dims.join())
        throw fault(
          `has ${flat.length} numbers in row ${first + i}, and ${size} in the first row`,
          'samples need equally many: pad or cut them',
        )
      for (const [k, v] of flat.entries()) {
        if (typeof v !== 'number' && typeof v !== 'bigint' && typeof v !== 'boolean')
          throw fault(`is ${v === undefined ? null : v} in row ${first + i}, not a number`)
        if (isWide) wide[i * size + k] = BigInt(v)
        else values[i * size + k] = Number(v)
      }
    }
    const bytes = isWide ? new Uint8Array(wide.buffer) : Tensor.from(this.#elem, [values.length], values).bytes
    return { dims, bytes }
  }
}

type List = ArrayLike<unknown> & Iterable<unknown>

const isList = (value: unknown): value is List =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))

const shapeOf = (value: unknown): number[] => (isList(value) ? [value.length, ...shapeOf(value[0])] : [])
