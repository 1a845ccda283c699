/**
 * Reads a recipe: JSON, checked against the schema, options of the stages filled in from `defaults` and the tables'
 * own, and every reference to a stage checked. All errors are usage errors that name the stage.
 */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Ajv, type ErrorObject } from 'ajv'
import { MncError, usageError } from '../base/errors.ts'
import { readText } from '../base/files.ts'
import { nearest, type OptionsOf, type OptionTable, parseOptions } from '../base/options.ts'
import { packageFile } from '../base/package-files.ts'
import { writtenShareFault } from '../base/shares.ts'
import { refuseMetrics } from '../check/check-options.ts'
import { calibrationOptions } from '../data/calibration-options.ts'
import type { dataOptions } from '../data/data-options.ts'
import { RANDOM } from '../data/random-options.ts'
import { metricNamed } from '../evaluate/metrics/chosen.ts'
import { loadSpec, type NetworkSpec } from '../models/spec.ts'
import { findPass } from '../passes/run-pass.ts'
import {
  type Graphs,
  kebab,
  passTable,
  type Recipe,
  recipeSchema,
  type Source,
  type Stage,
  stageTables,
} from './recipe.ts'

type Options = Readonly<Record<string, unknown>>

interface RawStage {
  readonly name: string
  readonly description?: string
  readonly build?: string | NetworkSpec
  readonly from?: string
  readonly teacher?: string
  readonly data?: string
  readonly reading?: Options
  readonly seed?: number
  readonly pixels?: Options
  readonly sizes?: Options
  readonly passes?: readonly Readonly<Record<string, Options>>[]
  readonly train?: Options
  readonly 'bn-update'?: Options
  readonly export?: Options
  readonly eval?: Options | boolean
  readonly score?: Options | boolean
  readonly check?: readonly Options[]
}

interface RawRecipe {
  readonly name: string
  readonly description?: string
  readonly data?: string
  readonly reading?: Options
  readonly seed?: number
  readonly defaults?: Readonly<Record<string, Options | boolean>>
  readonly stages: readonly RawStage[]
}

/** What takes the place of a recipe's own settings. */
export interface RecipeOverrides {
  /** In place of the recipe's own. */
  readonly data?: string | undefined
  /** In place of single options of the recipe's own, named as in the table. */
  readonly reading?: Partial<OptionsOf<typeof dataOptions>> | undefined
  readonly seed?: number | undefined
  readonly device?: string | undefined
}

/** Recipes that come with the package. */
const RECIPE_FOLDER = packageFile('models/')

/** Reads the recipe of a JSON file, or of a name in models/. */
export async function loadRecipe(reference: string, overrides: RecipeOverrides = {}): Promise<Recipe> {
  const named = join(RECIPE_FOLDER, `${reference}.json`)
  const path = !existsSync(reference) && /^[\w.-]+$/.test(reference) && existsSync(named) ? named : reference
  if (!existsSync(path)) throw await noRecipe(reference)
  const text = await readText(path)
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (cause) {
    throw usageError(`${reference}: not valid JSON: ${cause instanceof Error ? cause.message : cause}`)
  }
  return parseRecipe(json, overrides, reference)
}

/** Names of the recipes in models/. */
export async function recipeNames(): Promise<readonly string[]> {
  const files = (await readdir(RECIPE_FOLDER)).filter((f) => f.endsWith('.json'))
  const known: string[] = []
  for (const f of files)
    if (/"stages"\s*:/.test(await readText(join(RECIPE_FOLDER, f)))) known.push(f.slice(0, -'.json'.length))
  return known
}

async function noRecipe(reference: string): Promise<MncError> {
  const known = await recipeNames()
  const near = nearest(reference, known)
  return usageError(
    `there is no recipe '${reference}'${near ? `, did you mean '${near}'?` : ''}`,
    `give a JSON file, or one of ${known.join(', ')}`,
  )
}

/** A parsed recipe, checked; `where` names it in messages. */
export async function parseRecipe(json: unknown, overrides: RecipeOverrides = {}, where = 'recipe'): Promise<Recipe> {
  if (!isRecipe(json))
    throw usageError(`${where}: ${faultsOf(json).join('; ')}`, 'mnc run --schema prints what a recipe may hold')
  const at = (stage: RawStage, message: string, next?: string): MncError =>
    usageError(`${where}: stage '${stage.name}': ${message}`, next)
  const names = json.stages.map((s) => s.name)
  const double = json.stages.find((s, i) => names.indexOf(s.name) !== i)
  if (double) throw at(double, 'there are two stages with this name')
  const taken = json.stages.find((s) => /\.(best|checkpoint)$/.test(s.name))
  if (taken)
    throw at(
      taken,
      'this name is reserved for files of other stages',
      'choose a name that does not end in .best or .checkpoint',
    )
  refuseCycles(json.stages, at)
  const stages: Stage[] = []
  for (const raw of json.stages) {
    const earlier = stages.map((s) => s.name)
    const graphs = (reference: string): Graphs => {
      if (earlier.includes(reference)) return { kind: 'stage', name: reference }
      if (names.includes(reference)) throw at(raw, `'${reference}' comes after it`, 'stages run in the order given')
      if (/[\\/.]/.test(reference)) {
        if (existsSync(reference)) return { kind: 'file', path: reference }
        throw at(raw, `there is no file '${reference}'`)
      }
      const near = nearest(reference, earlier)
      const known = earlier.length > 0 ? `earlier stages: ${earlier.join(', ')}` : 'it is the first stage'
      throw at(raw, `there is no stage '${reference}'${near ? `, did you mean '${near}'?` : ''}`, known)
    }
    stages.push(await stageOf(raw, json, overrides, graphs, (message, next) => at(raw, message, next)))
  }
  return { name: json.name, description: json.description ?? null, stages }
}

async function stageOf(
  raw: RawStage,
  recipe: RawRecipe,
  overrides: RecipeOverrides,
  graphs: (reference: string) => Graphs,
  fault: (message: string, next?: string) => MncError,
): Promise<Stage> {
  const { defaults = {} } = recipe
  const options = <T extends OptionTable>(table: T, given: Options, name: string): OptionsOf<T> =>
    parseOptions(table, camelKeys(table, given), `stage '${raw.name}', ${name}`)
  const onDevice = (name: string): Options =>
    overrides.device === undefined || name === 'score' ? {} : { device: overrides.device }
  const merged = (name: 'train' | 'bn-update' | 'eval' | 'score', given: Options | boolean | undefined) =>
    given === undefined || given === false
      ? null
      : { ...asOptions(defaults[name]), ...asOptions(given), ...onDevice(name) }
  const known = (check: () => unknown): void => {
    try {
      check()
    } catch (error) {
      if (!(error instanceof MncError)) throw error
      throw fault(error.message, error.next)
    }
  }
  const wholesale = (name: 'eval' | 'score'): Options | boolean | undefined => raw[name] ?? defaults[name]
  const data = overrides.data ?? raw.data ?? recipe.data ?? null
  const asked = Object.fromEntries(Object.entries(overrides.reading ?? {}).filter(([, v]) => v !== undefined))

  if (raw.build !== undefined && raw.from !== undefined) throw fault('it has both build and from', 'give one of them')
  if (raw.teacher !== undefined && !raw.train) throw fault('it has a teacher but no train')
  const train = merged('train', raw.train)
  const bnUpdate = merged('bn-update', raw['bn-update'])
  const measure = merged('eval', data === null || data === RANDOM ? undefined : (wholesale('eval') ?? {}))
  const evaluating = measure && options(stageTables.eval, measure, 'eval')
  known(() => evaluating?.metric?.map(metricNamed))
  const score = merged('score', wholesale('score'))
  const passes = (raw.passes ?? []).map((item) => {
    const [[name, given]] = Object.entries(item) as [[string, Options]]
    const def = findPass(name)
    const all = options(passTable(def), given, name)
    const own = Object.fromEntries(Object.keys(def.options).map((k) => [k, all[k]]))
    const sizes = Object.fromEntries(Object.keys(calibrationOptions).map((k) => [k, all[k]]))
    const calibration = def.data ? parseOptions(calibrationOptions, sizes, name) : null
    return { def, options: own, calibration }
  })
  const source = await sourceOf(raw, graphs, fault)
  const checks = (raw.check ?? []).map(({ against, ...given }) => {
    const reference = against === undefined && source.kind !== 'build' ? source : null
    if (against === undefined && !reference) throw fault('check has nothing to compare with', 'give against')
    const own = options(stageTables.check, given, 'check')
    known(() => refuseMetrics(own))
    return { against: reference ?? graphs(String(against)), options: own }
  })
  const needs = [train && 'train', bnUpdate && 'bn-update', checks.length > 0 && 'check'].filter(Boolean)
  const onImages = [raw.eval && 'eval', bnUpdate && 'bn-update', checks.length > 0 && 'check'].filter(Boolean)
  if (data === RANDOM && onImages.length > 0)
    throw fault(`${onImages.join(' and ')} need images, and its data are random`, 'leave them out, or name a data set')
  if (data === null && needs.length > 0)
    throw fault(`${needs.join(' and ')} need data`, 'name them in "data" of the recipe or the stage, or with --data')
  return {
    name: raw.name,
    description: raw.description ?? null,
    source,
    teacher: raw.teacher === undefined ? null : graphs(raw.teacher),
    data,
    reading: { ...options(stageTables.reading, { ...recipe.reading, ...raw.reading }, 'reading'), ...asked },
    seed: overrides.seed ?? raw.seed ?? recipe.seed ?? 0,
    pixels: options(stageTables.pixels, raw.pixels ?? {}, 'pixels'),
    sizes: options(stageTables.sizes, raw.sizes ?? {}, 'sizes'),
    passes,
    train: train && options(stageTables.train, train, 'train'),
    bnUpdate: bnUpdate && options(stageTables['bn-update'], bnUpdate, 'bn-update'),
    export: raw.export ? options(stageTables.export, raw.export, 'export') : null,
    eval: evaluating,
    score: score && options(stageTables.score, score, 'score'),
    checks,
  }
}

async function sourceOf(
  raw: RawStage,
  graphs: (reference: string) => Graphs,
  fault: (message: string, next?: string) => MncError,
): Promise<Source> {
  if (raw.from !== undefined) return graphs(raw.from)
  if (raw.build === undefined) throw fault('it does not say where its graph comes from', 'give build or from')
  if (typeof raw.build === 'string')
    return {
      kind: 'build',
      reference: raw.build,
      inline: false,
      spec: await loadSpec(raw.build).catch((e) => rethrow(e, raw)),
    }
  if (typeof raw.build.family !== 'string') throw fault('build needs a "family"')
  return { kind: 'build', reference: raw.build.family, inline: true, spec: raw.build }
}

function rethrow(error: unknown, raw: RawStage): never {
  if (error instanceof Error && 'describe' in error) throw usageError(`stage '${raw.name}': ${error.message}`)
  throw error
}

/** The references among stages, followed until they meet themselves. */
function refuseCycles(stages: readonly RawStage[], at: (s: RawStage, m: string, n?: string) => MncError): void {
  const byName = new Map(stages.map((s) => [s.name, s]))
  const done = new Set<string>()
  const visit = (stage: RawStage, path: readonly string[]): void => {
    const from = path.indexOf(stage.name)
    if (from >= 0) throw at(stage, `it depends on itself: ${[...path.slice(from), stage.name].join(' -> ')}`)
    if (done.has(stage.name)) return
    const against = (stage.check ?? []).map((c) => c.against)
    for (const r of [stage.from, stage.teacher, ...against]) {
      const next = typeof r === 'string' ? byName.get(r) : undefined
      if (next) visit(next, [...path, stage.name])
    }
    done.add(stage.name)
  }
  for (const s of stages) visit(s, [])
}

const asOptions = (x: Options | boolean | undefined): Options => (typeof x === 'object' ? x : {})

/** Option names of the command line to those of the table. */
function camelKeys(table: OptionTable, given: Options): Options {
  const byFlag = new Map(Object.keys(table).map((name) => [kebab(name), name]))
  return Object.fromEntries(Object.entries(given).map(([k, v]) => [byFlag.get(k) ?? k, v]))
}

/** Another configuration brings another schema. */
let compiled: { readonly schema: string; readonly check: ReturnType<typeof compile> } | undefined
// the schema is large and checks one document: making its code smaller takes longer than that saves
const compile = (schema: object) =>
  new Ajv({ allErrors: true, strict: false, verbose: true, code: { optimize: false } }).compile<RawRecipe>(schema)

function isRecipe(json: unknown): json is RawRecipe {
  const schema = recipeSchema()
  const text = JSON.stringify(schema)
  if (compiled?.schema !== text) compiled = { schema: text, check: compile(schema) }
  return compiled.check(json)
}

/** What ajv found, in words: `stage 'pruned', train: unknown 'epoch', did you mean 'epochs'?`. */
function faultsOf(json: unknown): string[] {
  const errors = compiled?.check.errors ?? []
  const faults = errors.filter((e) => !saysLess(e, errors)).map((e) => `${placeOf(e.instancePath, json)}${faultOf(e)}`)
  return [...new Set(faults)].slice(0, 5)
}

/** Of a value that may take several forms: that it has none, and that it has not another one, where the form it has is at fault. */
function saysLess(e: ErrorObject, errors: readonly ErrorObject[]): boolean {
  if (e.keyword === 'anyOf') return true
  const telling = errors.some(
    (o) => o.instancePath.startsWith(e.instancePath) && !['type', 'anyOf'].includes(o.keyword),
  )
  return (
    e.keyword === 'type' && telling && errors.some((o) => o.keyword === 'anyOf' && o.instancePath === e.instancePath)
  )
}

function faultOf(e: ErrorObject): string {
  if (e.keyword === 'additionalProperties') {
    const unknown = String((e.params as { additionalProperty: string }).additionalProperty)
    const { properties = {} } = (e.parentSchema ?? {}) as { properties?: object }
    const near = nearest(unknown, Object.keys(properties))
    return `unknown '${unknown}'${near ? `, did you mean '${near}'?` : ''}`
  }
  if (e.keyword === 'enum') {
    const { allowedValues } = e.params as { allowedValues: readonly string[] }
    const near = typeof e.data === 'string' && nearest(e.data, allowedValues)
    return `must be one of ${allowedValues.join(', ')}${near ? `; did you mean '${near}'?` : ''}`
  }
  const schema = e.parentSchema ?? {}
  // only fractions are numbers or text
  if (Array.isArray(schema.type) && schema.type.includes('number')) return writtenShareFault(e.data, schema)
  if (e.keyword === 'pattern')
    return `'${String(e.data)}' cannot be used as the name of a file or folder (it has a separator or a leading dot)`
  return e.message ?? 'is invalid'
}

function placeOf(path: string, json: unknown): string {
  const parts = path.split('/').slice(1)
  const words: string[] = []
  if (parts[0] === 'stages' && parts[1] !== undefined) {
    const stages = (json as { stages?: unknown }).stages
    const stage = Array.isArray(stages) ? (stages[Number(parts[1])] as { name?: unknown } | null) : null
    words.push(typeof stage?.name === 'string' ? `stage '${stage.name}'` : `stage ${Number(parts[1]) + 1}`)
    parts.splice(0, 2)
  }
  words.push(...parts.filter((p) => !/^\d+$/.test(p)))
  return words.length > 0 ? `${words.join(', ')}: ` : ''
}
