/** Numbers and tables for people. */
import type { Reading } from '../analysis/readers.ts'

/** Columns aligned by content, two spaces apart; `align` has an l or r for each column. */
export function table(rows: readonly (readonly string[])[], align: string): string {
  const widths = [...align].map((_, c) => Math.max(0, ...rows.map((r) => r[c]?.length ?? 0)))
  const cell = (text: string, c: number): string =>
    align[c] === 'r' ? text.padStart(widths[c]!) : text.padEnd(widths[c]!)
  return rows.map((r) => r.map(cell).join('  ').trimEnd()).join('\n')
}

/** 1234567 as `1.235 M`: four digits, at most. */
export function bigNumber(n: number): string {
  for (const [unit, size] of [
    ['T', 1e12],
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const)
    if (n >= size) return `${Number((n / size).toPrecision(4))} ${unit}`
  return String(n)
}

export const percent = (share: number, digits = 1): string => `${(share * 100).toFixed(digits)} %`

/** Bits of a weight in the file, and in parentheses those that its values need, if these are fewer. */
export const widthOf = ({ weightBits, valueBits }: { weightBits: number; valueBits: number }): string =>
  valueBits === weightBits ? String(weightBits) : `${weightBits} (${valueBits})`

/** `onnxruntime 1.20 and later (int4 values), OpenVINO 2026.4 and later; not OpenCV (int4 values)`. */
export function describeReaders(readings: readonly Reading[]): string {
  const why = ({ because }: Reading): string => (because === null ? '' : ` (${because})`)
  const read = readings.filter((r) => r.since !== null)
  const not = readings.filter((r) => r.since === null).map((r) => `${r.title}${why(r)}`)
  const lines = read.map((r) => `${r.title} ${r.since} and later${why(r)}`)
  return `${lines.join(', ')}${not.length > 0 ? `; not ${not.join(', ')}` : ''}`
}
