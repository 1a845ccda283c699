/**
 * The text form of a model, one node per line:
 *
 *     onnx {ir_version=10}
 *     opset ai.onnx=21
 *     graph "main"
 *       input %x : float32[N,3,32,32]
 *       init %w = float32[1] [0.5]
 *       %y : float32[N,3,32,32] = Mul(%x, %w) #name "scale" @mnc.role=prune-mask
 *       output %y
 *     end
 *
 * Stable: the same model gives the same text. Names that are not plain words are quoted as JSON strings, `_` is an
 * optional input or output left out. In the full form nothing is lost but how a tensor's elements were stored, whether
 * they lay outside the file, and the inner name of a tensor that is an attribute; the summary leaves out the content of larger tensors and what the IR does not
 * model, and is meant for goldens and for reading. text-parse.ts reads it back.
 */
import type { Attribute, Opaque } from '../graph/attribute.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { FunctionDef, Model } from '../graph/model.ts'
import type { TensorType } from '../graph/types.ts'
import { sparseOf } from './codec-sparse.ts'
import { declaredInputs } from './declared-inputs.ts'
import { encodeProto } from './proto.ts'
import type { Proto } from './proto-schema.ts'
import { attributeRest, functionRest, graphRest, modelRest, nodeRest, valueRest } from './text-extra.ts'
import { base64, formatFloat32, printTensor, utf8 } from './text-tensor.ts'

export interface PrintOptions {
  /** `full` (default): everything, can be parsed back. `summary`: larger tensors as a hash, no `!` parts. */
  readonly tensors?: 'full' | 'summary'
}

/** A model as text, which `parseModel` reads. */
export function printModel(model: Model, options: PrintOptions = {}): string {
  return new Printer(options.tensors ?? 'full', model.irVersion).model(model)
}

/** A graph alone, for messages and goldens of parts. */
export function printGraph(graph: Graph, options: PrintOptions = {}): string {
  return new Printer(options.tensors ?? 'full', Number.POSITIVE_INFINITY).graph(graph, '')
}

/** Bare words do not start with a slash: `//` starts a comment. */
const word = (s: string, bare = /^[\w.-][\w./-]*$/): string => (bare.test(s) ? s : JSON.stringify(s))
/** A lone `_` and a trailing colon would read as something else. */
const nameOf = (v: Value): string => `%${word(v.name, /^[\w./:-]*[\w./-]$/)}`
const metadataOf = (m: ReadonlyMap<string, string>): string =>
  [...m].map(([k, v]) => ` @${word(k)}=${word(v)}`).join('')

/** `float32[N,?,3]`; `float32[...]` where the rank is unknown. */
function typeOf(t: TensorType): string {
  const dim = (d: string | number | null) => (typeof d === 'string' ? word(d, /^[A-Za-z_]\w*$/) : (d ?? '?'))
  return `${t.elem}[${t.dims === null ? '...' : t.dims.map(dim).join(',')}]`
}

class Printer {
  readonly #tensors: 'full' | 'summary'
  readonly #irVersion: number

  constructor(tensors: 'full' | 'summary', irVersion: number) {
    this.#tensors = tensors
    this.#irVersion = irVersion
  }

  #rest(make: () => string): string {
    return this.#tensors === 'full' ? make() : ''
  }

  model(m: Model): string {
    const fields = [`ir_version=${m.irVersion}`]
    const texts = { producer: m.producerName, version: m.producerVersion, domain: m.domain, doc: m.docString }
    for (const [key, text] of Object.entries(texts)) if (text !== '') fields.push(`${key}=${JSON.stringify(text)}`)
    if (m.modelVersion !== 0n) fields.push(`model_version=${m.modelVersion}`)
    const head = `onnx {${fields.join(', ')}}${this.#rest(() => modelRest(m))}\nopset${opsetsOf(m.opsets)}\n`
    const metadata = [...m.metadata].map(([k, v]) => `@${word(k)}=${word(v)}\n`).join('')
    return head + metadata + this.graph(m.graph, '') + m.functions.map((f) => this.#function(f)).join('')
  }

  #function(f: FunctionDef): string {
    const id = `${word(f.domain)}::${word(f.name)}${f.overload && ` overload ${word(f.overload)}`}`
    const attributes = f.attributes.map((a) => word(a)).join(', ')
    const head = `function ${id} (${attributes}) opset${opsetsOf(f.opsets)}${this.#rest(() => functionRest(f))}\n`
    return head + this.graph(f.graph, '')
  }

  graph(g: Graph, indent: string): string {
    const inner = `${indent}  `
    const lines = [`graph ${JSON.stringify(g.name)}${metadataOf(g.metadata)}${this.#rest(() => graphRest(g))}`]
    const inputs = declaredInputs(g, this.#irVersion)
    const shown = new Set(inputs)
    for (const v of inputs) lines.push(`${inner}input ${this.#value(v)}`)
    for (const v of g.stored()) {
      const tensor = v.stored!
      if (sparseOf(tensor)) continue
      // The tensor states its type; an input has stated its own.
      const own = v.type?.elem === tensor.type && v.type.dims?.join() === tensor.dims.join()
      const name = shown.has(v) ? nameOf(v) : this.#value(v, own ? null : v.type)
      lines.push(`${inner}init ${name} = ${printTensor(tensor, this.#tensors)}`)
      shown.add(v)
    }
    for (const v of g.values()) if (!v.producer && !shown.has(v)) lines.push(`${inner}value ${this.#value(v)}`)
    for (const n of g.nodes()) lines.push(inner + this.#node(n, inner))
    for (const v of g.outputs) lines.push(`${inner}output ${nameOf(v)}`)
    return `${lines.join('\n')}\n${indent}end\n`
  }

  #value(v: Value, type: TensorType | null = v.type): string {
    return `${nameOf(v)}${type ? ` : ${typeOf(type)}` : ''}${metadataOf(v.metadata)}${this.#rest(() => valueRest(v))}`
  }

  #node(n: Node, indent: string): string {
    const outputs = n.outputs.map((v) => (v ? this.#value(v) : '_')).join(', ')
    const op = `${n.domain === '' ? '' : `${word(n.domain)}::`}${word(n.op)}`
    const inputs = n.inputs.map((v) => (v ? nameOf(v) : '_')).join(', ')
    let line = `${outputs}${outputs && ' '}= ${op}(${inputs})`
    if (n.overload) line += ` overload ${word(n.overload)}`
    if (n.attributes.size > 0)
      line += ` {${Array.from(n.attributes, ([k, a]) => `${word(k)}=${this.#attribute(a, indent)}${this.#rest(() => attributeRest(n, k))}`).join(', ')}}`
    if (n.name) line += ` #name ${JSON.stringify(n.name)}`
    return line + metadataOf(n.metadata) + this.#rest(() => nodeRest(n))
  }

  #attribute(a: Attribute, indent: string): string {
    const body = (g: Graph) => this.graph(g, `${indent}  `).trimEnd()
    const list = (kind: string, items: readonly string[], plain = false): string =>
      `${plain && items.length > 0 ? '' : kind}[${items.join(', ')}]`
    switch (a.kind) {
      case 'int':
        return String(a.value)
      case 'float':
        return floatOf(a.value)
      case 'string':
        return stringOf(a.value)
      case 'tensor':
        return printTensor(a.value, this.#tensors)
      case 'graph':
        return body(a.value)
      case 'ints':
        return list('ints', a.value.map(String), true)
      case 'floats':
        return list('floats', a.value.map(floatOf), true)
      case 'strings':
        return list('strings', a.value.map(stringOf), true)
      case 'tensors':
        return list(
          'tensors',
          a.value.map((t) => printTensor(t, this.#tensors)),
        )
      case 'graphs':
        return list('graphs', a.value.map(body))
      case 'reference':
        return `ref ${word(a.value)} ${a.type}`
      case 'sparseTensor':
      case 'typeProto':
        return `${a.kind} ${opaqueOf(a.kind, a.value)}`
      case 'sparseTensors':
      case 'typeProtos':
        return list(
          a.kind,
          a.value.map((x) => opaqueOf(a.kind === 'typeProtos' ? 'typeProto' : 'sparseTensor', x)),
        )
    }
  }
}

const opsetsOf = (opsets: ReadonlyMap<string, number>): string =>
  [...opsets].map(([domain, version]) => ` ${word(domain || 'ai.onnx')}=${version}`).join('')

/** With a point, exponent or word, so that it does not read as an int. */
function floatOf(x: number): string {
  const text = formatFloat32(x)
  return /^-?\d+$/.test(text) ? `${text}.0` : text
}

function stringOf(bytes: Uint8Array): string {
  const text = utf8(bytes)
  return text === undefined ? `bytes "${base64(bytes)}"` : JSON.stringify(text)
}

function opaqueOf(kind: 'sparseTensor' | 'typeProto', x: Opaque): string {
  const bytes =
    kind === 'typeProto'
      ? encodeProto('TypeProto', x.opaque as Proto<'TypeProto'>)
      : encodeProto('SparseTensorProto', x.opaque as Proto<'SparseTensorProto'>)
  return `"${base64(bytes)}"`
}
