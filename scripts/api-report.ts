/**
 * The library's published interface as text, made from the declarations that the build writes: every export of the package,
 * and behind them what they refer to, without comments. docs/api.txt is the committed one.
 *
 *     npm run build && node --import tsx scripts/api-report.ts
 *
 * writes it anew, and refuses where the current section of CHANGELOG.md names no change that it finds.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { flagOf } from '../src/base/options.ts'

/** Declarations by name; those that are not exports of the package have their file before the name. */
export type Report = ReadonlyMap<string, string>

interface Module {
  /** Declarations by name, overloads together. */
  readonly own: ReadonlyMap<string, string>
  /** Names that come from other modules: where from, and as what. */
  readonly imported: ReadonlyMap<string, { readonly file: string; readonly name: string }>
}

const DECLARED = /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type|function|const|let) (?:\* )?([\w$]+)/

/** A `.d.ts` as the compiler writes it: what starts in the first column is a statement, what is indented belongs to it. */
function readModule(file: string): Module {
  const text = readFileSync(file, 'utf8')
    .replace(/^\s*\/\*\*[\s\S]*?\*\/\n/gm, '')
    .replaceAll('"', "'")
    .replace(/^\s*readonly description: .*\n/gm, '')
  const own = new Map<string, string>()
  const imported = new Map<string, { file: string; name: string }>()
  for (const statement of text.split(/\n(?=\S)(?!\})/)) {
    const [, names, from] = /^(?:import|export)(?: type)? \{([\s\S]*)\} from '([^']+)'/.exec(statement) ?? []
    if (names !== undefined && from?.startsWith('.'))
      for (const item of names.split(',').filter((n) => n.trim() !== '')) {
        const [name = '', alias = name] = item
          .trim()
          .replace(/^type /, '')
          .split(' as ')
        imported.set(alias, { file: declarationsOf(file, from), name })
      }
    const [, all] = /^export(?: type)? \* from '([^']+)'/.exec(statement) ?? []
    if (all !== undefined) {
      const other = declarationsOf(file, all)
      for (const name of readModule(other).own.keys()) imported.set(name, { file: other, name })
    }
    const [, name] = DECLARED.exec(statement) ?? []
    if (name !== undefined) own.set(name, [own.get(name), statement.trim()].filter(Boolean).join('\n'))
  }
  return { own, imported }
}

const declarationsOf = (file: string, from: string): string =>
  resolve(dirname(file), from.replace(/\.(ts|js)$/, '.d.ts'))

/** `entry`: the package's own declarations. */
export function reportOf(entry: string): Report {
  const root = dirname(resolve(entry))
  const modules = new Map<string, Module>()
  const read = (file: string): Module => {
    const known = modules.get(file) ?? readModule(file)
    modules.set(file, known)
    return known
  }
  const found = new Map<string, string>()
  const seen = new Set<string>()
  const visit = (file: string, name: string, label: string | null): void => {
    const { own, imported } = read(file)
    const elsewhere = imported.get(name)
    if (elsewhere) {
      if (existsSync(elsewhere.file)) visit(elsewhere.file, elsewhere.name, label)
      return
    }
    const text = own.get(name)
    const key = `${file}:${name}`
    if (text === undefined || (label === null && seen.has(key))) return
    seen.add(key)
    found.set(label ?? `${file.slice(root.length + 1).replace('.d.ts', '')}: ${name}`, text)
    for (const [word] of text.matchAll(/[A-Za-z_$][\w$]*/g))
      if (word !== name && (own.has(word) || imported.has(word))) later.push(() => visit(file, word, null))
  }
  const later: (() => void)[] = []
  const entryModule = read(resolve(entry))
  for (const name of [...entryModule.imported.keys()].sort()) visit(resolve(entry), name, name)
  for (let next = later.shift(); next; next = later.shift()) next()
  const isExport = (key: string): boolean => !key.includes(': ')
  return new Map(
    [...found].sort(([a], [b]) => Number(isExport(b)) - Number(isExport(a)) || (a < b ? -1 : a > b ? 1 : 0)),
  )
}

export const textOf = (report: Report): string => [...report].map(([name, text]) => `# ${name}\n${text}\n`).join('\n')

export function parseReport(text: string): Report {
  return new Map(
    text
      .split(/^# /m)
      .filter((part) => part.trim() !== '')
      .map((part) => {
        const at = part.indexOf('\n')
        return [part.slice(0, at), part.slice(at + 1).trim()] as const
      }),
  )
}

/** Names whose declaration is new, gone or another one. */
export function changesOf(before: Report, now: Report): string[] {
  return [...new Set([...before.keys(), ...now.keys()])].filter((name) => before.get(name) !== now.get(name))
}

/**
 * What has changed and is not named, in code, in the current (first) section of a change log. Functions and classes are to be
 * named themselves; of types and tables a member or a choice that is new, gone or different will do, also as a flag of the
 * command line.
 */
export function unsaid(before: Report, now: Report, changelog: string): string[] {
  const section = changelog.split(/^## /m)[1] ?? ''
  const said = new Set([...section.matchAll(/`([^`]+)`/g)].flatMap(([, code = '']) => code.match(/[\w$-]+/g) ?? []))
  return changesOf(before, now).filter((name) => {
    const [old, own] = [before.get(name), now.get(name)]
    const isTable = old !== undefined && own !== undefined && /^(export )?(declare )?(interface|type|const) /.test(own)
    const names = [name.replace(/^.*: /, ''), ...(isTable ? wordsOfChange(old, own) : [])]
    return !names.some((n) => said.has(n) || said.has(flagOf(n)))
  })
}

/** Members and choices in the lines that differ. */
function wordsOfChange(before: string, now: string): string[] {
  const [old, own] = [before.split('\n'), now.split('\n')]
  const lines = [...own.filter((l) => !old.includes(l)), ...old.filter((l) => !own.includes(l))]
  return lines.flatMap((l) =>
    [...l.matchAll(/([\w$]+)\??:|'([^']+)'/g)].map(([, member, choice]) => member ?? choice ?? ''),
  )
}

export const API = 'docs/api.txt'

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = join(import.meta.dirname, '..')
  const now = reportOf(join(root, 'dist/index.d.ts'))
  const before = existsSync(join(root, API)) ? parseReport(readFileSync(join(root, API), 'utf8')) : now
  const missing = unsaid(before, now, readFileSync(join(root, 'CHANGELOG.md'), 'utf8'))
  if (missing.length > 0) {
    console.error(
      `the current section of CHANGELOG.md does not name what has changed in the library:\n${missing.join('\n')}`,
    )
    process.exitCode = 1
  } else writeFileSync(join(root, API), textOf(now))
}
