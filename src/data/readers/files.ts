/** Finding a data set's files under the names they are published with. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type MncError, usageError } from '../../base/errors.ts'
import { listFolder } from '../../base/files.ts'

/** A list of file names; `*` in a name stands for any text and matches one or more files, in natural order. */
export type FileList = readonly string[]

/**
 * The first of `folder` and its `nested` folders that has every file of one of the alternatives; undefined if none.
 */
export function findFolder(
  folder: string,
  nested: readonly string[],
  alternatives: readonly FileList[],
): { folder: string; files: string[] } | undefined {
  for (const candidate of [folder, ...nested.map((n) => join(folder, n))]) {
    if (!existsSync(candidate) || !statSync(candidate).isDirectory()) continue
    const present = listFolder(candidate).sort(naturalOrder)
    for (const wanted of alternatives) {
      const files = wanted.map((name) => present.filter((p) => matches(name, p)))
      if (files.every((f) => f.length > 0)) return { folder: candidate, files: files.flat() }
    }
  }
  return undefined
}

/** The usage error that says what was sought and where. */
export function missingFiles(kind: string, folder: string, split: string, alternatives: readonly FileList[]): MncError {
  const wanted = alternatives.map((files) => files.join(', ')).join(' or ')
  const why = existsSync(folder)
    ? `'${folder}' lacks files of this data set${lacking(folder, alternatives)}`
    : `there is no folder '${folder}'`
  return usageError(`${kind}: ${why}; the ${split} split needs ${wanted}`, 'name the folder that holds these files')
}

/** If most of an alternative is there: what is missing. */
function lacking(folder: string, alternatives: readonly FileList[]): string {
  const present = statSync(folder).isDirectory() ? listFolder(folder) : []
  for (const files of alternatives) {
    const absent = files.filter((name) => !present.some((p) => matches(name, p)))
    if (absent.length < files.length) return ` (${absent.join(', ')})`
  }
  return ''
}

/** part2 before part10. */
const collator = new Intl.Collator('en', { numeric: true })
export const naturalOrder = (a: string, b: string): number => collator.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0)

function matches(pattern: string, name: string): boolean {
  const [head = '', tail] = pattern.split('*')
  if (tail === undefined) return pattern === name
  return name.length >= head.length + tail.length && name.startsWith(head) && name.endsWith(tail)
}
