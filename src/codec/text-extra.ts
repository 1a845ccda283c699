/**
 * The part of the text form that people do not read: what a file contains beyond the IR (codec-extra.ts), as
 * `!name "base64"` of a message holding only those fields. Present in the full form alone.
 */
import type { Attribute } from '../graph/attribute.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { FunctionDef, Model } from '../graph/model.ts'
import { encodeAttribute } from './codec-attribute.ts'
import { functionShell, graphShell, modelShell, nodeShell, valueInfo } from './codec-encode.ts'
import { functionExtra, graphExtra, modelExtra, nodeExtra, valueExtra } from './codec-extra.ts'
import { sparseOf } from './codec-sparse.ts'
import { encodeProto } from './proto.ts'
import { copyProto, type MessageName, type Proto } from './proto-schema.ts'
import { base64 } from './text-tensor.ts'

const same = <M extends MessageName>(m: M, a: Proto<M>, b: Proto<M>): boolean =>
  Buffer.compare(encodeProto(m, a), encodeProto(m, b)) === 0

/** `!key "..."` with the fields in which what would be written differs from what the IR alone would write. */
function rest<M extends MessageName>(key: string, m: M, written: Proto<M>, plain: Proto<M>): string {
  const left = copyProto(written)
  for (const field of Object.keys(left) as (keyof Proto<M>)[]) {
    const one = (p: Proto<M>) => ({ [field]: p[field] }) as Proto<M>
    if (field !== '$unknowns' && same(m, one(written), one(plain))) delete left[field]
  }
  const bytes = encodeProto(m, left)
  return bytes.length > 0 ? ` !${key} "${base64(bytes)}"` : ''
}

export const modelRest = (m: Model): string =>
  rest('model', 'ModelProto', modelShell(m, modelExtra(m)), modelShell(m, undefined))

export const functionRest = (f: FunctionDef): string =>
  rest('function', 'FunctionProto', functionShell(f, functionExtra(f)), functionShell(f, undefined))

export function graphRest(g: Graph): string {
  const extra = graphExtra(g)
  const stray = extra?.strayInfo.map(
    ({ at, proto }) => ` !stray ${at} "${base64(encodeProto('ValueInfoProto', proto))}"`,
  )
  return rest('graph', 'GraphProto', graphShell(g, extra), graphShell(g, undefined)) + (stray?.join('') ?? '')
}

export const nodeRest = (n: Node): string =>
  rest('node', 'NodeProto', nodeShell(n, nodeExtra(n)), nodeShell(n, undefined))

/** Doc string and unknown fields of an attribute. */
export function attributeRest(n: Node, name: string): string {
  const read = nodeExtra(n)?.attributes.get(name)
  if (!read) return ''
  const none: Attribute = { kind: 'int', value: 0n }
  const write = { place: () => undefined, graph: () => ({}) }
  const { proto } = read
  const plain = encodeAttribute(name, none, write)
  return rest('attribute', 'AttributeProto', encodeAttribute(name, none, write, { of: { ...none }, proto }), plain)
}

export function valueRest(v: Value): string {
  const extra = valueExtra(v)
  const sparse = sparseOf(v.stored)
  let out = sparse ? ` !sparse "${base64(encodeProto('SparseTensorProto', sparse))}"` : ''
  if (!extra) return out
  for (const role of ['input', 'output', 'info'] as const) {
    const at = role === 'info' ? extra.info?.at : undefined
    const proto = role === 'info' ? extra.info?.proto : extra[role]
    if (!proto) continue
    const written = valueInfo(v, proto)
    const plain = same('ValueInfoProto', written, valueInfo(v, undefined, undefined))
    if (!plain || at !== undefined) out += ` !${role}${at === undefined ? '' : ` ${at}`}`
    if (!plain) out += ` "${base64(encodeProto('ValueInfoProto', written))}"`
  }
  if (extra.tensor && v.stored) {
    const shell = copyProto(extra.tensor, 'name')
    // Metadata is printed with the value unless the tensor's differs from it.
    const plain = [...v.metadata].map(([key, value]) => ({ key, value }))
    out += rest('tensor', 'TensorProto', shell, plain.length > 0 ? { metadata_props: plain } : {})
  }
  return out
}
