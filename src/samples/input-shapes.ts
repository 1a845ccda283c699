/**
 * Sizes that inputs of a model are run with where its file leaves them open: what --dim and --input-shape said, kept in
 * metadata_props as JSON under `mnc.input-shapes` (dims by input; null and symbols are open). The file's own types stay
 * as they are, so the same file still takes other sizes; `mnc convert` writes sizes into the types themselves
 * (declared-shapes.ts).
 */

import { modelError, usageError } from '../base/errors.ts'
import { nearest, type OptionsInput } from '../base/options.ts'
import type { Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { type Dim, formatType } from '../graph/types.ts'
import type { sizeOptions } from './size-options.ts'

/** Sizes of dims that a model leaves open, as `--dim` and `--input-shape` give them. */
export type GivenSizes = OptionsInput<typeof sizeOptions>

/** Dims by input. */
export type InputDims = Readonly<Record<string, readonly Dim[]>>

/** Dims of the fed inputs: what the file fixes, else what is recorded; inputs of unknown rank without a record are absent. */
export function inputDims(model: Model): InputDims {
  const record = readRecord(model)
  const dims: Record<string, readonly Dim[]> = {}
  for (const v of model.graph.fed) {
    const own = v.type?.dims?.map((d) => (d === '' ? null : d)) ?? null
    const kept = record[v.name]
    const merged = own && kept?.length === own.length ? own.map((d, i) => either(d, kept[i]!)) : (own ?? kept)
    if (merged) dims[v.name] = merged
  }
  return dims
}

/** A size wins over a symbol, the record's symbol over the file's. */
const either = (file: Dim, record: Dim): Dim => (typeof file === 'number' ? file : (record ?? file))

/**
 * Records the sizes that are given, for all of `models` together: each name must match at least one of them. A usage
 * error for names that match nothing, and for sizes that contradict what a file fixes.
 */
export function recordSizes(models: readonly Model[], given: GivenSizes): void {
  const { dim = {}, inputShape = {} } = given
  const used = new Set<string>()
  for (const model of models) {
    const shapes: Record<string, readonly Dim[]> = {}
    for (const [name, text] of Object.entries(inputShape)) {
      const v = inputCalled(model, name)
      if (!v) continue
      used.add(name)
      shapes[v.name] = matching(v, parseShape(name, text))
    }
    const record = { ...readRecord(model) }
    const before = inputDims(model)
    let found = false
    for (const v of model.graph.fed) {
      const base = before[v.name]
      const shape = shapes[v.name] ?? base?.map(() => null)
      if (!shape) continue
      const dims = shape.map((d, i) => {
        const symbols = [d, record[v.name]?.[i], v.type?.dims?.[i]].filter((s) => typeof s === 'string')
        const named = symbols.find((s) => Object.hasOwn(dim, s))
        if (named === undefined) return d ?? record[v.name]?.[i] ?? null
        used.add(named)
        return sizeOf(named, dim[named]!)
      })
      if (dims.every((d) => d === null)) continue
      found = true
      record[v.name] = dims
    }
    if (found) marks.inputShapes.set(model, record)
  }
  for (const name of Object.keys(dim)) if (!used.has(name)) throw noSymbol(models, name)
  for (const name of Object.keys(inputShape)) if (!used.has(name)) throw noInput(models, name)
}

/** The dims of `--input-shape`; a usage error for anything else. */
export function parseShape(name: string, text: string): readonly Dim[] {
  if (text.trim() === '') return []
  return text.split(',').map((part): Dim => {
    const word = part.trim()
    if (word === '?') return null
    if (/^\d+$/.test(word)) return sizeOf(`${name}=${text}`, Number(word))
    if (/^[^\d\s?+-][^\s,?]*$/.test(word)) return word
    throw usageError(
      `--input-shape ${name}=${text}: '${word}' is not a dim`,
      'give sizes, ? or symbols, e.g. x=1,3,224,224 or x=?,3,H,W',
    )
  })
}

export function sizeOf(what: string, n: number): number {
  if (!Number.isSafeInteger(n) || n < 1) throw usageError(`the size of '${what}' must be a whole number of at least 1`)
  return n
}

/** The fed input of that name; the only one for ''. */
export function inputCalled(model: Model, name: string): Value | undefined {
  const inputs = model.graph.fed
  return name === '' && inputs.length === 1 ? inputs[0] : inputs.find((v) => v.name === name)
}

export function noInput(models: readonly Model[], name: string) {
  const names = [...new Set(models.flatMap((m) => m.graph.fed.map((v) => v.name)))]
  if (name === '') return usageError('--input-shape needs the name of an input', `one of ${names.join(', ')}`)
  const near = nearest(name, names)
  const next = near === undefined ? `there are ${names.join(', ')}` : `did you mean '${near}'?`
  return usageError(`--input-shape: there is no input '${name}'`, next)
}

export function noSymbol(models: readonly Model[], name: string) {
  const inputs = models.flatMap((m) => m.graph.fed)
  const symbols = [...new Set(inputs.flatMap((v) => v.type?.dims ?? []).filter((d) => typeof d === 'string'))]
  const near = nearest(name, symbols)
  const shown = inputs.map((v) => `'${v.name}' ${formatType(v.type)}`).join(', ')
  const next = near === undefined ? `set dims that have no symbol with --input-shape` : `did you mean '${near}'?`
  return usageError(`--dim: no input has a dim called '${name}': ${shown}`, next)
}

/** `shape`, where it does not contradict the file. */
function matching(v: Value, shape: readonly Dim[]): readonly Dim[] {
  const own = v.type?.dims
  if (!own) return shape
  const fits = own.length === shape.length && shape.every((d, i) => typeof d !== 'number' || fitsDim(own[i]!, d))
  if (fits) return shape
  throw usageError(
    `--input-shape: the file declares '${v.name}' as ${formatType(v.type)}, which [${shape.map((d) => d ?? '?').join(',')}] does not match`,
    'mnc convert --input-shape writes another shape into the file',
  )
}

const fitsDim = (file: Dim, d: number): boolean => typeof file !== 'number' || file === d

function readRecord(model: Model): InputDims {
  const text = marks.inputShapes.text(model)
  if (text === undefined) return {}
  const record = marks.inputShapes.get(model)
  if (isRecord(record)) return record
  throw modelError(
    'bad-input-shapes',
    `the metadata entry ${marks.inputShapes.key} is malformed: ${text.slice(0, 200)}`,
  )
}

const isDim = (d: unknown): d is Dim =>
  d === null || typeof d === 'string' || (typeof d === 'number' && Number.isSafeInteger(d) && d > 0)

const isRecord = (r: unknown): r is InputDims =>
  typeof r === 'object' &&
  r !== null &&
  !Array.isArray(r) &&
  Object.values(r).every((dims) => Array.isArray(dims) && dims.every(isDim))
