/** Inserts nodes at one place of a graph: names their outputs, shares the constants they read. */
import { bugError } from '../base/errors.ts'
import type { AttributeLike, Builder, Graph, Node, NodeSpec, OpOptions, Value } from './parts.ts'
import { Tensor } from './tensor.ts'
import type { ElementType } from './types.ts'

export type { Builder } from './parts.ts'

export class NodeBuilder implements Builder {
  readonly graph: Graph
  readonly #at: Node | null

  /** New nodes go before `at`; null: to the end. */
  constructor(graph: Graph, at: Node | null) {
    this.graph = graph
    this.#at = at
  }

  op(
    op: string,
    inputs: readonly (Value | null)[],
    attributes: Readonly<Record<string, AttributeLike>> = {},
    options: OpOptions = {},
  ): Value {
    return this.ops(op, inputs, 1, attributes, options)[0]!
  }

  ops(
    op: string,
    inputs: readonly (Value | null)[],
    count: number,
    attributes: Readonly<Record<string, AttributeLike>> = {},
    options: OpOptions = {},
  ): Value[] {
    const base = options.name ?? `${op.toLowerCase()}_0`
    const names: string[] = []
    for (let i = 0; i < count; i++) {
      let name = this.graph.freshName(i === 0 ? base : `${base}_${i}`)
      while (names.includes(name)) name = this.graph.freshName(`${name}_`)
      names.push(name)
    }
    const node = this.node({
      op,
      inputs,
      attributes,
      outputs: names,
      name: names[0]!,
      ...(options.domain !== undefined && { domain: options.domain }),
      ...(options.metadata && { metadata: options.metadata }),
    })
    if (options.type) node.output.setType(options.type)
    return node.outputs.map((v) => v ?? fail())
  }

  node(spec: NodeSpec): Node {
    return this.graph.insert(spec, this.#at)
  }

  initializer(name: string, tensor: Tensor): Value {
    return this.graph.addInitializer(name, tensor)
  }

  scalar(value: number, type: ElementType = 'float32'): Value {
    return this.shared(`const_${type}_${value}`, Tensor.scalar(value, type))
  }

  ints(values: readonly number[]): Value {
    return this.shared(`const_ints_${values.join('_')}`, Tensor.int64([values.length], values))
  }

  shared(name: string, tensor: Tensor): Value {
    const found = this.graph.find(name)
    return found?.constant?.equals(tensor) ? found : this.graph.addInitializer(name, tensor)
  }
}

function fail(): never {
  throw bugError('a node was built without an output that it should have')
}
