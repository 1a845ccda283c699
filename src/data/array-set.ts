/**
 * A data set of arrays by name, one row of each for every sample: features, tokens, windows of sound, boxes, several inputs at
 * once. Rows are read as they are needed. Which array feeds which input is decided by name, when there is a model
 * (bind.ts); one of whole numbers called labels, label or y is the class of each sample.
 */
import { createHash } from 'node:crypto'
import { type MncError, usageError } from '../base/errors.ts'
import { nearest } from '../base/options.ts'
import { Tensor } from '../graph/tensor.ts'
import { type ElementType, elementCount, elementTypes } from '../graph/types.ts'
import { type Dataset, MOST_CLASSES, type Split } from './dataset.ts'
import { heldOut } from './held-out.ts'
import { piecesOf, type Rows, readRows } from './rows.ts'
import { type FoundLabels, testOnlyNote } from './test-only-classes.ts'

/** An array with a row for each sample. */
export interface Column {
  readonly name: string
  readonly elem: ElementType
  /** Of one sample. */
  readonly dims: readonly number[]
  readonly rows: Rows
  /** What holds it, for messages. */
  readonly file: string
  /** What holds a row, where each has a file of its own. */
  readonly fileOf?: (row: number) => string
  /** Of the classes that it numbers, where that is known. */
  readonly classNames?: readonly string[]
  /** What brings it to another shape, for messages. */
  readonly remedy?: string
}

/** `--map`: columns by input, by output, or by `labels`. */
export type ColumnMap = Readonly<Record<string, string>>

/** The key of `--map` that names the column of classes. */
export const LABELS = 'labels'
export const LABEL_NAMES: readonly string[] = [LABELS, 'label', 'y']

/** What an `ArraySet` is made of. */
export interface ArraySetInit {
  readonly name: string
  readonly split: Split
  /** With a sample each in as many rows. */
  readonly columns: readonly Column[]
  readonly map?: ColumnMap | undefined
  /** Names of the classes that labels number. */
  readonly classNames?: readonly string[] | undefined
  /** Their number, where neither names nor the largest label say it. */
  readonly classes?: number | undefined
  /** Of sound, samples a second. */
  readonly sampleRate?: number | undefined
  /** Columns of the other split, whose labels count for the number of classes. */
  readonly others?: readonly Column[] | undefined
  readonly notes?: readonly string[] | undefined
}

interface State {
  readonly name: string
  readonly split: Split
  readonly columns: readonly Column[]
  readonly map: ColumnMap
  readonly classNames: readonly string[] | undefined
  readonly notes: readonly string[]
  readonly classes: number
  readonly sampleRate: number | undefined
  readonly labelColumn: Column | undefined
  /** By row of the columns; null: there are none. */
  readonly labels: Int32Array | null
  /** Rows that belong to the set, in its order; null: the first `size`. */
  readonly order: Uint32Array | null
  readonly size: number
}

/** Samples as arrays by name, which feed inputs as they are. */
export class ArraySet {
  readonly #state: State
  #hash: string | undefined

  private constructor(state: State) {
    this.#state = state
  }

  /** A usage error where columns differ in length or there are none, for impossible labels, and for a `map` to nothing. */
  static of(init: ArraySetInit): ArraySet {
    const { name, split, columns, map = {}, sampleRate } = init
    const [first] = columns
    if (!first) throw usageError(`${name} holds no arrays`)
    for (const c of columns)
      if (c.rows.count !== first.rows.count)
        throw usageError(
          `${c.file}: '${c.name}' has ${c.rows.count} samples, but '${first.name}' has ${first.rows.count}`,
        )
    const size = first.rows.count
    if (size === 0) throw usageError(`${first.file}: '${first.name}' has no samples`)
    checkMap(map, name, columns)
    const column = labelColumn(columns, map)
    const classNames = init.classNames ?? column?.classNames
    const labels = column ? labelsOf(column) : null
    const other = column && init.others?.find((c) => c.name === column.name)
    const second = other ? labelsOf(other) : null
    const found = labels ? Math.max(most(labels), second ? most(second) : 0) + 1 : 0
    if (classNames && found > classNames.length)
      throw usageError(
        `${column!.file}: '${column!.name}' holds class ${found - 1}, but only ${classNames.length} have names`,
      )
    const only = labels && second ? testOnlyNote(split, foundIn(column!, labels), foundIn(other!, second)) : []
    const notes = [...(init.notes ?? []), ...only]
    const classes = labels ? (classNames?.length ?? Math.max(found, init.classes ?? 0)) : 0
    return new ArraySet({
      name,
      split,
      columns,
      map,
      classNames,
      notes,
      classes,
      sampleRate,
      labelColumn: column,
      labels,
      order: null,
      size,
    })
  }

  get name(): string {
    return this.#state.name
  }
  get split(): Split {
    return this.#state.split
  }
  get size(): number {
    return this.#state.size
  }
  /** Bytes of its arrays. */
  get heldBytes(): number {
    return this.columns.reduce((sum, { rows }) => sum + rows.count * rows.width, 0)
  }

  get columns(): readonly Column[] {
    return this.#state.columns
  }
  get map(): ColumnMap {
    return this.#state.map
  }
  /** 0 where there are no labels. */
  get classes(): number {
    return this.#state.classes
  }
  get classNames(): readonly string[] | undefined {
    return this.#state.classNames
  }
  /** Of sound, samples a second. */
  get sampleRate(): number | undefined {
    return this.#state.sampleRate
  }
  get notes(): readonly string[] {
    return this.#state.notes
  }
  /** The column that labels were read from. */
  get labelColumn(): Column | undefined {
    return this.#state.labelColumn
  }
  get isLabelled(): boolean {
    return this.#state.labels !== null
  }

  /** Class of each sample; zeros where there are no labels. */
  get labels(): Int32Array {
    const { labels, order, size } = this.#state
    if (!labels) return new Int32Array(size)
    return order ? Int32Array.from(order, (row) => labels[row]!) : labels.subarray(0, size)
  }

  /** Samples `indices` of a column, along a new first axis. */
  read({ elem, dims, rows }: Column, indices: ArrayLike<number>): Tensor {
    const { order } = this.#state
    const own = order ? Uint32Array.from(indices, (i) => order[i]!) : indices
    return new Tensor(elem, [indices.length, ...dims], readRows(rows, own))
  }

  /** The first n samples. */
  take(n: number): ArraySet {
    if (!Number.isInteger(n) || n < 1)
      throw usageError(`cannot take ${n} samples of ${this.name}`, 'give a whole number of at least 1')
    if (n >= this.size) return this
    const { order } = this.#state
    return new ArraySet({ ...this.#state, order: order?.subarray(0, n) ?? null, size: n })
  }

  /** Those samples, in that order. */
  select(indices: readonly number[]): ArraySet {
    const { order } = this.#state
    const rows = Uint32Array.from(indices, (i) => (order ? order[i]! : i))
    return new ArraySet({ ...this.#state, order: rows, size: rows.length })
  }

  /** As Dataset.splitValidation. */
  splitValidation(fraction: number, seed: number): { train: ArraySet; validation: ArraySet } {
    const { kept, out } = heldOut(this, fraction, seed)
    return { train: this.select(kept), validation: this.select(out) }
  }

  /** The same samples with other labels: the former class `i` is class `to[i]` of `classNames`. */
  relabelled(classNames: readonly string[], to: (label: number) => number): ArraySet {
    const labels = this.#state.labels?.map(to) ?? null
    return new ArraySet({ ...this.#state, classNames, classes: classNames.length, labels })
  }

  /** SHA-256 of everything in it, read once. */
  contentHash(): string {
    this.#hash ??= this.#computeHash()
    return this.#hash
  }

  #computeHash(): string {
    const { columns, map, order, size } = this.#state
    const hash = createHash('sha256').update(JSON.stringify([map, size, columns.map((c) => [c.name, c.elem, c.dims])]))
    for (const { rows } of columns) for (const piece of piecesOf(rows, order ? rows.count : size)) hash.update(piece)
    if (order) hash.update(order)
    return hash.update(this.labels).digest('hex')
  }
}

/** A data set of either kind. */
export type SampleSet = Dataset | ArraySet

function checkMap(map: ColumnMap, set: string, columns: readonly Column[]): void {
  const names = columns.map((c) => c.name)
  for (const [key, name] of Object.entries(map)) {
    if (names.includes(name)) continue
    const near = nearest(name, names)
    throw usageError(
      `--map ${key}=${name}: ${set} has no '${name}'`,
      near ? `did you mean '${near}'?` : `there are ${names.join(', ')}`,
    )
  }
}

/** One of whole numbers, one a sample; others of these names are targets. */
function labelColumn(columns: readonly Column[], map: ColumnMap): Column | undefined {
  const named = Object.hasOwn(map, LABELS) ? columns.find((c) => c.name === map[LABELS]) : undefined
  if (named) return named
  const whole = columns.filter((c) => elementCount(c.dims) === 1 && /^u?int/.test(c.elem))
  return LABEL_NAMES.flatMap((name) => whole.filter((c) => c.name === name))[0]
}

/** What holds a row of it. */
const fileOf = ({ file, fileOf }: Column, row: number): string => fileOf?.(row) ?? file

const foundIn = (column: Column, labels: Int32Array): FoundLabels => ({
  labels,
  fileOf: (row) => fileOf(column, row),
})

function labelsOf(column: Column): Int32Array {
  const { name, elem, dims, rows, file } = column
  if (elementCount(dims) !== 1)
    throw usageError(`${file}: '${name}' has ${elementCount(dims)} numbers a sample; a label is one`)
  const labels = new Int32Array(rows.count)
  let at = 0
  for (const piece of piecesOf(rows)) {
    const numbers = numbersOf(elem, piece)
    for (let i = 0; i < numbers.length; i++) {
      const v = numbers[i]!
      if (!(Number.isInteger(v) && v >= 0 && v < MOST_CLASSES)) throw badLabel(fileOf(column, at), `${name}[${at}]`, v)
      labels[at++] = v
    }
  }
  return labels
}

export const badLabel = (file: string, what: string, v: unknown): MncError =>
  usageError(`${file}: ${what} is ${v}; a label is a whole number from 0 to ${MOST_CLASSES - 1}`)

/** Elements of a piece of rows. */
export function numbersOf(elem: ElementType, bytes: Uint8Array): ArrayLike<number> {
  const count = (bytes.length * 8) / elementTypes[elem].bits
  return new Tensor(elem, [count], bytes).toNumbers()
}

const most = (labels: Int32Array): number => labels.reduce((a, b) => Math.max(a, b), 0)
