/**
 * What the codec attaches to the IR's `extra` fields: the messages as they were read, without the parts that the IR models.
 * Writing starts from them and replaces only what the IR says differently, so that doc strings, unknown fields and even
 * explicit defaults come back. Extras are shared between clones: nothing here is ever changed in place.
 */
import type { Attribute } from '../graph/attribute.ts'
import type { Extra, Graph, Node, Value } from '../graph/graph.ts'
import type { FunctionDef, Model } from '../graph/model.ts'
import type { TensorType } from '../graph/types.ts'
import type { Proto } from './proto-schema.ts'

/** A message with its place in the list it stood in. */
export interface Placed<T> {
  readonly at: number
  readonly proto: T
}

export interface ValueExtra {
  readonly kind: 'value'
  /** Type and metadata as read: while the IR still says the same, the messages are written back as they were. */
  readonly type: TensorType | null
  readonly metadata: ReadonlyMap<string, string>
  readonly input?: Proto<'ValueInfoProto'>
  readonly output?: Proto<'ValueInfoProto'>
  readonly info?: Placed<Proto<'ValueInfoProto'>>
  /** An initializer's message without its data. */
  readonly tensor?: Proto<'TensorProto'>
}

export interface NodeExtra {
  readonly kind: 'node'
  readonly proto: Proto<'NodeProto'>
  /** By attribute name: the message, and the attribute made from it (the same object while nobody replaced it). */
  readonly attributes: ReadonlyMap<string, { readonly of: Attribute; readonly proto: Proto<'AttributeProto'> }>
}

export interface GraphExtra {
  readonly kind: 'graph'
  readonly proto: Proto<'GraphProto'>
  /** value_info of names that the graph does not have. */
  readonly strayInfo: readonly Placed<Proto<'ValueInfoProto'>>[]
  /** Names of the inputs as listed, where initializers had to be among them (declared-inputs.ts). */
  readonly inputOrder?: readonly string[]
}

export interface ModelExtra {
  readonly kind: 'model'
  readonly proto: Proto<'ModelProto'>
}

export interface FunctionExtra {
  readonly kind: 'function'
  readonly proto: Proto<'FunctionProto'>
}

type AnyExtra = ValueExtra | NodeExtra | GraphExtra | ModelExtra | FunctionExtra

function extraOf<K extends AnyExtra['kind']>(extra: Extra, kind: K): Extract<AnyExtra, { kind: K }> | undefined {
  if (typeof extra !== 'object' || extra === null || !('kind' in extra) || extra.kind !== kind) return undefined
  return extra as Extract<AnyExtra, { kind: K }>
}

export const valueExtra = (v: Value): ValueExtra | undefined => extraOf(v.extra, 'value')
export const nodeExtra = (n: Node): NodeExtra | undefined => extraOf(n.extra, 'node')
export const graphExtra = (g: Graph): GraphExtra | undefined => extraOf(g.extra, 'graph')
export const modelExtra = (m: Model): ModelExtra | undefined => extraOf(m.extra, 'model')
export const functionExtra = (f: FunctionDef): FunctionExtra | undefined => extraOf(f.extra, 'function')

type Props = Proto<'StringStringEntryProto'>[]

export function readProps(props: Props | undefined, into: Map<string, string>): void {
  for (const { key, value } of props ?? []) into.set(key ?? '', value ?? '')
}

export const sameMap = <T>(a: ReadonlyMap<string, T>, b: ReadonlyMap<string, T>): boolean =>
  a.size === b.size && [...a].every(([k, v]) => b.get(k) === v)

/** The entries for a map; the ones read where they still say the same. */
export function writeProps(map: ReadonlyMap<string, string>, read: Props | undefined): Props {
  const before = new Map<string, string>()
  readProps(read, before)
  return read && sameMap(before, map) ? read : [...map].map(([key, value]) => ({ key, value }))
}
