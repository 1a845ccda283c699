/** Attributes of a node: made from plain numbers, strings and tensors; the graphs in them. */
import type { Attribute, AttributeLike, Graph } from './parts.ts'
import type { Tensor } from './tensor.ts'

export type { Attribute, AttributeLike, Opaque } from './parts.ts'

const utf8 = new TextEncoder()

/** An attribute of one float32. */
export const float = (value: number): Attribute => ({ kind: 'float', value: Math.fround(value) })
/** An attribute of a list of float32. */
export const floats = (value: readonly number[]): Attribute => ({ kind: 'floats', value: value.map(Math.fround) })
/** An attribute that is a graph. */
export const graphAttribute = (value: Graph): Attribute => ({ kind: 'graph', value })

export function toAttribute(a: AttributeLike): Attribute {
  if (typeof a === 'bigint') return { kind: 'int', value: a }
  if (typeof a === 'number') return Number.isInteger(a) ? { kind: 'int', value: BigInt(a) } : float(a)
  if (typeof a === 'string') return { kind: 'string', value: utf8.encode(a) }
  if (Array.isArray(a)) {
    const list = a as readonly (number | string)[]
    if (list.some((x) => typeof x === 'string'))
      return { kind: 'strings', value: list.map((x) => utf8.encode(String(x))) }
    const numbers = list as readonly number[]
    return numbers.every(Number.isInteger) ? { kind: 'ints', value: numbers.map(BigInt) } : floats(numbers)
  }
  if ('kind' in (a as object)) return a as Attribute
  return { kind: 'tensor', value: a as Tensor }
}

/** The graphs an attribute holds (If, Loop, Scan bodies). */
export function subgraphsOf(a: Attribute): readonly Graph[] {
  return a.kind === 'graph' ? [a.value] : a.kind === 'graphs' ? a.value : []
}
