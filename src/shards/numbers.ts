/** Numbers in JSON to the bit: text for those that JSON has no word for, and rows of numbers as base64. */

const WORDS: ReadonlyMap<string, number> = new Map([
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
  ['-0', -0],
])

/** For JSON.stringify and JSON.parse. */
export function toWords(_key: string, value: unknown): unknown {
  if (typeof value !== 'number' || (Number.isFinite(value) && !Object.is(value, -0))) return value
  return { number: Object.is(value, -0) ? '-0' : String(value) }
}

export function fromWords(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('number' in value)) return value
  const word = WORDS.get(String(value.number))
  return word !== undefined && Object.keys(value).length === 1 ? word : value
}

/** Rows one after the other: little-endian floats of 4 bytes where they hold all of them, else of 8. */
export interface PackedRows {
  readonly lengths: readonly number[]
  readonly bytes: 4 | 8
  readonly base64: string
}

export function packRows(rows: readonly ArrayLike<number>[]): PackedRows {
  const lengths = rows.map((r) => r.length)
  const all = new Float64Array(lengths.reduce((a, b) => a + b, 0))
  let at = 0
  for (const row of rows) {
    all.set(row, at)
    at += row.length
  }
  const isNarrow = all.every((v) => Object.is(Math.fround(v), v))
  const { buffer, byteLength } = isNarrow ? Float32Array.from(all) : all
  return { lengths, bytes: isNarrow ? 4 : 8, base64: Buffer.from(buffer, 0, byteLength).toString('base64') }
}

export function unpackRows({ lengths, bytes, base64 }: PackedRows): ArrayLike<number>[] {
  // a copy, since a Buffer may begin anywhere
  const { buffer } = Uint8Array.from(Buffer.from(base64, 'base64'))
  const all = bytes === 4 ? new Float32Array(buffer) : new Float64Array(buffer)
  let at = 0
  return lengths.map((n) => {
    at += n
    return all.subarray(at - n, at)
  })
}
