/**
 * `labels.csv` or `labels.json` beside pictures: which class each is of.
 *
 *   CSV   a line `FILE,LABEL` for each picture, FILE relative to the folder; a first line of column names is skipped
 *   JSON  {"FILE": "LABEL", ...} or [["FILE", "LABEL"], ...]
 *
 * Labels are names, or whole numbers throughout: those are output indices as they are.
 */
import { existsSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { type MncError, usageError } from '../../base/errors.ts'
import { readTextSync } from '../../base/files.ts'
import { badLabel } from '../array-set.ts'
import { MOST_CLASSES } from '../dataset.ts'

export interface LabelFile {
  readonly path: string
  /** Label by picture, as a path from the folder. */
  readonly labels: ReadonlyMap<string, string>
  /** All labels are whole numbers. */
  readonly isNumbers: boolean
}

/** The one in `folder`; null where there is none. A usage error that names file and line for what is wrong with it. */
export function readLabels(folder: string): LabelFile | null {
  const found = ['labels.csv', 'labels.json'].map((name) => join(folder, name)).filter((path) => existsSync(path))
  if (found.length > 1) throw usageError(`${folder} has both labels.csv and labels.json`, 'leave one')
  const [path] = found
  if (path === undefined) return null
  const text = readTextSync(path)
  const labels = new Map<string, string>()
  for (const { file, label, at } of path.endsWith('.csv') ? csvRows(path, text) : jsonRows(path, text)) {
    const name = normalize(file)
    const fault = (what: string): MncError => usageError(`${path}, ${at}: ${what}`)
    if (name.startsWith('..') || name.startsWith('/')) throw fault(`'${file}' is not inside the folder`)
    if (label === '') throw fault(`'${file}' has no label`)
    if (!existsSync(join(folder, name))) throw fault(`there is no file '${file}'`)
    if (labels.has(name)) throw fault(`'${file}' is there twice`)
    labels.set(name, label)
  }
  if (labels.size === 0) throw usageError(`${path} is empty`, 'write a line FILE,LABEL for each picture')
  const isNumbers = [...labels.values()].every((label) => /^\d+$/.test(label))
  if (isNumbers)
    for (const [name, label] of labels)
      if (!(Number(label) < MOST_CLASSES)) throw badLabel(path, `the label of '${name}'`, label)
  return { path, labels, isNumbers }
}

interface Row {
  readonly file: string
  readonly label: string
  /** Where it is in the file. */
  readonly at: string
}

const HEADS = /^(files?|file_?names?|images?|paths?|names?|pictures?)$/i

function csvRows(path: string, text: string): Row[] {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
  return lines.flatMap((line, i) => {
    if (line.trim() === '') return []
    const cells = cellsOf(line)
    if (cells?.length !== 2) throw usageError(`${path}, line ${i + 1}: '${line.slice(0, 80)}' is not FILE,LABEL`)
    const [file = '', label = ''] = cells
    return i === 0 && HEADS.test(file) ? [] : [{ file, label, at: `line ${i + 1}` }]
  })
}

/** RFC 4180: cells in quotes may have commas, and quotes twice; null for a quote that does not close. */
function cellsOf(line: string): string[] | null {
  const cells: string[] = []
  for (let rest = line; ; ) {
    const quoted = /^\s*"((?:[^"]|"")*)"\s*(,|$)/.exec(rest)
    const plain = quoted ?? /^([^",]*)(,|$)/.exec(rest)
    if (!plain) return null
    cells.push(quoted ? quoted[1]!.replaceAll('""', '"') : plain[1]!.trim())
    if (plain[2] === '') return cells
    rest = rest.slice(plain[0].length)
  }
}

function jsonRows(path: string, text: string): Row[] {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw usageError(`${path} is not JSON: ${cause instanceof Error ? cause.message : cause}`)
  }
  const pairs: unknown[] = Array.isArray(parsed)
    ? parsed
    : typeof parsed === 'object' && parsed !== null
      ? Object.entries(parsed)
      : [parsed]
  return pairs.map((pair, i): Row => {
    const [file, label] = Array.isArray(pair) && pair.length === 2 ? (pair as unknown[]) : []
    if (typeof file !== 'string' || (typeof label !== 'string' && typeof label !== 'number'))
      throw usageError(`${path}, entry ${i + 1}: it is not a file and its label`, 'write {"FILE": "LABEL", ...}')
    return { file, label: String(label).trim(), at: `entry ${i + 1}` }
  })
}
