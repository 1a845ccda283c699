/** ModelProto to Model: names become values, the rest of each message goes into `extra`. */
import { MncError, modelError } from '../base/errors.ts'
import type { Attribute } from '../graph/attribute.ts'
import { Graph, type Value } from '../graph/graph.ts'
import { type FunctionDef, Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { decodeAttribute } from './codec-attribute.ts'
import type { FunctionExtra, GraphExtra, ModelExtra, NodeExtra, ValueExtra } from './codec-extra.ts'
import { readProps } from './codec-extra.ts'
import { sortNodes } from './codec-sort.ts'
import { decodeSparse } from './codec-sparse.ts'
import { decodeTensor, tensorShell } from './codec-tensor.ts'
import { decodeType } from './codec-type.ts'
import { DEFAULTS_SINCE } from './declared-inputs.ts'
import { DataFiles } from './external-data.ts'
import { copyProto, type Proto } from './proto-schema.ts'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
/** What holds for the whole file. */
interface FileFacts {
  readonly files: DataFiles
  readonly irVersion: number
}
/** What is learnt of the values of one graph while it is read. */
type Notes = Map<Value, Mutable<Partial<ValueExtra>>>

const normalDomain = (domain: string | undefined): string => (domain === 'ai.onnx' ? '' : (domain ?? ''))

export function modelFromProto(p: Proto<'ModelProto'>, folder?: string): Model {
  if (!p.graph)
    throw modelError('not-onnx', 'this is not an ONNX model: it contains no graph', {
      next: 'check that the file is complete',
    })
  const irVersion = Number(p.ir_version ?? 0n)
  const file = { files: new DataFiles(folder), irVersion }
  const model = new Model(decodeGraph(p.graph, null, file))
  model.irVersion = irVersion
  readOpsets(p.opset_import, model.opsets)
  model.producerName = p.producer_name ?? ''
  model.producerVersion = p.producer_version ?? ''
  model.domain = p.domain ?? ''
  model.modelVersion = p.model_version ?? 0n
  model.docString = text(p.doc_string)
  readProps(p.metadata_props, model.metadata)
  const known = new Set<string>()
  for (const f of p.functions ?? []) {
    const def = decodeFunction(f, file)
    const id = `${def.domain}::${def.name}${def.overload && `:${def.overload}`}`
    if (known.has(id)) throw modelError('duplicate-name', `function '${id}' is defined twice`)
    known.add(id)
    model.functions.push(def)
  }
  model.folder = folder
  model.extra = { kind: 'model', proto: copyProto(p, 'graph', 'functions') } satisfies ModelExtra
  return model
}

export const text = (bytes: Uint8Array | undefined): string => (bytes ? new TextDecoder().decode(bytes) : '')

/** Files before IR version 3 import nothing and mean opset 1. */
export function readOpsets(list: Proto<'OperatorSetIdProto'>[] | undefined, into: Map<string, number>): void {
  into.clear()
  for (const { domain, version } of list ?? []) into.set(normalDomain(domain), Number(version ?? 0n))
  if (into.size === 0) into.set('', 1)
}

function decodeFunction(p: Proto<'FunctionProto'>, file: FileFacts): FunctionDef {
  const name = p.name ?? ''
  try {
    const graph = new Graph(name)
    const notes: Notes = new Map()
    for (const input of p.input ?? []) graph.addInput(claim(graph, input), null)
    decodeNodes(p.node ?? [], graph, file)
    for (const output of p.output ?? []) graph.addOutput(outputOf(graph, output))
    const strayInfo = decodeInfo(p.value_info ?? [], graph, notes)
    finish(notes)
    readProps(p.metadata_props, graph.metadata)
    graph.extra = { kind: 'graph', proto: {}, strayInfo } satisfies GraphExtra
    const opsets = new Map<string, number>()
    readOpsets(p.opset_import, opsets)
    const extra: FunctionExtra = { kind: 'function', proto: copyProto(p, 'input', 'output', 'node', 'value_info') }
    const { domain = '', overload = '', attribute = [] } = p
    return { domain, name, overload, attributes: attribute, opsets, graph, extra }
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    const { code, node, cause, message } = error
    throw modelError(code, `in function '${name}': ${message}`, { node, cause })
  }
}

function decodeGraph(p: Proto<'GraphProto'>, parent: Graph | null, file: FileFacts): Graph {
  const graph = new Graph(p.name ?? '', parent)
  const notes: Notes = new Map()
  for (const info of p.input ?? []) {
    const v = graph.addInput(claim(graph, info.name), decodeType(info.type))
    note(notes, v, info).input = info
  }
  for (const t of p.initializer ?? []) decodeInitializer(t, graph, notes, file.files)
  for (const s of p.sparse_initializer ?? [])
    define(graph, s.values?.name ?? '', (name) => decodeSparse(s, name, file.files))
  if (file.irVersion < DEFAULTS_SINCE) graph.fixDefaults()
  decodeNodes(p.node ?? [], graph, file)
  for (const info of p.output ?? []) {
    const v = outputOf(graph, info.name)
    if (!v.type && v.graph === graph) v.setType(decodeType(info.type))
    graph.addOutput(v)
    if (v.graph === graph) note(notes, v, info).output = info
  }
  const strayInfo = decodeInfo(p.value_info ?? [], graph, notes)
  finish(notes)
  readProps(p.metadata_props, graph.metadata)
  const rest = copyProto(p, 'node', 'initializer', 'sparse_initializer', 'input', 'output', 'value_info')
  const listed = file.irVersion < DEFAULTS_SINCE && { inputOrder: (p.input ?? []).map((i) => i.name ?? '') }
  graph.extra = { kind: 'graph', proto: rest, strayInfo, ...listed } satisfies GraphExtra
  return graph
}

/** A name for a new value: it must not be empty or taken. */
function claim(graph: Graph, name: string | undefined): string {
  if (!name) throw modelError('missing-name', `a value of graph '${graph.name}' has no name`)
  if (graph.find(name)) throw modelError('duplicate-name', `two values of graph '${graph.name}' are named '${name}'`)
  return name
}

function outputOf(graph: Graph, name: string | undefined): Value {
  const v = graph.resolve(name ?? '')
  if (!v)
    throw modelError('unknown-value', `output '${name ?? ''}' of graph '${graph.name}' is not produced by any node`)
  return v
}

/** The value of an initializer, which may be an input too. */
function define(graph: Graph, name: string, read: (name: string) => Tensor): Value {
  const input = graph.find(name)
  if (input?.stored) throw modelError('duplicate-name', `two initializers are named '${name}'`)
  const v = input ?? graph.define(claim(graph, name))
  const tensor = read(name)
  if (input) v.setDefault(tensor)
  else v.setConstant(tensor)
  return v
}

function decodeInitializer(t: Proto<'TensorProto'>, graph: Graph, notes: Notes, files: DataFiles): void {
  const v = define(graph, t.name ?? '', (name) => decodeTensor(t, name, files))
  const about = note(notes, v)
  about.tensor = tensorShell(t)
  readProps(t.metadata_props, v.metadata)
}

function decodeNodes(list: readonly Proto<'NodeProto'>[], graph: Graph, file: FileFacts): void {
  const nodes = sortNodes(list)
  const end = graph.append()
  for (const p of nodes) {
    const fail = (code: string, message: string): MncError =>
      modelError(code, `${p.op_type || 'a node'}: ${message}`, { node: p.name || p.output?.find((o) => o !== '') })
    if (!p.op_type) throw fail('missing-op', 'has no operator type')
    const inputs = (p.input ?? []).map((name) => {
      if (name === '') return null
      const v = graph.resolve(name)
      if (!v) throw fail('unknown-value', `reads '${name}', which no input, initializer or node before it provides`)
      return v
    })
    const outputs = p.output ?? []
    for (const [i, name] of outputs.entries())
      if (name !== '' && (graph.find(name) || outputs.indexOf(name) !== i))
        throw fail('duplicate-name', `produces '${name}', which already exists`)
    const { op_type: op, name = '', domain = '', overload = '' } = p
    const node = end.node({ op, name, domain, overload, inputs, outputs })
    readProps(p.metadata_props, node.metadata)
    const attributes = new Map<string, { of: Attribute; proto: Proto<'AttributeProto'> }>()
    for (const proto of p.attribute ?? []) {
      const key = proto.name ?? ''
      if (attributes.has(key)) throw fail('duplicate-name', `has two attributes named '${key}'`)
      const of = guarded(fail, () =>
        decodeAttribute(proto, {
          tensor: (t) => decodeTensor(t, `${node.id}.${key}`, file.files),
          graph: (g) => decodeGraph(g, graph, file),
        }),
      )
      node.setAttribute(key, of)
      // The bodies are written from their graphs: keeping their messages would hold the whole file twice.
      attributes.set(key, { of, proto: copyProto(proto, 'g', 'graphs', 't', 'tensors') })
    }
    node.extra = {
      kind: 'node',
      proto: copyProto(p, 'input', 'output', 'attribute'),
      attributes,
    } satisfies NodeExtra
  }
}

/** Errors of an attribute name the node, unless they name one inside a body. */
function guarded<T>(fail: (code: string, message: string) => MncError, read: () => T): T {
  try {
    return read()
  } catch (error) {
    throw error instanceof MncError && error.node === undefined ? fail(error.code, error.message) : error
  }
}

/** Reads value_info; returns the entries that name no value of the graph. */
function decodeInfo(list: readonly Proto<'ValueInfoProto'>[], graph: Graph, notes: Notes): GraphExtra['strayInfo'] {
  const stray: { at: number; proto: Proto<'ValueInfoProto'> }[] = []
  for (const [at, proto] of list.entries()) {
    const v = graph.find(proto.name ?? '')
    if (!v || notes.get(v)?.info) {
      stray.push({ at, proto })
      continue
    }
    if (!v.type) v.setType(decodeType(proto.type))
    note(notes, v, proto).info = { at, proto }
  }
  return stray
}

function note(notes: Notes, v: Value, info?: Proto<'ValueInfoProto'>): Mutable<Partial<ValueExtra>> {
  readProps(info?.metadata_props, v.metadata)
  const known = notes.get(v) ?? {}
  notes.set(v, known)
  return known
}

function finish(notes: Notes): void {
  for (const [v, about] of notes)
    v.extra = { ...about, kind: 'value', type: v.type, metadata: new Map(v.metadata) } satisfies ValueExtra
}
