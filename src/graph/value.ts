/** Values: when one may become a constant or take a default, and which nodes read it. */
import { bugError } from '../base/errors.ts'
import type { Extra, Graph, Node, Value } from './parts.ts'
import type { Tensor } from './tensor.ts'
import { isStatic, type TensorType } from './types.ts'

export class GraphValue implements Value {
  readonly graph: Graph
  name: string
  type: TensorType | null
  producer: Node | null = null
  readonly uses = new Set<Node>()
  readonly outputOf = new Set<Graph>()
  constant: Tensor | null = null
  default: Tensor | null = null
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

  get stored(): Tensor | null {
    return this.constant ?? this.default
  }

  get isUsed(): boolean {
    return this.uses.size > 0 || this.outputOf.size > 0
  }

  setType(type: TensorType | null): void {
    this.type = type
  }

  get dims(): readonly number[] {
    const dims = this.constant?.dims ?? this.type?.dims ?? null
    if (!isStatic(dims)) throw bugError(`the shape of '${this.name}' is unknown`)
    return dims
  }

  setDefault(tensor: Tensor): void {
    if (!this.isInput) throw bugError(`'${this.name}' is not an input and cannot have a default value`)
    this.default = tensor
    if (!this.type) this.setType({ elem: tensor.type, dims: tensor.dims })
    this.graph.registerInitializer(this)
  }

  setConstant(tensor: Tensor): void {
    if (this.producer) throw bugError(`'${this.name}' is computed and cannot become a constant`)
    if (this.isInput) throw bugError(`'${this.name}' is an input that the caller feeds and cannot become a constant`)
    this.constant = tensor
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
