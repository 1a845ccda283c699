/** A value of a graph: an input, a constant, or the result of a node, with its producer and its readers. */
import { bugError } from '../base/errors.ts'
import type { Graph } from './graph.ts'
import type { Node } from './node.ts'
import type { Tensor } from './tensor.ts'
import { isStatic, type TensorType } from './types.ts'

/** For the graph's own files: what all others may read only. */
export type Mutable<T> = { -readonly [K in keyof T]: T[K] }

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
  /** The tensor of an initializer that is not an input: the one definition of what is constant. */
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

/** For the graph's own files: `node` reads `v`. */
export function use(v: Value, node: Node): void {
  ;(v.uses as Set<Node>).add(node)
}

export function unuse(v: Value, node: Node): void {
  ;(v.uses as Set<Node>).delete(node)
}
