/**
 * Which array of a set feeds which input of a model, and which is the target of which output: by `--map`, else by name, else
 * the one array that is left for the one input that is left. Shapes, types and every number are looked at before
 * the first run:
 *
 *   shape  an array [samples, ...] for an input [N, ...] whose other dims fit. Where an array has a dim for each of the input's
 *          (`wholeRuns`), a sample is all that one run takes.
 *   type   floats in any width, integers for integers that hold them and for floats. Floats for integers are refused.
 *   rate   of sound, the one that the model's metadata state
 *   range  floats are finite, integers below what reads them (the rows of a Gather's table)
 */
import { type MncError, usageError } from '../base/errors.ts'
import { nearest } from '../base/options.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { readSampleRate } from '../graph/sample-rate.ts'
import { Tensor } from '../graph/tensor.ts'
import { type Dim, type ElementType, elementCount, formatType } from '../graph/types.ts'
import { inputDims } from '../samples/input-shapes.ts'
import { integersOf } from '../samples/random-feeds.ts'
import { type ArraySet, type Column, LABEL_NAMES, LABELS, numbersOf } from './array-set.ts'
import { piecesOf } from './rows.ts'

export interface Feed {
  readonly column: Column
  readonly elem: ElementType
  /** Of one sample, as the input has it. */
  readonly dims: readonly number[]
}

export interface Binding {
  /** By input. */
  readonly feeds: ReadonlyMap<string, Feed>
  /** By output. */
  readonly targets: ReadonlyMap<string, Column>
  /** Arrays that are neither, nor labels. */
  readonly unused: readonly Column[]
  /** A sample is a run of its own: arrays have all dims of the inputs. */
  readonly wholeRuns: boolean
}

/** A usage error that names the file for an input without an array and for arrays that do not fit. */
export function bind(model: Model, set: ArraySet): Binding {
  const inputs = model.graph.fed
  const { outputs } = model.graph
  checkKeys(set, [...inputs, ...outputs])
  const columns = new Map(inputs.map((v) => [v, columnFor(v.name, set)]))
  const missing = inputs.filter((v) => !columns.get(v))
  const used = new Set([...columns.values(), ...outputs.map((v) => columnFor(v.name, set)), set.labelColumn])
  const left = set.columns.filter((c) => !used.has(c))
  if (missing.length === 1 && left.length === 1) columns.set(missing[0]!, left[0])
  else if (missing.length > 0) throw noArray(missing[0]!, set)
  checkRate(model, set)
  const dims = inputDims(model)
  const allFit = (of: typeof rowDims): boolean => inputs.every((v) => of(columns.get(v)!, dims[v.name]) !== null)
  const wholeRuns = !allFit(rowDims) && allFit(runDims)
  const feeds = new Map<string, Feed>()
  for (const v of inputs) {
    const column = columns.get(v)!
    const own = wholeRuns ? runDims(column, dims[v.name]) : rowDims(column, dims[v.name])
    if (own === null) throw badShape(v, column, dims[v.name])
    const elem = v.type?.elem ?? column.elem
    checkType(v, column, elem)
    checkNumbers(column, rangeOf(v, elem), `input '${v.name}'`)
    feeds.set(v.name, { column, elem, dims: own })
  }
  const fed = new Set(columns.values())
  const targets = targetsOf(outputs, set, fed)
  const taken = new Set([...fed, ...targets.values(), set.labelColumn])
  return { feeds, targets, unused: set.columns.filter((c) => !taken.has(c)), wholeRuns }
}

const columnFor = (name: string, { map, columns }: ArraySet): Column | undefined =>
  columns.find((c) => c.name === (Object.hasOwn(map, name) ? map[name] : name))

function checkKeys(set: ArraySet, values: readonly Value[]): void {
  const names = [...values.map((v) => v.name), LABELS]
  for (const key of Object.keys(set.map)) {
    if (names.includes(key)) continue
    const near = nearest(key, names)
    throw usageError(
      `--map ${key}=${set.map[key]}: the model has no input or output '${key}'`,
      near ? `did you mean '${near}'?` : `there are ${names.join(', ')}`,
    )
  }
}

/** By name; the one float output that no name matches takes the one array that is left. */
function targetsOf(outputs: readonly Value[], set: ArraySet, fed: ReadonlySet<Column | undefined>) {
  const targets = new Map<string, Column>()
  for (const v of outputs) {
    const column = columnFor(v.name, set)
    if (column && !fed.has(column)) targets.set(v.name, column)
  }
  const left = set.columns.filter((c) => !fed.has(c) && c !== set.labelColumn)
  if (targets.size === 0 && outputs.length === 1 && left.length === 1) {
    refuseFloatClasses(outputs[0]!, left[0]!)
    targets.set(outputs[0]!.name, left[0]!)
  }
  return targets
}

/** One float a sample, called as classes are, for an output of several numbers. */
function refuseFloatClasses({ name: output, type }: Value, { name, elem, dims, file }: Column): void {
  const scores = type?.dims?.at(-1)
  if (!LABEL_NAMES.includes(name) || elementCount(dims) !== 1 || typeof scores !== 'number' || scores < 2) return
  throw usageError(
    `${file}: '${name}' is ${elem}, and classes are whole numbers`,
    `write it as int64, or name it as what output '${output}' is to be with --map ${output}=${name}`,
  )
}

const fits = (own: readonly number[], dims: readonly Dim[]): boolean =>
  own.length === dims.length && own.every((d, i) => typeof dims[i] !== 'number' || dims[i] === d)

/** Of one sample, without the batch; null where they do not fit. Dims of 1 may be missing: sound [L] feeds [N, 1, L]. */
function rowDims({ dims }: Column, input: readonly Dim[] | undefined): readonly number[] | null {
  if (!input) return dims
  const rest = input.slice(1)
  if (input.length === 0) return null
  if (fits(dims, rest)) return dims
  const wide = rest.filter((d) => d !== 1)
  if (wide.length < rest.length && fits(dims, wide)) {
    const own = dims.values()
    return rest.map((d) => (d === 1 ? 1 : own.next().value!))
  }
  return elementCount(dims) === 1 && rest.every((d) => typeof d !== 'number' || d === 1) ? rest.map(() => 1) : null
}

const runDims = ({ dims }: Column, input: readonly Dim[] | undefined): readonly number[] | null =>
  input && fits(dims, input) ? dims : null

const isFloat = (elem: ElementType): boolean => elem.includes('float')

function checkType(v: Value, { name, elem, file }: Column, wanted: ElementType): void {
  if (elem === wanted || (isFloat(wanted) && wanted !== 'string') || !isFloat(elem)) return
  throw usageError(
    `${file}: '${name}' is ${elem}, but input '${v.name}' takes ${wanted}`,
    `write it as ${wanted}, or name another array with --map ${v.name}=NAME`,
  )
}

const checked = new WeakMap<Column, Set<string>>()

/** Looks at every number once: floats have to be finite, integers between two numbers. A usage error that names file and sample. */
export function checkNumbers(column: Column, [low, high]: readonly [number, number], user: string): void {
  if (!isFloat(column.elem) && low === Number.NEGATIVE_INFINITY) return
  const key = `${low} ${high}`
  const done = checked.get(column) ?? new Set()
  if (done.has(key)) return
  const width = elementCount(column.dims)
  let row = 0
  for (const piece of piecesOf(column.rows)) {
    const numbers = numbersOf(column.elem, piece)
    for (let i = 0; i < numbers.length; i++) {
      const x = numbers[i]!
      if (x >= low && x <= high && Number.isFinite(x)) continue
      const at = row + Math.floor(i / width)
      const what = `${column.fileOf?.(at) ?? column.file}: '${column.name}' is ${x} in sample ${at}`
      if (!Number.isFinite(x)) throw usageError(what, 'replace what is not a finite number')
      throw usageError(`${what}, but ${user} takes ${low} to ${high}`)
    }
    row += numbers.length / Math.max(1, width)
  }
  checked.set(column, done.add(key))
}

/** What an input takes: of integers what its type holds, or its readers accept. */
function rangeOf(v: Value, elem: ElementType): readonly [number, number] {
  const [, unsigned, bits] = /^(u?)int(\d+)$/.exec(elem) ?? []
  if (bits === undefined) return elem === 'bool' ? [0, 1] : [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]
  const all = 2 ** Number(bits)
  const [low, high] = unsigned ? [0, all - 1] : [-all / 2, all / 2 - 1]
  const accepted = integersOf(v)
  // a Gather counts negative indices from the end
  return accepted && 'below' in accepted
    ? [Math.max(low, -accepted.below), Math.min(high, accepted.below - 1)]
    : [low, high]
}

function checkRate(model: Model, { name, sampleRate }: ArraySet): void {
  const rate = readSampleRate(model)
  if (sampleRate === undefined || rate === null || rate === sampleRate) return
  throw usageError(
    `${name} is at ${sampleRate} Hz, but the model takes sound at ${rate} Hz`,
    `resample it with --sample-rate ${rate}`,
  )
}

function noArray(v: Value, set: ArraySet): MncError {
  const names = set.columns.map((c) => c.name)
  const near = nearest(v.name, names)
  return usageError(
    `${set.name} has no array for input '${v.name}' ${formatType(v.type)}; it has ${names.join(', ')}`,
    `name one with --map ${v.name}=${near ?? 'NAME'}`,
  )
}

function badShape(v: Value, { name, file, dims, remedy }: Column, input: readonly Dim[] | undefined): MncError {
  const own = `[samples${dims.map((d) => `, ${d}`).join('')}]`
  return usageError(
    `${file}: '${name}' has the shape ${own}, but input '${v.name}' takes [${(input ?? []).map((d) => d ?? '?').join(', ')}]`,
    remedy ?? `name another array with --map ${v.name}=NAME`,
  )
}

/** Rows as an input takes them. */
export function convert(rows: Tensor, elem: ElementType, dims: readonly number[]): Tensor {
  if (rows.type === elem) return new Tensor(elem, dims, rows.bytes)
  return Tensor.from(elem, dims, rows.toNumbers())
}
