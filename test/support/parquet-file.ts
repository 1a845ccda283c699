/**
 * Parquet files, written from the format's definition (parquet.thrift, Thrift's compact protocol): required columns of numbers or of
 * lists of them, or nullable ones of pictures as Hugging Face stores them, plain pages, one a column and row group, stored or gzipped.
 */
import { gzipSync } from 'node:zlib'

const types = { BOOLEAN: 0, INT32: 1, INT64: 2, FLOAT: 4, DOUBLE: 5, BYTE_ARRAY: 6 } as const

export interface ParquetColumn {
  readonly name: string
  readonly type: keyof typeof types
  /** ConvertedType: 0 UTF8, 6 DATE, 11 UINT_8, 15 INT_8. */
  readonly converted?: number
  /** By row: a number, or a list of them. */
  readonly rows: readonly (number | bigint | boolean | string | readonly number[])[]
}

/** A struct {bytes, path}; each of them, and the struct, may be null. */
export interface ParquetPictures {
  readonly name: string
  readonly type: 'PICTURE'
  readonly rows: readonly ({ readonly bytes: Uint8Array | null; readonly path: string | null } | null)[]
}

type Field = readonly [id: number, kind: 5 | 6 | 8 | 9 | 12, value: Buffer]

const varint = (n: bigint): number[] => (n < 128n ? [Number(n)] : [Number(n & 127n) | 128, ...varint(n >> 7n)])
const zigzag = (n: number): Buffer => Buffer.from(varint(n < 0 ? BigInt(-n) * 2n - 1n : BigInt(n) * 2n))
const i32 = (id: number, n: number): Field => [id, 5, zigzag(n)]
const i64 = (id: number, n: number): Field => [id, 6, zigzag(n)]
const bytes = (text: string | Buffer): Buffer => {
  const body = Buffer.from(text as string)
  return Buffer.concat([Buffer.from(varint(BigInt(body.length))), body])
}
const text = (id: number, s: string): Field => [id, 8, bytes(s)]
const struct = (...fields: readonly Field[]): Buffer => {
  let last = 0
  const parts = fields.map(([id, kind, value]) => {
    const head = Buffer.from([((id - last) << 4) | kind])
    last = id
    return Buffer.concat([head, value])
  })
  return Buffer.concat([...parts, Buffer.from([0])])
}
const list = (id: number, kind: 5 | 8 | 12, items: readonly Buffer[]): Field => {
  const head = items.length < 15 ? [(items.length << 4) | kind] : [0xf0 | kind, ...varint(BigInt(items.length))]
  return [id, 9, Buffer.concat([Buffer.from(head), ...items])]
}

function plain(type: keyof typeof types, values: readonly unknown[]): Buffer {
  if (type === 'BOOLEAN') {
    const out = Buffer.alloc(Math.ceil(values.length / 8))
    for (const [i, v] of values.entries()) if (v) out[i >> 3]! |= 1 << (i & 7)
    return out
  }
  if (type === 'BYTE_ARRAY')
    return Buffer.concat(
      values.map((v) => {
        const body = v instanceof Uint8Array ? v : Buffer.from(String(v))
        const size = Buffer.alloc(4)
        size.writeUInt32LE(body.length)
        return Buffer.concat([size, body])
      }),
    )
  const array = {
    INT32: () => Int32Array.from(values, Number),
    INT64: () => BigInt64Array.from(values, (v) => BigInt(v as number)),
    FLOAT: () => Float32Array.from(values, Number),
    DOUBLE: () => Float64Array.from(values, Number),
  }[type]()
  return Buffer.from(array.buffer)
}

/** Levels of one bit as runs (RLE), with their length before them. */
function levels(bits: readonly number[]): Buffer {
  const runs = bits.flatMap((bit) => [2, bit])
  const size = Buffer.alloc(4)
  size.writeUInt32LE(runs.length)
  return Buffer.concat([size, Buffer.from(runs)])
}

/** What a leaf of the schema stores of some rows. */
interface Leaf {
  readonly path: readonly string[]
  readonly type: keyof typeof types
  /** Levels before the values. */
  readonly head: readonly Buffer[]
  readonly values: readonly unknown[]
  /** With those that are null. */
  readonly count: number
}

function leavesOf(c: ParquetColumn | ParquetPictures, first: number, end: number): Leaf[] {
  if (c.type === 'PICTURE') {
    const rows = c.rows.slice(first, end)
    return (['bytes', 'path'] as const).map((field) => {
      const fields = rows.map((row) => row?.[field] ?? null)
      // 0: there is no struct, 1: no value in it, 2: a value
      const head = [levels(rows.map((row, i) => (row === null ? 0 : fields[i] === null ? 1 : 2)))]
      const values = fields.filter((v) => v !== null)
      return { path: [c.name, field], type: 'BYTE_ARRAY', head, values, count: rows.length }
    })
  }
  const rows = c.rows.slice(first, end)
  const values = rows.flat()
  const repeats = rows.flatMap((r) => (Array.isArray(r) ? r.map((_, i) => (i === 0 ? 0 : 1)) : []))
  const isList = Array.isArray(c.rows[0])
  const head = isList ? [levels(repeats), levels(values.map(() => 1))] : []
  const path = isList ? [c.name, 'list', 'element'] : [c.name]
  return [{ path, type: c.type, head, values, count: values.length }]
}

function schemaOf(c: ParquetColumn | ParquetPictures): Buffer[] {
  if (c.type === 'PICTURE')
    return [
      struct(i32(3, 1), text(4, c.name), i32(5, 2)),
      struct(i32(1, types.BYTE_ARRAY), i32(3, 1), text(4, 'bytes')),
      struct(i32(1, types.BYTE_ARRAY), i32(3, 1), text(4, 'path'), i32(6, 0)),
    ]
  const converted = c.converted === undefined ? [] : [i32(6, c.converted)]
  if (!Array.isArray(c.rows[0])) return [struct(i32(1, types[c.type]), i32(3, 0), text(4, c.name), ...converted)]
  return [
    struct(i32(3, 0), text(4, c.name), i32(5, 1), i32(6, 3)),
    struct(i32(3, 2), text(4, 'list'), i32(5, 1)),
    struct(i32(1, types[c.type]), i32(3, 0), text(4, 'element')),
  ]
}

/** `notes`: of the file, by key. */
export function parquetFile(
  columns: readonly (ParquetColumn | ParquetPictures)[],
  groupRows: number,
  gzip = false,
  notes: Readonly<Record<string, string>> = {},
): Buffer {
  const parts: Buffer[] = [Buffer.from('PAR1')]
  let at = 4
  const push = (b: Buffer): void => {
    parts.push(b)
    at += b.length
  }
  const count = columns[0]!.rows.length
  const groups: Buffer[] = []
  for (let first = 0; first < count; first += groupRows) {
    const leaves = columns.flatMap((c) => leavesOf(c, first, first + groupRows))
    const chunks = leaves.map(({ path, type, head, values, count }) => {
      const body = Buffer.concat([...head, plain(type, values)])
      const packed = gzip ? gzipSync(body) : body
      const start = at
      const page = struct(i32(1, count), i32(2, 0), i32(3, 3), i32(4, 3))
      push(struct(i32(1, 0), i32(2, body.length), i32(3, packed.length), [5, 12, page]))
      push(packed)
      const meta = struct(
        i32(1, types[type]),
        list(2, 5, [zigzag(0), zigzag(3)]),
        list(3, 8, path.map(bytes)),
        i32(4, gzip ? 2 : 0),
        i64(5, count),
        i64(6, body.length),
        i64(7, at - start),
        i64(9, start),
      )
      return struct(i64(2, start), [3, 12, meta])
    })
    const rows = Math.min(groupRows, count - first)
    groups.push(struct(list(1, 12, chunks), i64(2, at), i64(3, rows)))
  }
  const elements = columns.flatMap(schemaOf)
  const root = struct(text(4, 'schema'), i32(5, columns.length))
  const pairs = Object.entries(notes).map(([key, value]) => struct(text(1, key), text(2, value)))
  const said = pairs.length > 0 ? [list(5, 12, pairs)] : []
  const footer = struct(i32(1, 1), list(2, 12, [root, ...elements]), i64(3, count), list(4, 12, groups), ...said)
  push(footer)
  const size = Buffer.alloc(4)
  size.writeUInt32LE(footer.length)
  return Buffer.concat([...parts, size, Buffer.from('PAR1')])
}
