/**
 * Options declared once. A pass, a command or a recipe stage declares its options as an `OptionTable`; the TypeScript
 * type, command-line flags, help text, defaults, validation and JSON Schema all derive from it.
 */
import { editDistance } from './edit-distance.ts'
import { usageError } from './errors.ts'
import { type ShareSpec, shareFaults, sharesSchema, toShares } from './shares.ts'

interface Common {
  readonly description: string
  /** Placeholder in help, e.g. `DIR`. */
  readonly placeholder?: string
  /** One-letter flag. */
  readonly short?: string
  /** What completion offers where any text is allowed. */
  readonly suggestions?: readonly string[] | (() => Promise<readonly string[]>)
}

/** `isOpen`: a configuration may add to the choices, so that the compiler takes any text. */
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
    /** Fractions, written 0.01 or '1%'. */
    | ShareSpec
    | { readonly type: 'boolean'; readonly default?: boolean }
    | {
        readonly type: 'string'
        readonly default?: string
        readonly enum?: readonly string[]
        readonly isOpen?: boolean
      }
    /** One of the choices for everything, or name=choice pairs. */
    | {
        readonly type: 'choice'
        readonly default?: string
        readonly enum: readonly string[]
        readonly isOpen?: boolean
      }
    | { readonly type: 'strings'; readonly default?: readonly string[] }
    | { readonly type: 'numbers'; readonly default?: readonly number[] }
    /** name=number pairs, e.g. per-layer overrides: `--layer-sparsity conv1=0.5`. */
    | { readonly type: 'numberMap'; readonly default?: Readonly<Record<string, number>> }
    /** name=text pairs, one per flag: `--input-shape x=1,3,224,224`. */
    | { readonly type: 'stringMap'; readonly default?: Readonly<Record<string, string>> }
  )

/** Options by name; flags, help, schemas and types derive from the table. */
export type OptionTable = Readonly<Record<string, OptionSpec>>

type ValueOf<S extends OptionSpec> = S extends { readonly enum: readonly (infer E)[] }
  ? S extends { readonly type: 'choice' }
    ? E | Readonly<Record<string, E>>
    : E
  : S extends { readonly type: 'number' | 'integer' | 'share' }
    ? number
    : S extends { readonly type: 'boolean' }
      ? boolean
      : S extends { readonly type: 'strings' }
        ? readonly string[]
        : S extends { readonly type: 'numbers' | 'shares' }
          ? readonly number[]
          : S extends { readonly type: 'numberMap' | 'shareMap' }
            ? Readonly<Record<string, number>>
            : S extends { readonly type: 'stringMap' }
              ? Readonly<Record<string, string>>
              : string

/** What `run` receives: options with a default are always there, the others may be undefined. */
export type OptionsOf<T extends OptionTable> = {
  readonly [K in keyof T]: T[K] extends { readonly default: unknown } ? ValueOf<T[K]> : ValueOf<T[K]> | undefined
}

/** A fraction: 0.01 or '1%'. */
export type Share = number | `${number}%`

/** What a caller may give. */
export type OptionsInput<T extends OptionTable> = {
  readonly [K in keyof T]?: InputOf<T[K]> | undefined
}

type InputOf<S extends OptionSpec> = S extends { readonly type: 'share' }
  ? Share
  : S extends { readonly type: 'shares' }
    ? readonly Share[]
    : S extends { readonly type: 'shareMap' }
      ? Readonly<Record<string, Share>>
      : ValueOf<S>

/** Keeps literal types of a table. */
export const optionTable = <const T extends OptionTable>(table: T): T => table

/** Of a command's options those that a table declares. */
export const optionsIn = <T extends OptionTable>(table: T, options: object): OptionsInput<T> =>
  Object.fromEntries(Object.keys(table).map((k) => [k, Reflect.get(options, k)])) as OptionsInput<T>

/** camelCase option name to `--kebab-case` flag. */
export const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`

/** JSON Schema (draft-07) of a table. */
export function jsonSchemaOf(table: OptionTable): Record<string, unknown> {
  const properties: Record<string, unknown> = {}
  for (const [name, spec] of Object.entries(table)) {
    if (spec.type === 'share' || spec.type === 'shares' || spec.type === 'shareMap') {
      properties[name] = sharesSchema(spec)
      continue
    }
    const { placeholder: _p, short: _s, suggestions: _v, type, ...all } = spec
    const { isOpen: _o, ...rest } = { isOpen: false, ...all }
    if (type === 'strings') properties[name] = { type: 'array', items: { type: 'string' }, ...rest }
    else if (type === 'numbers') properties[name] = { type: 'array', items: { type: 'number' }, ...rest }
    else if (type === 'numberMap')
      properties[name] = { type: 'object', additionalProperties: { type: 'number' }, ...rest }
    else if (type === 'stringMap')
      properties[name] = { type: 'object', additionalProperties: { type: 'string' }, ...rest }
    else if (spec.type === 'choice') {
      const choice = { type: 'string', enum: spec.enum }
      const { description, default: otherwise } = spec
      properties[name] = {
        anyOf: [choice, { type: 'object', additionalProperties: choice }],
        description,
        ...(otherwise !== undefined && { default: otherwise }),
      }
    } else properties[name] = { type, ...rest }
  }
  return { type: 'object', properties, additionalProperties: false }
}

/**
 * Checks `given` against the table and fills the defaults in; throws a usage error that names every fault. By hand: ajv
 * takes 40 ms to load and compile, a quarter of a short command. The tests compare the two.
 */
export function parseOptions<T extends OptionTable>(
  table: T,
  given: Readonly<Record<string, unknown>>,
  owner: string,
): OptionsOf<T> {
  const options: Record<string, unknown> = {}
  const faults: string[] = []
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue
    const spec = Object.hasOwn(table, name) ? table[name] : undefined
    options[name] = spec?.type.startsWith('share') ? toShares(value) : structuredClone(value)
    if (spec) faults.push(...faultsOf(spec, value).map((fault) => `${flagOf(name)} must be ${fault}`))
    else {
      const near = nearest(name, Object.keys(table))
      faults.push(`unknown option '${name}'${near ? `, did you mean '${near}'?` : ''}`)
    }
  }
  if (faults.length > 0) throw usageError(`${owner}: ${faults.join('; ')}`)
  for (const [name, spec] of Object.entries(table))
    if (options[name] === undefined && spec.default !== undefined) options[name] = structuredClone(spec.default)
  return options as OptionsOf<T>
}

const isNumber = (x: unknown): x is number => typeof x === 'number' && Number.isFinite(x)

/** What a value must be and is not. */
function faultsOf(spec: OptionSpec, x: unknown): string[] {
  const unless = (good: boolean, what: string): string[] => (good ? [] : [what])
  switch (spec.type) {
    case 'number':
    case 'integer': {
      if (!isNumber(x) || (spec.type === 'integer' && !Number.isInteger(x))) return [spec.type]
      const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = spec
      return [
        ...unless(minimum === undefined || x >= minimum, `>= ${minimum}`),
        ...unless(maximum === undefined || x <= maximum, `<= ${maximum}`),
        ...unless(exclusiveMinimum === undefined || x > exclusiveMinimum, `> ${exclusiveMinimum}`),
        ...unless(exclusiveMaximum === undefined || x < exclusiveMaximum, `< ${exclusiveMaximum}`),
      ]
    }
    case 'share':
      return shareFaults(x, spec)
    case 'shares':
      return Array.isArray(x) ? x.flatMap((item) => shareFaults(item, spec)) : ['array']
    case 'shareMap':
      if (typeof x !== 'object' || x === null || Array.isArray(x)) return ['object']
      return Object.entries(x).flatMap(([name, item]) => shareFaults(item, spec).map((fault) => `${fault} (${name})`))
    case 'boolean':
      return unless(typeof x === 'boolean', 'boolean')
    case 'string':
      if (typeof x !== 'string') return ['string']
      return unless(!spec.enum || spec.enum.includes(x), `one of ${spec.enum?.join(', ')}`)
    case 'choice': {
      const chosen = typeof x === 'object' && x !== null && !Array.isArray(x) ? Object.values(x) : [x]
      const list = spec.enum.join(', ')
      return chosen.flatMap((v) =>
        unless(typeof v === 'string' && spec.enum.includes(v), `one of ${list}, or NAME=CHOICE for individual names`),
      )
    }
    case 'strings':
      if (!Array.isArray(x)) return ['array']
      return x.flatMap((item) => unless(typeof item === 'string', 'string'))
    case 'numbers':
      if (!Array.isArray(x)) return ['array']
      return x.flatMap((item) => unless(isNumber(item), 'number'))
    case 'numberMap':
      if (typeof x !== 'object' || x === null || Array.isArray(x)) return ['object']
      return Object.values(x).flatMap((item) => unless(isNumber(item), 'number'))
    case 'stringMap':
      if (typeof x !== 'object' || x === null || Array.isArray(x)) return ['object']
      return Object.values(x).flatMap((item) => unless(typeof item === 'string', 'string'))
  }
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
