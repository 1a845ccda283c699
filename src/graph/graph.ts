/**
 * The graph: values and nodes with use-def links both ways, kept by the methods here and by nothing else. Nodes stand
 * in a linked list whose order is a topological order. A graph inside an attribute (If, Loop, Scan) may use values of
 * the graphs around it; those uses count like any other.
 *
 * Values (value.ts) and nodes (node.ts) change with their graph: what is `readonly` in them is set by these three files,
 * which the rest of the code imports from here.
 */
import { bugError } from '../base/errors.ts'
import { Builder } from './builder.ts'
import { dependencies, Node, type NodeSpec, releaseOuterUses } from './node.ts'
import type { Tensor } from './tensor.ts'
import type { TensorType } from './types.ts'
import { type Extra, type Mutable, unuse, use, Value } from './value.ts'

export { Node, type NodeSpec } from './node.ts'
export { type Extra, Value } from './value.ts'

export class Graph {
  readonly name: string
  /** The graph around this one, for the body of an If, Loop or Scan. */
  readonly parent: Graph | null
  readonly inputs: readonly Value[] = []
  readonly outputs: readonly Value[] = []
  readonly metadata = new Map<string, string>()
  extra: Extra = undefined
  readonly #values = new Map<string, Value>()
  readonly #initializers = new Set<Value>()
  /** value_info that names nothing in the graph is kept by the codec in `extra`. */
  #first: Node | null = null
  #last: Node | null = null
  #count = 0
  readonly #counters = new Map<string, number>()
  /** Names that values lost while their nodes, named after them, kept theirs: onnxruntime refuses two nodes of a name. */
  readonly #released = new Set<string>()

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

  /** In topological order. Safe against removing the node at hand and against insertions around it. */
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

  /** Nodes here and in all graphs nested in attributes. */
  *allNodes(): Generator<Node> {
    for (const n of this.nodes()) {
      yield n
      for (const g of n.subgraphs) yield* g.allNodes()
    }
  }

  values(): IterableIterator<Value> {
    return this.#values.values()
  }

  /** The constants of the graph; an input with a default is none. */
  *initializers(): Generator<Value> {
    for (const v of this.#initializers) if (v.constant) yield v
  }

  /** All values whose tensor the file holds, constants and defaults of inputs, in its order. */
  stored(): IterableIterator<Value> {
    return this.#initializers.values()
  }

  /** The inputs that callers must give: those without a default. */
  get fed(): readonly Value[] {
    return this.inputs.filter((v) => !v.default)
  }

  /** A value of this graph by name. */
  find(name: string): Value | undefined {
    return this.#values.get(name)
  }

  /** A value by name, here or in the graphs around. */
  resolve(name: string): Value | undefined {
    return this.#values.get(name) ?? this.parent?.resolve(name)
  }

  // --- values --------------------------------------------------------------------------------------------------

  /** A name that no value of this graph or those around has: `base`, or `base_1`, `base_2`, ... */
  freshName(base: string): string {
    const isTaken = (name: string): boolean => this.#released.has(name) || this.resolve(name) !== undefined
    if (!isTaken(base) && base !== '') return base
    let i = this.#counters.get(base) ?? 0
    let name: string
    do name = `${base}_${++i}`
    while (isTaken(name))
    this.#counters.set(base, i)
    return name
  }

  /** A new value; `producer` null makes it a free name that an input or initializer will claim. */
  define(name: string, producer: Node | null = null, type: TensorType | null = null): Value {
    if (this.#values.has(name)) throw bugError(`two values are named '${name}'`)
    const v = new Value(this, name, type)
    ;(v as Mutable<Value>).producer = producer
    this.#values.set(name, v)
    return v
  }

  addInput(name: string, type: TensorType | null): Value {
    const v = this.#values.get(name) ?? this.define(name, null, type)
    ;(this.inputs as Value[]).push(v)
    return v
  }

  removeInput(v: Value): void {
    const at = this.inputs.indexOf(v)
    if (at < 0) return
    if (v.isUsed) throw bugError(`input '${v.name}' is still used`)
    ;(this.inputs as Value[]).splice(at, 1)
    this.#initializers.delete(v)
    ;(v as Mutable<Value>).default = null
    this.forget(v)
  }

  /** Makes all inputs with a default value constants, which are then no longer inputs; returns them. Includes bodies of nodes. */
  fixDefaults(): Value[] {
    const fixed = this.inputs.filter((v) => v.default)
    for (const v of fixed as Mutable<Value>[]) {
      v.constant = v.default
      v.default = null
    }
    if (fixed.length > 0) (this as Mutable<Graph>).inputs = this.inputs.filter((v) => !v.constant)
    for (const n of this.nodes()) for (const g of n.subgraphs) fixed.push(...g.fixDefaults())
    return fixed
  }

  addOutput(v: Value): void {
    ;(this.outputs as Value[]).push(v)
    ;(v.outputOf as Set<Graph>).add(this)
  }

  removeOutput(v: Value): void {
    const at = this.outputs.indexOf(v)
    if (at < 0) return
    ;(this.outputs as Value[]).splice(at, 1)
    if (!this.outputs.includes(v)) (v.outputOf as Set<Graph>).delete(this)
  }

  /** A new initializer; the name is made unique. */
  addInitializer(name: string, tensor: Tensor): Value {
    const v = this.define(this.freshName(name))
    v.setConstant(tensor)
    return v
  }

  /** Removes an initializer that nothing uses. */
  removeInitializer(v: Value): void {
    if (v.isUsed) throw bugError(`initializer '${v.name}' is still used`)
    this.#initializers.delete(v)
    ;(v as Mutable<Value>).constant = null
    this.forget(v)
  }

  /** Turns an initializer into a computed-elsewhere graph input of the same name; returns the tensor it had. */
  initializerToInput(v: Value): Tensor {
    const { constant } = v
    if (!constant) throw bugError(`'${v.name}' is not an initializer`)
    this.#initializers.delete(v)
    ;(v as Mutable<Value>).constant = null
    ;(this.inputs as Value[]).push(v)
    return constant
  }

  rename(v: Value, name: string): void {
    if (v.name === name) return
    if (this.#values.has(name)) throw bugError(`two values would be named '${name}'`)
    this.#values.delete(v.name)
    if (v.producer?.name === v.name) this.#released.add(v.name)
    ;(v as Mutable<Value>).name = name
    this.#values.set(name, v)
  }

  /** For copies: names that must not be given again. */
  inheritNames(from: Graph): void {
    for (const name of from.#released) this.#released.add(name)
  }

  /** For Value.setConstant only. */
  registerInitializer(v: Value): void {
    this.#initializers.add(v)
  }

  /** For Node.dropOutput only. */
  forget(v: Value): void {
    if (this.#values.get(v.name) === v) this.#values.delete(v.name)
  }

  /**
   * Every reader of `from` reads `to` instead. Where `from` is an output of the graph its name is part of the
   * interface: `to` takes the output's place and its name (through an Identity where `to` has a name to keep).
   */
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
    return new Builder(this, node)
  }

  after(node: Node): Builder {
    return new Builder(this, node.next)
  }

  append(): Builder {
    return new Builder(this, null)
  }

  prepend(): Builder {
    return new Builder(this, this.#first)
  }

  /** Inserts a node before `at` (null: at the end). Builders call this. */
  insert(spec: NodeSpec, at: Node | null): Node {
    const outputs: (Value | null)[] = []
    const node = new Node(this, spec, outputs)
    if (typeof spec.outputs === 'object')
      for (const name of spec.outputs) outputs.push(name === '' ? null : this.define(name, node))
    else
      for (let i = 0; i < (spec.outputs ?? 1); i++)
        outputs.push(this.define(this.freshName(`${spec.op.toLowerCase()}_0`), node))
    for (const v of node.inputs) if (v) use(v, node)
    this.#link(node, at)
    return node
  }

  /** Moves a node to just before `at` (null: to the end); the caller answers for the order. */
  move(node: Node, at: Node | null): void {
    if (node === at) return
    this.#unlink(node)
    this.#link(node, at)
  }

  /** Puts the nodes into a topological order, keeping their order where it is one. The graph must have no cycle. */
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

  /** Removes a node that is no longer used. */
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
