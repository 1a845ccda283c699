/**
 * The graph: values and nodes with use-def links both ways, kept by the methods here and by nothing else. Nodes stand
 * in a linked list whose order is a topological order. A graph inside an attribute (If, Loop, Scan) may use values of
 * the graphs around it; those uses count like any other.
 *
 * Over 150 lines because use-def is kept in one place: Value, Node and Graph share private state.
 */
import { bugError, modelError } from '../base/errors.ts'
import { type Attribute, type AttributeLike, subgraphsOf, toAttribute } from './attribute.ts'
import { Builder } from './builder.ts'
import type { Tensor } from './tensor.ts'
import { isStatic, type TensorType } from './types.ts'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** What the codec keeps of a message beyond what the IR models: doc strings, unknown fields. Opaque to all others. */
export type Extra = unknown

export class Value {
  readonly graph: Graph
  readonly name: string
  /** Type and shape where known: declared in the file or inferred. Anyone may set it with `setType`. */
  readonly type: TensorType | null
  readonly producer: Node | null = null
  /** Nodes that read this value, in this graph and in graphs nested in it. */
  readonly uses: ReadonlySet<Node> = new Set()
  /** Graphs that hand this value out as an output. */
  readonly outputOf: ReadonlySet<Graph> = new Set()
  /** The tensor of an initializer that is no input: the one definition of what is constant. */
  readonly constant: Tensor | null = null
  /** What an input is where the caller gives nothing (IR 4 and later). No constant: callers may override it. */
  readonly default: Tensor | null = null
  extra: Extra = undefined
  readonly metadata = new Map<string, string>()

  constructor(graph: Graph, name: string, type: TensorType | null = null) {
    this.graph = graph
    this.name = name
    this.type = type
  }

  get isInput(): boolean {
    return this.graph.inputs.includes(this)
  }

  get isOutput(): boolean {
    return this.outputOf.size > 0
  }

  /** The tensor that the file holds for this value, constant or default. */
  get stored(): Tensor | null {
    return this.constant ?? this.default
  }

  /** Read by a node or handed out. */
  get isUsed(): boolean {
    return this.uses.size > 0 || this.outputOf.size > 0
  }

  setType(type: TensorType | null): void {
    ;(this as Mutable<Value>).type = type
  }

  /** The dims, all known; an error names the value where they are not. */
  get dims(): readonly number[] {
    const dims = this.constant?.dims ?? this.type?.dims ?? null
    if (!isStatic(dims)) throw bugError(`the shape of '${this.name}' is unknown`)
    return dims
  }

  /** Gives an input a value that callers may leave it at; the type stays as declared. */
  setDefault(tensor: Tensor): void {
    if (!this.isInput) throw bugError(`'${this.name}' is not an input and cannot have a default value`)
    ;(this as Mutable<Value>).default = tensor
    if (!this.type) this.setType({ elem: tensor.type, dims: tensor.dims })
    this.graph.registerInitializer(this)
  }

  /** Replaces the tensor of an initializer, which may change its type and dims. */
  setConstant(tensor: Tensor): void {
    if (this.producer) throw bugError(`'${this.name}' is computed and cannot become a constant`)
    if (this.isInput) throw bugError(`'${this.name}' is an input that the caller feeds and cannot become a constant`)
    ;(this as Mutable<Value>).constant = tensor
    this.setType({ elem: tensor.type, dims: tensor.dims })
    this.graph.registerInitializer(this)
  }
}

export class Node {
  readonly graph: Graph
  readonly op: string
  /** '' is ai.onnx. */
  readonly domain: string
  /** Picks one of several model-local functions of the same name. */
  readonly overload: string
  readonly name: string
  /** null: an optional input left out. */
  readonly inputs: readonly (Value | null)[]
  readonly outputs: readonly (Value | null)[]
  readonly attributes: ReadonlyMap<string, Attribute>
  readonly metadata = new Map<string, string>()
  readonly prev: Node | null = null
  readonly next: Node | null = null
  extra: Extra = undefined
  /** False once removed. */
  readonly attached: boolean = true

  /** Made by Graph.insert (through a Builder) only. */
  constructor(graph: Graph, spec: NodeSpec, outputs: readonly (Value | null)[]) {
    this.graph = graph
    this.op = spec.op
    this.domain = spec.domain === 'ai.onnx' ? '' : (spec.domain ?? '')
    this.overload = spec.overload ?? ''
    this.name = spec.name ?? ''
    this.inputs = [...spec.inputs]
    this.outputs = outputs
    this.attributes = new Map(Object.entries(spec.attributes ?? {}).map(([k, a]) => [k, toAttribute(a)]))
    for (const [k, v] of Object.entries(spec.metadata ?? {})) this.metadata.set(k, v)
  }

  /** The first output, which must exist: a model error where the file leaves it out. */
  get output(): Value {
    const v = this.outputs[0]
    if (!v) throw modelError('missing-output', `${this.label} has no first output`, { node: this.id })
    return v
  }

  /** Input i, which must be present: a model error where the file leaves it out. */
  input(i: number): Value {
    const v = this.inputs[i]
    if (!v) throw modelError('missing-operand', `${this.label} has no input ${i}`, { node: this.id })
    return v
  }

  /** Op and name, for messages. */
  get label(): string {
    const op = this.domain ? `${this.domain}::${this.op}` : this.op
    return this.name ? `${op} '${this.name}'` : `${op} -> '${this.outputs.find((v) => v)?.name ?? ''}'`
  }

  /** Its name, or its first output's, for error details. */
  get id(): string {
    return this.name || (this.outputs.find((v) => v)?.name ?? this.op)
  }

  /** Whether it is one of these operators of the standard (a like name of another domain is another operator). */
  is(...ops: readonly string[]): boolean {
    return this.domain === '' && ops.includes(this.op)
  }

  /** Node names are labels for people; nothing refers to them. */
  rename(name: string): void {
    ;(this as Mutable<Node>).name = name
  }

  int(name: string, fallback: number): number {
    const a = this.attributes.get(name)
    return a?.kind === 'int' ? Number(a.value) : fallback
  }

  float(name: string, fallback: number): number {
    const a = this.attributes.get(name)
    return a?.kind === 'float' ? a.value : a?.kind === 'int' ? Number(a.value) : fallback
  }

  ints(name: string, fallback: readonly number[]): readonly number[] {
    const a = this.attributes.get(name)
    return a?.kind === 'ints' ? a.value.map(Number) : fallback
  }

  floats(name: string, fallback: readonly number[]): readonly number[] {
    const a = this.attributes.get(name)
    return a?.kind === 'floats' ? a.value : fallback
  }

  string(name: string, fallback: string): string {
    const a = this.attributes.get(name)
    return a?.kind === 'string' ? new TextDecoder().decode(a.value) : fallback
  }

  tensor(name: string): Tensor | null {
    const a = this.attributes.get(name)
    return a?.kind === 'tensor' ? a.value : null
  }

  setAttribute(name: string, value: AttributeLike | null): void {
    const attributes = this.attributes as Map<string, Attribute>
    const old = attributes.get(name)
    if (value === null) attributes.delete(name)
    else attributes.set(name, toAttribute(value))
    // A body that is replaced no longer reads values of the graphs around it.
    if (old && this.attached) for (const g of subgraphsOf(old)) if (!this.subgraphs.includes(g)) releaseOuterUses(g)
  }

  /** Rewires input i; the list grows as needed, null leaves an optional input out. */
  setInput(i: number, value: Value | null): void {
    const inputs = this.inputs as (Value | null)[]
    while (inputs.length <= i) inputs.push(null)
    const old = inputs[i]
    inputs[i] = value
    if (old && !inputs.includes(old)) unuse(old, this)
    if (value) use(value, this)
    while (inputs.length > 0 && inputs.at(-1) === null) inputs.pop()
  }

  /** Drops an output that nothing uses (an optional one). */
  dropOutput(i: number): void {
    const outputs = this.outputs as (Value | null)[]
    const v = outputs[i]
    if (!v) return
    if (v.isUsed) throw bugError(`output '${v.name}' of ${this.label} is still used`)
    this.graph.forget(v)
    outputs[i] = null
    while (outputs.length > 0 && outputs.at(-1) === null) outputs.pop()
  }

  /** Gives a node that had only its first k outputs more of them. */
  addOutput(name: string): Value {
    const v = this.graph.define(name, this)
    ;(this.outputs as (Value | null)[]).push(v)
    return v
  }

  /** Graphs in this node's attributes. */
  get subgraphs(): readonly Graph[] {
    return [...this.attributes.values()].flatMap(subgraphsOf)
  }
}

export interface NodeSpec {
  readonly op: string
  readonly domain?: string
  readonly overload?: string
  readonly name?: string
  readonly inputs: readonly (Value | null)[]
  /** How many outputs, or their names ('' leaves an optional one out); 1 by default. */
  readonly outputs?: number | readonly string[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
  readonly metadata?: Readonly<Record<string, string>>
}

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

  /** Makes constants of all inputs with a default, which are inputs no more; returns them. Bodies of nodes included. */
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

  /** Removes a node that nothing uses any more. */
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

/** Nodes that must come before `node`: the producers of what it and its bodies read. */
function dependencies(node: Node): Node[] {
  const inner = node.subgraphs.flatMap((g) => [...g.nodes()].flatMap(dependencies))
  return [...node.inputs.flatMap((v) => v?.producer ?? []), ...inner]
}

function use(v: Value, node: Node): void {
  ;(v.uses as Set<Node>).add(node)
}

function unuse(v: Value, node: Node): void {
  ;(v.uses as Set<Node>).delete(node)
}

/** A removed node's body no longer reads values of the graphs around it. */
function releaseOuterUses(g: Graph): void {
  for (const n of g.nodes()) {
    for (const v of n.inputs) if (v && v.graph !== g) unuse(v, n)
    for (const inner of n.subgraphs) releaseOuterUses(inner)
  }
  for (const v of g.outputs) if (v.graph !== g) (v.outputOf as Set<Graph>).delete(g)
}
