/**
 * Model to ModelProto: each message starts from the one that was read (`extra`) and takes over what the IR says
 * differently. value_info is written only for values that had one when they were read (or have metadata to carry).
 */
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { FunctionDef, Model } from '../graph/model.ts'
import { encodeAttribute } from './codec-attribute.ts'
import { readOpsets, text } from './codec-decode.ts'
import {
  type FunctionExtra,
  functionExtra,
  type GraphExtra,
  graphExtra,
  type ModelExtra,
  modelExtra,
  type NodeExtra,
  nodeExtra,
  type Placed,
  sameMap,
  valueExtra,
  writeProps,
} from './codec-extra.ts'
import { encodeSparse, sparseOf } from './codec-sparse.ts'
import { encodeTensor, type TensorPlacement } from './codec-tensor.ts'
import { decodeType, encodeType, sameType } from './codec-type.ts'
import { declaredInputs } from './declared-inputs.ts'
import { copyProto, type Proto } from './proto-schema.ts'

type Info = Proto<'ValueInfoProto'>
/** What holds for the whole file. */
interface FileFacts {
  readonly placement: TensorPlacement
  readonly irVersion: number
}
type Strings<P> = { [K in keyof P]-?: string extends Exclude<P[K], undefined> ? K : never }[keyof P]

/** Sets a string field if it differs; '' is the same as absent. */
function put<P extends object, K extends Strings<P>>(p: P, key: K, value: string): void {
  if (((p[key] as string | undefined) ?? '') !== value) p[key] = value as P[K]
}

function putProps(p: { metadata_props?: Proto<'StringStringEntryProto'>[] }, map: ReadonlyMap<string, string>): void {
  const props = writeProps(map, p.metadata_props)
  if (props.length > 0) p.metadata_props = props
  else delete p.metadata_props
}

export function modelToProto(model: Model, placement: TensorPlacement): Proto<'ModelProto'> {
  const p = modelShell(model, modelExtra(model))
  const file = { placement, irVersion: model.irVersion }
  p.graph = encodeGraph(model.graph, file)
  if (model.functions.length > 0) p.functions = model.functions.map((f) => encodeFunction(f, file))
  return p
}

/** A model's message without graph and functions. Without `extra`: the message of a model that was not read from a file. */
export function modelShell(model: Model, extra: ModelExtra | undefined): Proto<'ModelProto'> {
  const p = copyProto<Proto<'ModelProto'>>(extra?.proto)
  if (Number(p.ir_version ?? 0n) !== model.irVersion) p.ir_version = BigInt(model.irVersion)
  putOpsets(p, model.opsets, extra !== undefined)
  put(p, 'producer_name', model.producerName)
  put(p, 'producer_version', model.producerVersion)
  put(p, 'domain', model.domain)
  if ((p.model_version ?? 0n) !== model.modelVersion) p.model_version = model.modelVersion
  if (text(p.doc_string) !== model.docString) p.doc_string = new TextEncoder().encode(model.docString)
  putProps(p, model.metadata)
  return p
}

/** `read`: the message was read from a file; a missing import list then stays missing as long as that means the same. */
function putOpsets(
  p: { opset_import?: Proto<'OperatorSetIdProto'>[] },
  opsets: ReadonlyMap<string, number>,
  read: boolean,
): void {
  const before = new Map<string, number>()
  readOpsets(p.opset_import, before)
  if (read && sameMap(before, opsets)) return
  p.opset_import = [...opsets].map(([domain, version]) => ({ domain, version: BigInt(version) }))
}

function encodeFunction(f: FunctionDef, file: FileFacts): Proto<'FunctionProto'> {
  const p = functionShell(f, functionExtra(f))
  p.node = encodeNodes(f.graph, file)
  p.value_info = encodeInfo(f.graph)
  return p
}

/** A function's message without nodes and value_info. */
export function functionShell(f: FunctionDef, extra: FunctionExtra | undefined): Proto<'FunctionProto'> {
  const p = copyProto<Proto<'FunctionProto'>>(extra?.proto)
  put(p, 'name', f.name)
  put(p, 'domain', f.domain)
  put(p, 'overload', f.overload)
  p.attribute = [...f.attributes]
  putOpsets(p, f.opsets, extra !== undefined)
  p.input = f.graph.inputs.map((v) => v.name)
  p.output = f.graph.outputs.map((v) => v.name)
  putProps(p, f.graph.metadata)
  return p
}

/** A graph's message without nodes and values. */
export function graphShell(graph: Graph, extra: GraphExtra | undefined): Proto<'GraphProto'> {
  const p = copyProto<Proto<'GraphProto'>>(extra?.proto)
  put(p, 'name', graph.name)
  putProps(p, graph.metadata)
  return p
}

function encodeGraph(graph: Graph, file: FileFacts): Proto<'GraphProto'> {
  const p = graphShell(graph, graphExtra(graph))
  p.node = encodeNodes(graph, file)
  p.input = declaredInputs(graph, file.irVersion).map((v) => valueInfo(v, valueExtra(v)?.input))
  p.output = graph.outputs.map((v) => valueInfo(v, v.graph === graph ? valueExtra(v)?.output : undefined))
  p.value_info = encodeInfo(graph)
  const stored = [...graph.stored()]
  p.initializer = stored.filter((v) => !sparseOf(v.stored)).map((v) => encodeInitializer(v, file.placement))
  p.sparse_initializer = stored.flatMap((v) => {
    const sparse = sparseOf(v.stored)
    return sparse ? [encodeSparse(sparse, v.name)] : []
  })
  return p
}

const inOrder = <T>(list: Placed<T>[]): T[] => list.sort((a, b) => a.at - b.at).map(({ proto }) => proto)

function encodeNodes(graph: Graph, file: FileFacts): Proto<'NodeProto'>[] {
  const write = {
    place: (t: Parameters<TensorPlacement['place']>[0]) => file.placement.place(t),
    graph: (g: Graph) => encodeGraph(g, file),
  }
  return Array.from(graph.nodes(), (node: Node) => {
    const extra = nodeExtra(node)
    const p = nodeShell(node, extra)
    p.attribute = Array.from(node.attributes, ([name, a]) =>
      encodeAttribute(name, a, write, extra?.attributes.get(name)),
    )
    return p
  })
}

/** A node's message without attributes. */
export function nodeShell(node: Node, extra: NodeExtra | undefined): Proto<'NodeProto'> {
  const p = copyProto<Proto<'NodeProto'>>(extra?.proto)
  p.input = node.inputs.map((v) => v?.name ?? '')
  p.output = node.outputs.map((v) => v?.name ?? '')
  put(p, 'name', node.name)
  put(p, 'op_type', node.op)
  if (p.domain !== 'ai.onnx' || node.domain !== '') put(p, 'domain', node.domain)
  put(p, 'overload', node.overload)
  putProps(p, node.metadata)
  return p
}

/** Metadata of an initializer belongs to its tensor, of any other value to its ValueInfoProto. */
function encodeInitializer(v: Value, placement: TensorPlacement): Proto<'TensorProto'> {
  const extra = valueExtra(v)
  const p = encodeTensor(v.stored!, v.name, placement)
  // A new tensor keeps the doc string and metadata of the one it replaces.
  if (extra?.tensor && !v.stored!.origin) {
    const { name: _, ...kept } = extra.tensor
    Object.assign(p, kept)
    if (extra.tensor.$unknowns) p.$unknowns = extra.tensor.$unknowns
  }
  if (!sameMap(v.metadata, extra?.metadata ?? new Map())) putProps(p, v.metadata)
  return p
}

/** `read`: the message of this role. A role that is new takes what another role's message says about the type. */
export function valueInfo(v: Value, read: Info | undefined, extra = valueExtra(v)): Info {
  const p = copyProto<Info>(read)
  put(p, 'name', v.name)
  const typed = read ?? extra?.input ?? extra?.output ?? extra?.info?.proto
  if (!extra || !sameType(extra.type, v.type)) setType(p, v, typed)
  else if (!read) {
    // where roles were declared differently, the value has the type of one of them
    if (typed?.type && sameType(decodeType(typed.type), v.type)) p.type = typed.type
    else setType(p, v, undefined)
  }
  if (!v.stored && !(read && extra && sameMap(v.metadata, extra.metadata))) putProps(p, v.metadata)
  return p
}

function setType(p: Info, v: Value, before: Info | undefined): void {
  if (v.type) p.type = encodeType(v.type, before?.type)
  else delete p.type
}

function encodeInfo(graph: Graph): Info[] {
  const list: Placed<Info>[] = [...(graphExtra(graph)?.strayInfo.filter((s) => !graph.find(s.proto.name ?? '')) ?? [])]
  let last = Number.MAX_SAFE_INTEGER / 2
  for (const v of graph.values()) {
    const extra = valueExtra(v)
    // A type that is no longer known must not be claimed.
    const stale = extra?.type && !v.type
    if (extra?.info && !stale) list.push({ at: extra.info.at, proto: valueInfo(v, extra.info.proto) })
    else if (needsInfo(v)) list.push({ at: last++, proto: valueInfo(v, undefined) })
  }
  return inOrder(list)
}

/** Metadata that no input, output or initializer carries. */
const needsInfo = (v: Value): boolean =>
  v.metadata.size > 0 && v.producer !== null && v.constant === null && !v.outputOf.has(v.graph)
