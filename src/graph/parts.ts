/**
 * What a graph consists of: graphs hold nodes, nodes values and attributes, attributes graphs again (the bodies of If, Loop
 * and Scan). The interfaces of all five stand here on one page; the files that implement them (graph.ts, node.ts, value.ts,
 * attribute.ts, builder.ts) know one another through it alone. What is `readonly` here changes through methods only.
 */
import type { Tensor } from './tensor.ts'
import type { ElementType, TensorType } from './types.ts'

/** For the graph's own files: what all others may only read. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** What the codec keeps of a message beyond what the graph models: doc strings, unknown fields. Opaque to all others. */
export type Extra = unknown

/** A value of a graph: an input, a constant, or the result of a node, with its producer and its readers. */
export interface Value {
  readonly graph: Graph
  readonly name: string
  /** Type and shape where known: declared in the file or inferred. Anyone may set it with `setType`. */
  readonly type: TensorType | null
  readonly producer: Node | null
  /** Nodes that read this value, in this graph and in graphs nested in it. */
  readonly uses: ReadonlySet<Node>
  /** Graphs that hand this value out as an output. */
  readonly outputOf: ReadonlySet<Graph>
  /** The tensor of an initializer that is not an input: the one definition of what is constant. */
  readonly constant: Tensor | null
  /** What an input is where the caller gives nothing (IR 4 and later). Not a constant: callers may override it. */
  readonly default: Tensor | null
  extra: Extra
  readonly metadata: Map<string, string>
  readonly isInput: boolean
  readonly isOutput: boolean
  /** The tensor that the file holds for this value, constant or default. */
  readonly stored: Tensor | null
  /** Read by a node or handed out. */
  readonly isUsed: boolean
  /** The dims, all known; an error names the value where they are not. */
  readonly dims: readonly number[]
  setType(type: TensorType | null): void
  /** Gives an input a value that callers may leave it at; the type stays as declared. */
  setDefault(tensor: Tensor): void
  /** Replaces the tensor of an initializer, which may change its type and dims. */
  setConstant(tensor: Tensor): void
}

/** A node of a graph: an operator, its operands, results and attributes. Made by a Builder. */
export interface Node {
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
  readonly metadata: Map<string, string>
  readonly prev: Node | null
  readonly next: Node | null
  extra: Extra
  /** False once removed. */
  readonly attached: boolean
  /** The first output, which must exist: a model error where the file leaves it out. */
  readonly output: Value
  /** Input i, which must be present: a model error where the file leaves it out. */
  input(i: number): Value
  /** Op and name, for messages. */
  readonly label: string
  /** Its name, or its first output's, for error details. */
  readonly id: string
  /** Whether it is one of these operators of the standard (one of the same name in another domain is another operator). */
  is(...ops: readonly string[]): boolean
  /** Node names are labels for people; nothing refers to them. */
  rename(name: string): void
  /** The attribute; `fallback` where there is none of this kind. */
  int(name: string, fallback: number): number
  float(name: string, fallback: number): number
  ints(name: string, fallback: readonly number[]): readonly number[]
  floats(name: string, fallback: readonly number[]): readonly number[]
  string(name: string, fallback: string): string
  tensor(name: string): Tensor | null
  /** null removes the attribute. */
  setAttribute(name: string, value: AttributeLike | null): void
  /** Rewires input i; the list grows as needed, null leaves an optional input out. */
  setInput(i: number, value: Value | null): void
  /** Drops an output that nothing uses (an optional one). */
  dropOutput(i: number): void
  /** Gives a node that had only its first k outputs another one. */
  addOutput(name: string): Value
  /** Graphs in this node's attributes. */
  readonly subgraphs: readonly Graph[]
}

/** What a node is made of. */
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

/** Every kind of attribute that AttributeProto knows. */
export type Attribute =
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int'; readonly value: bigint }
  | { readonly kind: 'string'; readonly value: Uint8Array }
  | { readonly kind: 'tensor'; readonly value: Tensor }
  | { readonly kind: 'graph'; readonly value: Graph }
  | { readonly kind: 'sparseTensor' | 'typeProto'; readonly value: Opaque }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'ints'; readonly value: readonly bigint[] }
  | { readonly kind: 'strings'; readonly value: readonly Uint8Array[] }
  | { readonly kind: 'tensors'; readonly value: readonly Tensor[] }
  | { readonly kind: 'graphs'; readonly value: readonly Graph[] }
  | { readonly kind: 'sparseTensors' | 'typeProtos'; readonly value: readonly Opaque[] }
  /** Inside a model-local function: the value comes from the caller's attribute of that name. */
  | { readonly kind: 'reference'; readonly value: string; readonly type: number }

/** A message that the graph carries but does not interpret (sparse tensors, type protos): the codec's own object. */
export interface Opaque {
  readonly opaque: unknown
}

/** What a builder accepts: numbers that are integers become ints; use `float(x)` for an integral float attribute. */
export type AttributeLike = Attribute | number | bigint | string | Tensor | readonly number[] | readonly string[]

export interface Graph {
  readonly name: string
  /** The graph around this one, for the body of an If, Loop or Scan. */
  readonly parent: Graph | null
  readonly inputs: readonly Value[]
  readonly outputs: readonly Value[]
  readonly metadata: Map<string, string>
  /** value_info that names nothing in the graph is part of it. */
  extra: Extra

  // --- reading -------------------------------------------------------------------------------------------------

  readonly nodeCount: number
  readonly lastNode: Node | null
  /** In topological order. Safe against removing the node at hand and against insertions around it. */
  nodes(): Generator<Node>
  nodesReversed(): Generator<Node>
  /** Nodes here and in all graphs nested in attributes. */
  allNodes(): Generator<Node>
  values(): IterableIterator<Value>
  /** The constants of the graph; an input with a default is not one. */
  initializers(): Generator<Value>
  /** All values whose tensor the file holds, constants and defaults of inputs, in its order. */
  stored(): IterableIterator<Value>
  /** The inputs that callers must give: those without a default. */
  readonly fed: readonly Value[]
  /** A value of this graph by name. */
  find(name: string): Value | undefined
  /** A value by name, here or in the graphs around. */
  resolve(name: string): Value | undefined

  // --- values --------------------------------------------------------------------------------------------------

  /** A name that no value of this graph or those around has: `base`, or `base_1`, `base_2`, ... */
  freshName(base: string): string
  /** A new value; `producer` null makes it a free name that an input or initializer will claim. */
  define(name: string, producer?: Node | null, type?: TensorType | null): Value
  addInput(name: string, type: TensorType | null): Value
  removeInput(v: Value): void
  /** Makes all inputs with a default value constants, which are then no longer inputs; returns them. Includes bodies of nodes. */
  fixDefaults(): Value[]
  addOutput(v: Value): void
  removeOutput(v: Value): void
  /** A new initializer; the name is made unique. */
  addInitializer(name: string, tensor: Tensor): Value
  /** Removes an initializer that nothing uses. */
  removeInitializer(v: Value): void
  /** Turns an initializer into a graph input of the same name, to be fed; returns the tensor it had. */
  initializerToInput(v: Value): Tensor
  rename(v: Value, name: string): void
  /**
   * Every reader of `from` reads `to` instead. Where `from` is an output of the graph its name is part of the
   * interface: `to` takes the output's place and its name (through an Identity where `to` has a name to keep).
   */
  replaceUses(from: Value, to: Value, except?: Node): void
  /** Names that values lost while their nodes, named after them, kept theirs: onnxruntime refuses two nodes of a name. */
  readonly released: ReadonlySet<string>
  /** For copies: names that must not be given again. */
  inheritNames(from: Graph): void
  /** For those who build the body of a node: names in it are not given to values around it from now on. */
  reserve(body: Graph): void
  /** For Value.setConstant and setDefault only. */
  registerInitializer(v: Value): void
  /** For Node.dropOutput only. */
  forget(v: Value): void

  // --- nodes ---------------------------------------------------------------------------------------------------

  before(node: Node): Builder
  after(node: Node): Builder
  append(): Builder
  prepend(): Builder
  /** Inserts a node before `at` (null: at the end). Builders call this. */
  insert(spec: NodeSpec, at: Node | null): Node
  /** Moves a node to just before `at` (null: to the end); the caller answers for the order. */
  move(node: Node, at: Node | null): void
  /** Puts the nodes into a topological order, keeping their order where it is one. The graph must have no cycle. */
  sort(): void
  /** Removes a node that is no longer used. */
  remove(node: Node): void
}

/** Inserts nodes at one place of a graph. The only way to make nodes outside the codec. */
export interface Builder {
  readonly graph: Graph
  /** A node with one output; returns it. */
  op(
    op: string,
    inputs: readonly (Value | null)[],
    attributes?: Readonly<Record<string, AttributeLike>>,
    options?: OpOptions,
  ): Value
  /** A node with `count` outputs. */
  ops(
    op: string,
    inputs: readonly (Value | null)[],
    count: number,
    attributes?: Readonly<Record<string, AttributeLike>>,
    options?: OpOptions,
  ): Value[]
  /** The general form. */
  node(spec: NodeSpec): Node
  initializer(name: string, tensor: Tensor): Value
  /** A scalar constant, shared within the graph by value and type. */
  scalar(value: number, type?: ElementType): Value
  /** A one-dimensional int64 constant (axes, shapes, pads), shared within the graph by content. */
  ints(values: readonly number[]): Value
  /** A constant that is made once: an initializer of that name where it holds the same, else a new one. */
  shared(name: string, tensor: Tensor): Value
}

export interface OpOptions {
  /** Name of the first output (made unique). */
  readonly name?: string
  readonly domain?: string
  /** Type of the first output where the caller knows it. */
  readonly type?: TensorType | null
  readonly metadata?: Readonly<Record<string, string>>
}
