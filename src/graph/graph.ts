/**
 * The graph: values and nodes with use-def links both ways, kept by the methods of these three files (graph.ts, node.ts,
 * value.ts) and by nothing else. Nodes stand in a linked list whose order is a topological order. A graph inside an
 * attribute (If, Loop, Scan) may use values of the graphs around it; those uses count like any other.
 */
import { bugError } from '../base/errors.ts'
import { NodeBuilder } from './builder.ts'
import { dependencies, GraphNode, releaseOuterUses } from './node.ts'
import type * as parts from './parts.ts'
import type { Builder, Extra, Mutable, Node, NodeSpec, Value } from './parts.ts'
import type { Tensor } from './tensor.ts'
import type { TensorType } from './types.ts'
import { GraphValue, unuse, use } from './value.ts'

export type { Extra, Node, NodeSpec, Value } from './parts.ts'

/** The type; the constructor of the same name is at the end. */
export type Graph = parts.Graph

class LinkedGraph implements Graph {
  readonly name: string
  readonly parent: Graph | null
  inputs: Value[] = []
  readonly outputs: Value[] = []
  readonly metadata = new Map<string, string>()
  extra: Extra = undefined
  readonly #values = new Map<string, Value>()
  readonly #initializers = new Set<Value>()
  #first: Node | null = null
  #last: Node | null = null
  #count = 0
  readonly #counters = new Map<string, number>()
  readonly released = new Set<string>()

  constructor(name = 'graph', parent: Graph | null = null) {
    this.name = name
    this.parent = parent
  }

  // --- reading -------------------------------------------------------------------------------------------------

  get nodeCount(): number {
    return this.#count
  }

  get lastNode(): Node | null {
    return this.#last
  }

  *nodes(): Generator<Node> {
    for (let n = this.#first; n; ) {
      const next: Node | null = n.next
      yield n
      n = n.attached ? n.next : next
    }
  }

  *nodesReversed(): Generator<Node> {
    for (let n = this.#last; n; ) {
      const prev: Node | null = n.prev
      yield n
      n = n.attached ? n.prev : prev
    }
  }

  *allNodes(): Generator<Node> {
    for (const n of this.nodes()) {
      yield n
      for (const g of n.subgraphs) yield* g.allNodes()
    }
  }

  values(): IterableIterator<Value> {
    return this.#values.values()
  }

  *initializers(): Generator<Value> {
    for (const v of this.#initializers) if (v.constant) yield v
  }

  stored(): IterableIterator<Value> {
    return this.#initializers.values()
  }

  get fed(): readonly Value[] {
    return this.inputs.filter((v) => !v.default)
  }

  find(name: string): Value | undefined {
    return this.#values.get(name)
  }

  resolve(name: string): Value | undefined {
    return this.#values.get(name) ?? this.parent?.resolve(name)
  }

  // --- values --------------------------------------------------------------------------------------------------

  freshName(base: string): string {
    const isTaken = (name: string): boolean => this.released.has(name) || this.resolve(name) !== undefined
    if (!isTaken(base) && base !== '') return base
    let i = this.#counters.get(base) ?? 0
    let name: string
    do name = `${base}_${++i}`
    while (isTaken(name))
    this.#counters.set(base, i)
    return name
  }

  define(name: string, producer: Node | null = null, type: TensorType | null = null): Value {
    if (this.#values.has(name)) throw bugError(`two values are named '${name}'`)
    const v = new GraphValue(this, name, type)
    v.producer = producer
    this.#values.set(name, v)
    return v
  }

  addInput(name: string, type: TensorType | null): Value {
    const v = this.#values.get(name) ?? this.define(name, null, type)
    this.inputs.push(v)
    return v
  }

  removeInput(v: Value): void {
    const at = this.inputs.indexOf(v)
    if (at < 0) return
    if (v.isUsed) throw bugError(`input '${v.name}' is still used`)
    this.inputs.splice(at, 1)
    this.#initializers.delete(v)
    ;(v as Mutable<Value>).default = null
    this.forget(v)
  }

  fixDefaults(): Value[] {
    const fixed = this.inputs.filter((v) => v.default)
    for (const v of fixed as Mutable<Value>[]) {
      v.constant = v.default
      v.default = null
    }
    if (fixed.length > 0) this.inputs = this.inputs.filter((v) => !v.constant)
    for (const n of this.nodes()) for (const g of n.subgraphs) fixed.push(...g.fixDefaults())
    return fixed
  }

  addOutput(v: Value): void {
    this.outputs.push(v)
    ;(v.outputOf as Set<Graph>).add(this)
  }

  removeOutput(v: Value): void {
    const at = this.outputs.indexOf(v)
    if (at < 0) return
    this.outputs.splice(at, 1)
    if (!this.outputs.includes(v)) (v.outputOf as Set<Graph>).delete(this)
  }

  addInitializer(name: string, tensor: Tensor): Value {
    const v = this.define(this.freshName(name))
    v.setConstant(tensor)
    return v
  }

  removeInitializer(v: Value): void {
    if (v.isUsed) throw bugError(`initializer '${v.name}' is still used`)
    this.#initializers.delete(v)
    ;(v as Mutable<Value>).constant = null
    this.forget(v)
  }

  initializerToInput(v: Value): Tensor {
    const { constant } = v
    if (!constant) throw bugError(`'${v.name}' is not an initializer`)
    this.#initializers.delete(v)
    ;(v as Mutable<Value>).constant = null
    this.inputs.push(v)
    return constant
  }

  rename(v: Value, name: string): void {
    if (v.name === name) return
    if (this.#values.has(name)) throw bugError(`two values would be named '${name}'`)
    this.#values.delete(v.name)
    if (v.producer?.name === v.name) this.released.add(v.name)
    ;(v as Mutable<Value>).name = name
    this.#values.set(name, v)
  }

  inheritNames(from: Graph): void {
    for (const name of from.released) this.released.add(name)
  }

  reserve(body: Graph): void {
    this.inheritNames(body)
    for (const v of body.values()) this.released.add(v.name)
  }

  registerInitializer(v: Value): void {
    this.#initializers.add(v)
  }

  forget(v: Value): void {
    if (this.#values.get(v.name) === v) this.#values.delete(v.name)
  }

  replaceUses(from: Value, to: Value, except?: Node): void {
    for (const n of [...from.uses]) {
      if (n === except) continue
      for (let i = 0; i < n.inputs.length; i++) if (n.inputs[i] === from) n.setInput(i, to)
    }
    for (const g of [...from.outputOf]) {
      const named = to.isInput || to.constant !== null || to.isOutput || to.graph !== from.graph || !to.producer
      const out = named ? g.append().op('Identity', [to]) : to
      const at = g.outputs.indexOf(from)
      ;(g.outputs as Value[])[at] = out
      ;(from.outputOf as Set<Graph>).delete(g)
      ;(out.outputOf as Set<Graph>).add(g)
      const { name, type, extra } = from
      from.graph.rename(from, from.graph.freshName(`${name}_inner`))
      out.graph.rename(out, name)
      out.setType(type ?? out.type)
      out.extra ??= extra
    }
  }

  // --- nodes ---------------------------------------------------------------------------------------------------

  before(node: Node): Builder {
    return new NodeBuilder(this, node)
  }

  after(node: Node): Builder {
    return new NodeBuilder(this, node.next)
  }

  append(): Builder {
    return new NodeBuilder(this, null)
  }

  prepend(): Builder {
    return new NodeBuilder(this, this.#first)
  }

  insert(spec: NodeSpec, at: Node | null): Node {
    const outputs: (Value | null)[] = []
    const node = new GraphNode(this, spec, outputs)
    if (typeof spec.outputs === 'object')
      for (const name of spec.outputs) outputs.push(name === '' ? null : this.define(name, node))
    else
      for (let i = 0; i < (spec.outputs ?? 1); i++)
        outputs.push(this.define(this.freshName(`${spec.op.toLowerCase()}_0`), node))
    for (const v of node.inputs) if (v) use(v, node)
    this.#link(node, at)
    return node
  }

  move(node: Node, at: Node | null): void {
    if (node === at) return
    this.#unlink(node)
    this.#link(node, at)
  }

  sort(): void {
    const placed = new Set<Node>()
    const order: Node[] = []
    const stack: Node[] = []
    for (const root of this.nodes()) {
      stack.push(root)
      while (stack.length > 0) {
        const n = stack.at(-1)!
        const before = placed.has(n) ? [] : dependencies(n).filter((p) => p.graph === this && !placed.has(p))
        if (before.length > 0) stack.push(...before.reverse())
        else {
          stack.pop()
          if (!placed.has(n)) order.push(n)
          placed.add(n)
        }
      }
    }
    for (const n of order) this.move(n, null)
  }

  remove(node: Node): void {
    for (const v of node.outputs)
      if (v?.isUsed) throw bugError(`${node.label} cannot be removed: its output '${v.name}' is used`)
    for (const v of node.outputs) if (v) this.forget(v)
    for (const v of new Set(node.inputs)) if (v) unuse(v, node)
    for (const g of node.subgraphs) releaseOuterUses(g)
    this.#unlink(node)
    ;(node as Mutable<Node>).attached = false
  }

  #link(node: Node, at: Node | null): void {
    const n = node as Mutable<Node>
    const prev = at ? at.prev : this.#last
    n.prev = prev
    n.next = at
    if (prev) (prev as Mutable<Node>).next = node
    else this.#first = node
    if (at) (at as Mutable<Node>).prev = node
    else this.#last = node
    this.#count++
  }

  #unlink(node: Node): void {
    if (node.prev) (node.prev as Mutable<Node>).next = node.next
    else this.#first = node.next
    if (node.next) (node.next as Mutable<Node>).prev = node.prev
    else this.#last = node.prev
    this.#count--
  }
}

/** Nodes and values with use-def links; edited through its methods only. */
export const Graph: new (name?: string, parent?: Graph | null) => Graph = LinkedGraph
