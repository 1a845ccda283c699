/** Random models for fast-check: every kind of attribute, tensor and name, bodies, functions, metadata. Not runnable. */
import type fc from 'fast-check'
import { packStrings } from '../../src/codec/codec-tensor.ts'
import type { Attribute } from '../../src/graph/attribute.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { byteLength, type ElementType, elementTypes, type TensorType } from '../../src/graph/types.ts'

type Check = typeof fc
type Gen = fc.GeneratorValue

const typeNames = Object.keys(elementTypes) as ElementType[]

export class ModelMaker {
  readonly #fc: Check
  readonly #g: Gen
  #serial = 0

  constructor(check: Check, g: Gen) {
    this.#fc = check
    this.#g = g
  }

  #below(n: number): number {
    return this.#g(this.#fc.nat, { max: n - 1 })
  }

  #text(): string {
    return this.#g(this.#fc.string, { unit: 'binary', maxLength: 6 })
  }

  /** Unique, and often unlike a word. */
  #name(): string {
    return `${this.#g(this.#fc.constantFrom, 'v', '/a/b', '-', 'x:', '_', '1', '%', 'a b', 'é"\\\n', '//')}${this.#serial++}${this.#g(this.#fc.constantFrom, '', ':', '/', '"', '.0')}`
  }

  #list<T>(max: number, item: () => T): T[] {
    return Array.from({ length: this.#below(max + 1) }, item)
  }

  #bytes(length: number): Uint8Array {
    return this.#g(this.#fc.uint8Array, { minLength: length, maxLength: length })
  }

  tensor(): Tensor {
    const type = this.#g(this.#fc.constantFrom, ...typeNames)
    const dims = this.#list(3, () => this.#below(6))
    const size = dims.reduce((a, b) => a * b, 1)
    if (type === 'string')
      return new Tensor(type, dims, packStrings(Array.from({ length: size }, () => this.#bytes(this.#below(4)))))
    const bytes = this.#bytes(byteLength(type, size))
    // Small numbers, so that some tensors are written as values.
    if (this.#below(2) === 0) for (let i = 0; i < bytes.length; i++) bytes[i]! &= 1
    return new Tensor(type, dims, bytes)
  }

  #type(): TensorType | null {
    if (this.#below(4) === 0) return null
    const dim = () => [this.#below(9), this.#text() || 'N', null, 'batch'][this.#below(4)]!
    const elem = this.#g(this.#fc.constantFrom, ...typeNames)
    return { elem, dims: this.#below(5) === 0 ? null : this.#list(3, () => dim()) }
  }

  #metadata(into: Map<string, string>): void {
    for (let n = this.#below(3); n > 0; n--) into.set(this.#text(), this.#text())
  }

  #float(): number {
    return this.#g(this.#fc.float, { noNaN: false })
  }

  #int(): bigint {
    return this.#g(this.#fc.bigInt, { min: -(2n ** 63n), max: 2n ** 63n - 1n })
  }

  #attribute(graph: Graph, depth: number): Attribute {
    const opaque = (proto: object) => ({ opaque: proto })
    const typeProto = () => opaque({ tensor_type: { elem_type: 1 }, denotation: this.#text() })
    const sparse = () => opaque({ values: { data_type: 1, name: this.#text() } })
    const body = () => this.graph(graph, depth + 1)
    const kinds: (() => Attribute)[] = [
      () => ({ kind: 'int', value: this.#int() }),
      () => ({ kind: 'float', value: this.#float() }),
      () => ({ kind: 'string', value: this.#bytes(this.#below(5)) }),
      () => ({ kind: 'string', value: new TextEncoder().encode(this.#text()) }),
      () => ({ kind: 'tensor', value: this.tensor() }),
      () => ({ kind: 'ints', value: this.#list(3, () => this.#int()) }),
      () => ({ kind: 'floats', value: this.#list(3, () => this.#float()) }),
      () => ({ kind: 'strings', value: this.#list(3, () => this.#bytes(this.#below(5))) }),
      () => ({ kind: 'tensors', value: this.#list(2, () => this.tensor()) }),
      () => ({ kind: 'typeProto', value: typeProto() }),
      () => ({ kind: 'typeProtos', value: this.#list(2, typeProto) }),
      () => ({ kind: 'sparseTensor', value: sparse() }),
      () => ({ kind: 'sparseTensors', value: this.#list(2, sparse) }),
      () => ({ kind: 'reference', value: this.#text() || 'a', type: 1 + this.#below(14) }),
      () => ({ kind: 'graph', value: body() }),
      () => ({ kind: 'graphs', value: this.#list(2, body) }),
    ]
    return kinds[this.#below(depth < 2 ? kinds.length : kinds.length - 2)]!()
  }

  graph(parent: Graph | null = null, depth = 0): Graph {
    const graph = new Graph(this.#text(), parent)
    this.#metadata(graph.metadata)
    const readable: Value[] = []
    for (let g = parent; g; g = g.parent) readable.push(...g.values())
    const add = (v: Value) => {
      readable.push(v)
      return v
    }
    for (let n = this.#below(3); n > 0; n--) this.#metadata(add(graph.addInput(this.#name(), this.#type())).metadata)
    for (let n = this.#below(3); n > 0; n--) {
      const asInput = graph.fed.find((v) => v.type && this.#below(4) === 0)
      if (asInput) asInput.setDefault(this.tensor())
      else this.#metadata(add(graph.addInitializer(this.#name(), this.tensor())).metadata)
    }
    for (let n = this.#below(5); n > 0; n--) {
      const pick = () =>
        readable.length === 0 || this.#below(6) === 0 ? null : readable[this.#below(readable.length)]!
      const attributes = new Map<string, Attribute>()
      for (const key of new Set(this.#list(3, () => this.#text() || 'a')))
        attributes.set(key, this.#attribute(graph, depth))
      const node = graph.append().node({
        op: this.#text() || 'Op',
        domain: this.#g(this.#fc.constantFrom, '', 'com.microsoft', 'a b'),
        overload: this.#below(5) === 0 ? this.#text() : '',
        name: this.#text(),
        inputs: this.#list(3, pick),
        outputs: this.#list(3, () => (this.#below(5) === 0 ? '' : this.#name())),
      })
      for (const [k, a] of attributes) node.setAttribute(k, a)
      this.#metadata(node.metadata)
      for (const v of node.outputs) {
        if (!v) continue
        add(v).setType(this.#type())
        this.#metadata(v.metadata)
      }
    }
    const own = readable.filter((v) => v.graph === graph)
    for (let n = this.#below(3); n > 0 && own.length > 0; n--) {
      const v = own[this.#below(own.length)]!
      if (!v.outputOf.has(graph)) graph.addOutput(v)
    }
    return graph
  }

  model(): Model {
    const model = new Model(this.graph(), 7 + this.#below(16))
    model.producerName = this.#text()
    model.docString = this.#text()
    model.modelVersion = this.#int()
    model.opsets.set('com.microsoft', 1)
    this.#metadata(model.metadata)
    for (let n = this.#below(2); n > 0; n--) {
      const opsets = new Map([['', 21]])
      const [name, overload] = [this.#text() || 'F', this.#text()]
      const named = new Graph(name)
      this.#metadata(named.metadata)
      const attributes = ['alpha', this.#text() || 'b']
      model.functions.push({ domain: 'own', name, overload, attributes, opsets, graph: named, extra: undefined })
      const x = named.addInput('x', null)
      const y = named.append().op('Neg', [x])
      y.producer!.setAttribute('a', { kind: 'reference', value: 'alpha', type: 1 })
      named.addOutput(y)
    }
    return model
  }
}
