/**
 * Numbers in JSON objects, one a sample: a column for each field that is a number or a boolean, or a list of them, nested or not.
 * They are kept in a temporary file, as int64 where all are whole, else as float32. Other fields are not read.
 */
import type { MncError } from '../../base/errors.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementCount } from '../../graph/types.ts'
import type { Column } from '../array-set.ts'
import { RowWriter } from '../rows.ts'

export const isObject = (x: unknown): x is object => typeof x === 'object' && x !== null && !Array.isArray(x)

class JsonColumn {
  readonly #name: string
  readonly #dims: readonly number[]
  readonly #floats: RowWriter
  /** Until there is a fraction. */
  #integers: RowWriter | null
  readonly #file: string

  constructor(name: string, dims: readonly number[], file: string) {
    this.#name = name
    this.#dims = dims
    this.#file = file
    this.#floats = new RowWriter(elementCount(dims) * 4)
    this.#integers = new RowWriter(elementCount(dims) * 8)
  }

  add(value: unknown, fault: (what: string) => MncError): void {
    const numbers = numbersIn(value)
    if (numbers === null || dimsOf(value).join() !== this.#dims.join() || numbers.length !== elementCount(this.#dims))
      throw fault(`has another '${this.#name}' than the first sample: samples need equally many numbers`)
    this.#floats.append(Tensor.from('float32', [numbers.length], numbers).bytes)
    if (!numbers.every(Number.isSafeInteger)) this.#integers = null
    this.#integers?.append(Tensor.from('int64', [numbers.length], numbers).bytes)
  }

  column(): Column {
    const { rows, elem } = this.#integers
      ? ({ rows: this.#integers.rows(), elem: 'int64' } as const)
      : ({ rows: this.#floats.rows(), elem: 'float32' } as const)
    return { name: this.#name, elem, dims: this.#dims, rows, file: this.#file }
  }
}

export class JsonColumns {
  #columns: Map<string, JsonColumn> | null = null

  /** `skip`: the field that is something else. The first object says which fields there are. */
  add(json: unknown, skip: string | undefined, file: string, fault: (what: string) => MncError): void {
    const fields = isObject(json) ? Object.entries(json).filter(([name]) => name !== skip) : []
    this.#columns ??= new Map(
      fields.flatMap(([name, value]) =>
        numbersIn(value)?.length ? [[name, new JsonColumn(name, dimsOf(value), file)] as const] : [],
      ),
    )
    const values = new Map(fields)
    for (const [name, column] of this.#columns) {
      if (!values.has(name)) throw fault(`has no '${name}' in its .json, which the first sample has`)
      column.add(values.get(name), fault)
    }
  }

  columns(): Column[] {
    return [...(this.#columns?.values() ?? [])].map((c) => c.column())
  }
}

const dimsOf = (value: unknown): number[] => (Array.isArray(value) ? [value.length, ...dimsOf(value[0])] : [])

/** In their order; null where something is no number, or lists differ in length. */
function numbersIn(value: unknown): number[] | null {
  if (typeof value === 'number') return [value]
  if (typeof value === 'boolean') return [Number(value)]
  if (!Array.isArray(value)) return null
  const inner = value.map(numbersIn)
  const dims = dimsOf(value[0]).join()
  return inner.every((n) => n !== null) && value.every((v) => dimsOf(v).join() === dims) ? inner.flat() : null
}
