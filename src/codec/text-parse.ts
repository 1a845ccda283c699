/** Reads the text form of text.ts back into a model. */
import { MncError } from '../base/errors.ts'
import type { Attribute } from '../graph/attribute.ts'
import { Graph, type Node, type Value } from '../graph/graph.ts'
import { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { type Dim, type ElementType, elementTypes, isStatic, type TensorType } from '../graph/types.ts'
import { valueInfo } from './codec-encode.ts'
import type { FunctionExtra, GraphExtra, ModelExtra, NodeExtra, ValueExtra } from './codec-extra.ts'
import { decodeSparse } from './codec-sparse.ts'
import { DEFAULTS_SINCE } from './declared-inputs.ts'
import { DataFiles } from './external-data.ts'
import { decodeProto } from './proto.ts'
import type { MessageName, Proto } from './proto-schema.ts'
import { plainAttribute } from './text-plain-attribute.ts'
import { Scanner } from './text-scanner.ts'
import { tensorOfValues } from './text-tensor.ts'

/** As deep as the binary form goes (protobuf's limit of 100 messages, three per graph). */
const DEPTH_LIMIT = 33

/** Model error naming the line for anything that text.ts does not print. */
export function parseModel(text: string): Model {
  return new Parser(text).model()
}

/** A `!key [at] ["base64"]` part. */
interface Rest {
  readonly key: string
  readonly at: number
  readonly bytes: Uint8Array | undefined
}

class Parser {
  readonly #s: Scanner
  #irVersion = 0

  constructor(text: string) {
    this.#s = new Scanner(text)
  }

  model(): Model {
    const s = this.#s
    s.expect('onnx')
    s.expect('{')
    const head = new Map<string, string>()
    for (const [k, v] of s.list('}', () => this.#field())) head.set(k, v)
    this.#irVersion = Number(head.get('ir_version') ?? 0)
    const rests = this.#rests()
    s.expect('opset')
    const opsets = this.#opsets()
    const metadata = new Map<string, string>()
    this.#metadata(metadata)
    const model = new Model(this.#graph(null, 0))
    model.irVersion = this.#irVersion
    model.producerName = head.get('producer') ?? ''
    model.producerVersion = head.get('version') ?? ''
    model.domain = head.get('domain') ?? ''
    model.docString = head.get('doc') ?? ''
    model.modelVersion = BigInt(head.get('model_version') ?? 0)
    model.opsets.clear()
    for (const [k, v] of opsets) model.opsets.set(k, v)
    for (const [k, v] of metadata) model.metadata.set(k, v)
    const proto = this.#message(rests, 'model', 'ModelProto')
    if (proto) model.extra = { kind: 'model', proto } satisfies ModelExtra
    while (!s.done) this.#function(model)
    return model
  }

  #field(): [string, string] {
    const s = this.#s
    const key = s.need(/ir_version|producer|version|domain|doc|model_version/y, 'a field of the model')
    s.expect('=')
    return [key, key.includes('_version') ? s.need(/-?\d+/y, 'a number') : s.needString('a text')]
  }

  #opsets(): Map<string, number> {
    const s = this.#s
    const opsets = new Map<string, number>()
    while (!s.sees('@') && !s.sees('!') && !s.sees('graph ')) {
      const domain = s.word('a domain')
      s.expect('=')
      opsets.set(domain === 'ai.onnx' ? '' : domain, s.integer('a version'))
    }
    return opsets
  }

  #function(model: Model): void {
    const s = this.#s
    s.expect('function')
    const domain = s.word('a domain')
    s.expect('::')
    const name = s.word('a name')
    const overload = s.keyword('overload') ? s.word('an overload') : ''
    s.expect('(')
    const attributes = s.list(')', () => s.word('an attribute'))
    s.expect('opset')
    const opsets = this.#opsets()
    const proto = this.#message(this.#rests(), 'function', 'FunctionProto')
    const extra: FunctionExtra = { kind: 'function', proto: proto ?? {} }
    if (model.functions.some((f) => f.domain === domain && f.name === name && f.overload === overload))
      throw s.fail(`function '${domain}::${name}' is defined twice`)
    model.functions.push({ domain, name, overload, attributes, opsets, graph: this.#graph(null, 0), extra })
  }

  #graph(parent: Graph | null, depth: number): Graph {
    const s = this.#s
    if (depth > DEPTH_LIMIT) throw s.fail(`graphs are nested more than ${DEPTH_LIMIT} deep`)
    s.expect('graph')
    const graph = new Graph(s.needString('the name of a graph'), parent)
    this.#metadata(graph.metadata)
    const rests = this.#rests()
    const strayInfo = rests
      .filter((r) => r.key === 'stray')
      .map((r) => ({ at: r.at, proto: this.#decode(r, 'ValueInfoProto') }))
    const proto = this.#message(rests, 'graph', 'GraphProto')
    // Extras of values wait until it is known which of them are initializers.
    const later: (() => void)[] = []
    while (!s.keyword('end')) this.#line(graph, depth, later)
    for (const run of later) run()
    const old = this.#irVersion < DEFAULTS_SINCE
    const listed = old && { inputOrder: graph.inputs.map((v) => v.name) }
    if (proto || strayInfo.length > 0 || listed)
      graph.extra = { kind: 'graph', proto: proto ?? {}, strayInfo, ...listed } satisfies GraphExtra
    if (old) graph.fixDefaults()
    return graph
  }

  #line(graph: Graph, depth: number, later: (() => void)[]): void {
    const s = this.#s
    if (s.keyword('input')) graph.addInput(this.#define(graph, later).name, null)
    else if (s.keyword('value')) this.#define(graph, later)
    else if (s.keyword('output')) graph.addOutput(this.#known(graph))
    else if (s.keyword('init')) this.#initializer(graph, later)
    else this.#node(graph, depth, later)
  }

  #name(): string {
    this.#s.expect('%')
    return this.#s.match(/[\w./:-]*[\w./-]/y, false) ?? this.#s.needString('a name')
  }

  #known(graph: Graph): Value {
    const name = this.#name()
    const v = graph.resolve(name)
    if (!v) throw this.#s.fail(`'${name}' is not defined before this`)
    return v
  }

  /** `%name : type @key=value !rest`: a new value. */
  #define(graph: Graph, later: (() => void)[], name = this.#name()): Value {
    const s = this.#s
    if (name === '' || graph.find(name)) throw s.fail(`'${name}' is defined twice`)
    const v = graph.define(name)
    if (s.take(':')) v.setType(this.#type())
    this.#metadata(v.metadata)
    const rests = this.#rests()
    if (rests.length > 0) later.push(() => this.#valueExtra(v, rests))
    return v
  }

  #initializer(graph: Graph, later: (() => void)[]): void {
    const s = this.#s
    const name = this.#name()
    const known = graph.find(name)
    if (known?.stored) throw s.fail(`initializer '${name}' is defined twice`)
    const v = known ?? this.#define(graph, later, name)
    const { type } = v
    s.expect('=')
    const tensor = this.#tensor()
    if (v.isInput) v.setDefault(tensor)
    else v.setConstant(tensor)
    if (type) v.setType(type)
  }

  #valueExtra(v: Value, rests: readonly Rest[]): void {
    const role = (key: string): Proto<'ValueInfoProto'> | undefined => {
      const r = rests.find((x) => x.key === key)
      return r && (r.bytes ? this.#decode(r, 'ValueInfoProto') : valueInfo(v, undefined, undefined))
    }
    const sparse = rests.find((r) => r.key === 'sparse')
    if (sparse) {
      const tensor = decodeSparse(this.#decode(sparse, 'SparseTensorProto'), v.name, new DataFiles(undefined))
      if (v.isInput) v.setDefault(tensor)
      else v.setConstant(tensor)
    }
    const [input, output, info] = [role('input'), role('output'), role('info')]
    const at = rests.find((r) => r.key === 'info')?.at ?? 0
    const props = [...v.metadata].map(([key, value]) => ({ key, value }))
    const tensor = this.#message(rests, 'tensor', 'TensorProto') ?? {}
    if (v.stored && props.length > 0) tensor.metadata_props ??= props
    v.extra = {
      kind: 'value',
      type: v.type,
      metadata: new Map(v.metadata),
      ...(input && { input }),
      ...(output && { output }),
      ...(info && { info: { at, proto: info } }),
      ...(v.stored && { tensor }),
    } satisfies ValueExtra
  }

  #node(graph: Graph, depth: number, later: (() => void)[]): void {
    const s = this.#s
    type Output = { name: string; type: TensorType | null; metadata: Map<string, string>; rests: Rest[] }
    const outputs: Output[] = []
    if (!s.take('='))
      do {
        const name = s.take('_') ? '' : this.#name()
        const type = name !== '' && s.take(':') ? this.#type() : null
        const metadata = new Map<string, string>()
        this.#metadata(metadata)
        outputs.push({ name, type, metadata, rests: this.#rests() })
        if (name !== '' && (graph.find(name) || outputs.findIndex((o) => o.name === name) < outputs.length - 1))
          throw s.fail(`'${name}' is defined twice`)
      } while (s.take(',') || !this.#equals())
    const first = s.word('an operator')
    const qualified = s.take('::')
    const op = qualified ? s.word('an operator') : first
    s.expect('(')
    const inputs = s.list(')', () => (s.take('_') ? null : this.#known(graph)))
    const overload = s.keyword('overload') ? s.word('an overload') : ''
    // Bodies see what stands before the node, not its outputs: attributes are read first.
    const attributes = new Map<string, { of: Attribute; rests: Rest[] }>()
    if (s.take('{'))
      s.list('}', () => {
        const key = s.word('an attribute')
        if (attributes.has(key)) throw s.fail(`attribute '${key}' is given twice`)
        s.expect('=')
        attributes.set(key, { of: this.#attribute(graph, depth), rests: this.#rests() })
      })
    const name = s.keyword('#name') ? s.needString('a name') : ''
    const domain = qualified ? first : ''
    const node = graph.append().node({ op, domain, overload, name, inputs, outputs: outputs.map((o) => o.name) })
    for (const [key, { of }] of attributes) node.setAttribute(key, of)
    this.#metadata(node.metadata)
    this.#nodeExtra(node, attributes, this.#rests())
    outputs.forEach(({ type, metadata, rests }, i) => {
      const v = node.outputs[i]
      if (!v) return
      v.setType(type)
      for (const [k, x] of metadata) v.metadata.set(k, x)
      if (rests.length > 0) later.push(() => this.#valueExtra(v, rests))
    })
  }

  #equals(): true {
    this.#s.expect('=')
    return true
  }

  #nodeExtra(node: Node, attributes: ReadonlyMap<string, { of: Attribute; rests: Rest[] }>, rests: Rest[]): void {
    const proto = this.#message(rests, 'node', 'NodeProto')
    const extras = new Map<string, { of: Attribute; proto: Proto<'AttributeProto'> }>()
    for (const [key, a] of attributes) {
      const rest = this.#message(a.rests, 'attribute', 'AttributeProto')
      // Not the attribute's own object: only doc string and unknown fields are taken from the message.
      if (rest) extras.set(key, { of: { ...a.of }, proto: rest })
    }
    if (!proto && extras.size === 0) return
    node.extra = { kind: 'node', proto: proto ?? {}, attributes: extras } satisfies NodeExtra
  }

  #metadata(into: Map<string, string>): void {
    const s = this.#s
    while (s.take('@')) {
      const key = s.word('a key')
      s.expect('=')
      into.set(key, s.word('a value'))
    }
  }

  #rests(): Rest[] {
    const s = this.#s
    const rests: Rest[] = []
    while (s.take('!')) {
      const key = s.word('a key')
      const at = s.match(/\d{1,15}(?![\w.])/y)
      rests.push({ key, at: Number(at ?? 0), bytes: s.sees('"') ? s.bytes(`the part '!${key}'`) : undefined })
    }
    return rests
  }

  #message<M extends MessageName>(rests: readonly Rest[], key: string, message: M): Proto<M> | undefined {
    const r = rests.find((x) => x.key === key)
    return r && this.#decode(r, message)
  }

  #decode<M extends MessageName>(r: Rest, message: M): Proto<M> {
    return this.#proto(message, r.bytes ?? new Uint8Array(0))
  }

  #proto<M extends MessageName>(message: M, bytes: Uint8Array): Proto<M> {
    try {
      return decodeProto(message, bytes)
    } catch (cause) {
      throw this.#s.fail(`a quoted part is not a valid ${message}`, cause)
    }
  }

  #type(elem = this.#elem()): TensorType {
    const s = this.#s
    s.expect('[')
    if (s.take('...')) {
      s.expect(']')
      return { elem, dims: null }
    }
    const dim = (): Dim => {
      if (s.take('?')) return null
      const digits = s.match(/\d{1,15}(?![\w.])/y)
      return digits === undefined ? (s.string() ?? s.need(/[A-Za-z_]\w*/y, 'a dimension')) : Number(digits)
    }
    return { elem, dims: s.list(']', dim) }
  }

  #elem(): ElementType {
    const name = this.#s.need(/[a-z]\w*/y, 'an element type')
    if (!Object.hasOwn(elementTypes, name)) throw this.#s.fail(`'${name}' is not an element type`)
    return name as ElementType
  }

  #tensor(elem?: ElementType): Tensor {
    const s = this.#s
    const { elem: type, dims } = this.#type(elem)
    if (!isStatic(dims)) throw s.fail('a tensor needs a known shape')
    if (s.keyword('sha256')) throw s.fail('this text is a summary: it lacks the values of its tensors')
    try {
      if (s.keyword('base64')) return new Tensor(type, dims, s.bytes('the tensor'))
      s.expect('[')
      const values = s.list(']', () => s.match(/"(?:[^"\\\n]|\\.)*"/y) ?? s.need(/[-+\w.]+/y, 'a value'))
      const size = dims.reduce((a, b) => a * b, 1)
      if (values.length !== size) throw s.fail(`${size} values expected, found ${values.length}`)
      if (values.some((v) => v.startsWith('"') !== (type === 'string'))) throw s.fail(`a value is not of type ${type}`)
      const tensor = tensorOfValues(type, dims, values)
      if (!tensor) throw s.fail(`a value does not fit ${type}`)
      return tensor
    } catch (error) {
      if (error instanceof MncError && error.blame === 'model' && error.code !== 'tensor-length') throw error
      throw s.fail(error instanceof Error ? error.message : String(error), error)
    }
  }

  #attribute(graph: Graph, depth: number): Attribute {
    const s = this.#s
    const plain = plainAttribute(s)
    if (plain) return plain
    if (s.sees('graph ')) return { kind: 'graph', value: this.#graph(graph, depth + 1) }
    const kind = s.need(/[A-Za-z]\w*/y, 'a value')
    switch (kind) {
      case 'bytes':
        return { kind: 'string', value: s.bytes('bytes') }
      case 'ref': {
        const value = s.word('an attribute')
        return { kind: 'reference', value, type: s.integer('a type') }
      }
      case 'typeProto':
        return { kind, value: { opaque: this.#proto('TypeProto', s.bytes('a type')) } }
      case 'sparseTensor':
        return { kind, value: { opaque: this.#proto('SparseTensorProto', s.bytes('a sparse tensor')) } }
    }
    if (Object.hasOwn(elementTypes, kind)) return { kind: 'tensor', value: this.#tensor(kind as ElementType) }
    s.expect('[')
    switch (kind) {
      case 'tensors':
        return { kind, value: s.list(']', () => this.#tensor()) }
      case 'graphs':
        return { kind, value: s.list(']', () => this.#graph(graph, depth + 1)) }
      case 'typeProtos':
        return { kind, value: s.list(']', () => ({ opaque: this.#proto('TypeProto', s.bytes('a type')) })) }
      case 'sparseTensors': {
        const item = () => ({ opaque: this.#proto('SparseTensorProto', s.bytes('a sparse tensor')) })
        return { kind, value: s.list(']', item) }
      }
      case 'ints':
      case 'floats':
      case 'strings':
        s.expect(']')
        return { kind, value: [] }
      default:
        throw s.fail(`'${kind}' is not a kind of attribute`)
    }
  }
}
