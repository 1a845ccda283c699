/**
 * Choosing nodes and layers by what users type: names with `*` (any run of characters) and `?` (one character).
 * A pattern that matches nothing is probably a typo: a usage error that suggests the nearest name.
 */
import { usageError } from '../base/errors.ts'
import { nearest } from '../base/options.ts'

const GLOB = /[*?]/

/** The regular expression of a glob; the whole name must fit. */
export function globToRegExp(glob: string): RegExp {
  const body = glob
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${body}$`, 's')
}

/** Something that answers to several names: a node to its own, its outputs', its weight's. */
export interface Named {
  readonly names: readonly string[]
}

/** The candidates that at least one pattern fits; a usage error for a pattern that fits none. */
export function selectNamed<T extends Named>(
  patterns: readonly string[],
  candidates: readonly T[],
  what: string,
): Set<T> {
  const chosen = new Set<T>()
  for (const pattern of patterns) {
    const re = globToRegExp(pattern)
    const hits = candidates.filter((c) => c.names.some((n) => re.test(n)))
    if (hits.length === 0) throw noSuchName(pattern, candidates, what)
    for (const c of hits) chosen.add(c)
  }
  return chosen
}

/**
 * Values of `name=value` overrides by candidate. A whole name wins over a glob, else the later entry: JavaScript and
 * JSON objects put names that are integers first, whatever was typed.
 */
export function mapNamed<T extends Named, V>(
  overrides: Readonly<Record<string, V>>,
  candidates: readonly T[],
  what: string,
): Map<T, V> {
  const out = new Map<T, V>()
  const globs = Object.entries(overrides).filter(([pattern]) => GLOB.test(pattern))
  const names = Object.entries(overrides).filter(([pattern]) => !GLOB.test(pattern))
  for (const [pattern, value] of [...globs, ...names])
    for (const c of selectNamed([pattern], candidates, what)) out.set(c, value)
  return out
}

function noSuchName(pattern: string, candidates: readonly Named[], what: string): Error {
  const names = [...new Set(candidates.flatMap((c) => c.names.slice(0, 1)))]
  const near = nearest(pattern, names)
  const some = names.slice(0, 8).join(', ')
  const known = names.length === 0 ? 'there are none' : `there are ${some}${names.length > 8 ? ', ...' : ''}`
  return usageError(`no ${what} matches '${pattern}'`, near ? `did you mean '${near}'?` : known)
}
