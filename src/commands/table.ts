/** Numbers and tables for people, as wide as their terminal. */
import type { Reading } from '../analysis/readers.ts'
import { fitText, wrapWords } from './wrap.ts'

/** Least room in which prose is worth wrapping inside its column. */
const LEAST_ROOM = 16

/**
 * Columns aligned by content, two spaces apart; `align` has an l or r for each column. Where that is wider than `width`, the
 * widest column of prose is wrapped inside its column, or, if that leaves too little room, each row becomes a paragraph:
 * its first cell, and below it the others, each behind its head. `isHeaded`: the first row holds the heads.
 */
export function table(
  rows: readonly (readonly string[])[],
  align: string,
  width = Number.POSITIVE_INFINITY,
  isHeaded = align.includes('r'),
): string {
  const widths = [...align].map((_, c) => Math.max(0, ...rows.map((r) => r[c]?.length ?? 0)))
  const total = widths.reduce((a, b) => a + b + 2, -2)
  if (total <= width) return columns(rows, align, widths)
  const prose = [...align].flatMap((a, c) => (a === 'l' && rows.some((r) => r[c]?.includes(' ')) ? [c] : []))
  const widest = prose.sort((a, b) => widths[b]! - widths[a]!)[0]
  const room = widest === undefined ? 0 : width - (total - widths[widest]!)
  if (widest === undefined || room < LEAST_ROOM) return paragraphs(rows, width, isHeaded)
  const wrapped = rows.flatMap((row) => {
    const [first = '', ...more] = wrapWords(row[widest] ?? '', room)
    const rest = more.map((text) => row.map((_, c) => (c === widest ? text : '')))
    return [row.map((cell, c) => (c === widest ? first : cell)), ...rest]
  })
  return columns(wrapped, align, widths.with(widest, room))
}

function columns(rows: readonly (readonly string[])[], align: string, widths: readonly number[]): string {
  const cell = (text: string, c: number): string =>
    align[c] === 'r' ? text.padStart(widths[c]!) : text.padEnd(widths[c]!)
  return rows.map((r) => r.map(cell).join('  ').trimEnd()).join('\n')
}

function paragraphs(rows: readonly (readonly string[])[], width: number, isHeaded: boolean): string {
  const heads = isHeaded ? (rows[0] ?? []) : []
  const lines = rows.slice(isHeaded ? 1 : 0).flatMap((row) => {
    const [title = '', ...items] = row.flatMap((text, c) => {
      if (text === '') return []
      return [heads[c] && c > 0 ? `${heads[c]} ${text}` : text]
    })
    const lines = [title]
    let line = ''
    for (const item of items) {
      const longer = line === '' ? `  ${item}` : `${line}, ${item}`
      if (line !== '' && longer.length + 1 > width) lines.push(`${line},`)
      line = line !== '' && longer.length + 1 > width ? `  ${item}` : longer
    }
    return line === '' ? lines : [...lines, line]
  })
  return fitText(lines.join('\n'), width)
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
