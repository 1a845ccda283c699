/**
 * Options declared once. A pass, a command or a recipe stage declares its options as an `OptionTable`; the TypeScript
 * type, command-line flags, help text, defaults, validation (ajv) and JSON Schema all derive from it.
 */
import { createRequire } from 'node:module'
import type { Ajv, ErrorObject } from 'ajv'
import { usageError } from './errors.ts'

interface Common {
  readonly description: string
  /** Placeholder in help, e.g. `DIR`. */
  readonly placeholder?: string
  /** One-letter flag. */
  readonly short?: string
}

export type OptionSpec = Common &
  (
    | {
        readonly type: 'number' | 'integer'
        readonly default?: number
        readonly minimum?: number
        readonly maximum?: number
        readonly exclusiveMinimum?: number
        readonly exclusiveMaximum?: number
      }
    | { readonly type: 'boolean'; readonly default?: boolean }
    | { readonly type: 'string'; readonly default?: string; readonly enum?: readonly string[] }
    | { readonly type: 'strings'; readonly default?: readonly string[] }
    | { readonly type: 'numbers'; readonly default?: readonly number[] }
    /** name=number pairs, e.g. per-layer overrides: `--layer-sparsity conv1=0.5`. */
    | { readonly type: 'numberMap'; readonly default?: Readonly<Record<string, number>> }
  )

export type OptionTable = Readonly<Record<string, OptionSpec>>

type ValueOf<S extends OptionSpec> = S extends { readonly enum: readonly (infer E)[] }
  ? E
  : S extends { readonly type: 'number' | 'integer' }
    ? number
    : S extends { readonly type: 'boolean' }
      ? boolean
      : S extends { readonly type: 'strings' }
        ? readonly string[]
        : S extends { readonly type: 'numbers' }
          ? readonly number[]
          : S extends { readonly type: 'numberMap' }
            ? Readonly<Record<string, number>>
            : string

/** What `run` receives: options with a default are always there, the others may be undefined. */
export type OptionsOf<T extends OptionTable> = {
  readonly [K in keyof T]: T[K] extends { readonly default: unknown } ? ValueOf<T[K]> : ValueOf<T[K]> | undefined
}

/** What a caller may give. */
export type OptionsInput<T extends OptionTable> = { readonly [K in keyof T]?: ValueOf<T[K]> | undefined }

/** Keeps literal types of a table. */
export const optionTable = <const T extends OptionTable>(table: T): T => table

/** camelCase option name to `--kebab-case` flag. */
export const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`

/** JSON Schema (draft-07) of a table. */
export function jsonSchemaOf(table: OptionTable): Record<string, unknown> {
  const properties: Record<string, unknown> = {}
  for (const [name, spec] of Object.entries(table)) {
    const { placeholder: _p, short: _s, type, ...rest } = spec
    if (type === 'strings') properties[name] = { type: 'array', items: { type: 'string' }, ...rest }
    else if (type === 'numbers') properties[name] = { type: 'array', items: { type: 'number' }, ...rest }
    else if (type === 'numberMap')
      properties[name] = { type: 'object', additionalProperties: { type: 'number' }, ...rest }
    else properties[name] = { type, ...rest }
  }
  return { type: 'object', properties, additionalProperties: false }
}

let engine: Ajv | undefined
/** ajv takes 80 ms to load, and declarations are imported where nothing is parsed (help, completion). */
function ajv(): Ajv {
  const { Ajv: Engine } = createRequire(import.meta.url)('ajv') as typeof import('ajv')
  engine ??= new Engine({ useDefaults: true, allErrors: true, strict: false })
  return engine
}
const compiled = new WeakMap<OptionTable, ReturnType<Ajv['compile']>>()

/** Checks `given` against the table and fills the defaults in; throws a usage error that names every fault. */
export function parseOptions<T extends OptionTable>(
  table: T,
  given: Readonly<Record<string, unknown>>,
  owner: string,
): OptionsOf<T> {
  let check = compiled.get(table)
  if (!check) {
    check = ajv().compile(jsonSchemaOf(table))
    compiled.set(table, check)
  }
  const options: Record<string, unknown> = {}
  for (const [k, v] of Object.entries(given)) if (v !== undefined) options[k] = structuredClone(v)
  if (!check(options)) {
    const faults = (check.errors ?? []).map((e) => describeFault(e, Object.keys(table)))
    throw usageError(`${owner}: ${faults.join('; ')}`)
  }
  return options as OptionsOf<T>
}

function describeFault(e: ErrorObject, known: readonly string[]): string {
  const name = e.instancePath.split('/')[1]
  if (e.keyword === 'additionalProperties') {
    const unknown = String((e.params as { additionalProperty: string }).additionalProperty)
    const near = nearest(unknown, known)
    return `unknown option '${unknown}'${near ? `, did you mean '${near}'?` : ''}`
  }
  if (e.keyword === 'enum') {
    const allowed = (e.params as { allowedValues: readonly string[] }).allowedValues
    return `${flagOf(name ?? '')} must be one of ${allowed.join(', ')}`
  }
  return `${name ? flagOf(name) : 'options'} ${e.message}`
}

/** The candidate with the smallest edit distance to `word`, where that is close enough to be a slip. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const c of candidates) {
    const d = editDistance(word.toLowerCase(), c.toLowerCase())
    if (d < bestDistance) {
      best = c
      bestDistance = d
    }
  }
  return best
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}
