/** Attributes of a node: every kind that AttributeProto knows. */
import type { Graph } from './graph.ts'
import type { Tensor } from './tensor.ts'

/** A message that the IR carries but does not interpret (sparse tensors, type protos): the codec's own object. */
export interface Opaque {
  readonly opaque: unknown
}

export type Attribute =
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int'; readonly value: bigint }
  | { readonly kind: 'string'; readonly value: Uint8Array }
  | { readonly kind: 'tensor'; readonly value: Tensor }
  | { readonly kind: 'graph'; readonly value: Graph }
  | { readonly kind: 'sparseTensor' | 'typeProto'; readonly value: Opaque }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'ints'; readonly value: readonly bigint[] }
  | { readonly kind: 'strings'; readonly value: readonly Uint8Array[] }
  | { readonly kind: 'tensors'; readonly value: readonly Tensor[] }
  | { readonly kind: 'graphs'; readonly value: readonly Graph[] }
  | { readonly kind: 'sparseTensors' | 'typeProtos'; readonly value: readonly Opaque[] }
  /** Inside a model-local function: the value comes from the caller's attribute of that name. */
  | { readonly kind: 'reference'; readonly value: string; readonly type: number }

/** What a builder accepts: numbers that are integers become ints; use `float(x)` for an integral float attribute. */
export type AttributeLike = Attribute | number | bigint | string | Tensor | readonly number[] | readonly string[]

const utf8 = new TextEncoder()

export const float = (value: number): Attribute => ({ kind: 'float', value: Math.fround(value) })
export const floats = (value: readonly number[]): Attribute => ({ kind: 'floats', value: value.map(Math.fround) })
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
