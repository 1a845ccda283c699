/** Nodes: reading and changing attributes, rewiring inputs and outputs, with the use-def links kept. */
import { bugError, modelError } from '../base/errors.ts'
import { subgraphsOf, toAttribute } from './attribute.ts'
import type { Attribute, AttributeLike, Extra, Graph, Node, NodeSpec, Value } from './parts.ts'
import type { Tensor } from './tensor.ts'
import { unuse, use } from './value.ts'

export class GraphNode implements Node {
  readonly graph: Graph
  readonly op: string
  readonly domain: string
  readonly overload: string
  name: string
  readonly inputs: (Value | null)[]
  readonly outputs: (Value | null)[]
  readonly attributes: Map<string, Attribute>
  readonly metadata = new Map<string, string>()
  prev: Node | null = null
  next: Node | null = null
  extra: Extra = undefined
  attached = true

  /** Made by Graph.insert (through a Builder) only. */
  constructor(graph: Graph, spec: NodeSpec, outputs: (Value | null)[]) {
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

  get output(): Value {
    const v = this.outputs[0]
    if (!v) throw modelError('missing-output', `${this.label} has no first output`, { node: this.id })
    return v
  }

  input(i: number): Value {
    const v = this.inputs[i]
    if (!v) throw modelError('missing-operand', `${this.label} has no input ${i}`, { node: this.id })
    return v
  }

  get label(): string {
    const op = this.domain ? `${this.domain}::${this.op}` : this.op
    return this.name ? `${op} '${this.name}'` : `${op} -> '${this.outputs.find((v) => v)?.name ?? ''}'`
  }

  get id(): string {
    return this.name || (this.outputs.find((v) => v)?.name ?? this.op)
  }

  is(...ops: readonly string[]): boolean {
    return this.domain === '' && ops.includes(this.op)
  }

  rename(name: string): void {
    this.name = name
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
    const old = this.attributes.get(name)
    if (value === null) this.attributes.delete(name)
    else this.attributes.set(name, toAttribute(value))
    // A body that is replaced no longer reads values of the graphs around it.
    if (old && this.attached) for (const g of subgraphsOf(old)) if (!this.subgraphs.includes(g)) releaseOuterUses(g)
  }

  setInput(i: number, value: Value | null): void {
    const { inputs } = this
    while (inputs.length <= i) inputs.push(null)
    const old = inputs[i]
    inputs[i] = value
    if (old && !inputs.includes(old)) unuse(old, this)
    if (value) use(value, this)
    while (inputs.length > 0 && inputs.at(-1) === null) inputs.pop()
  }

  dropOutput(i: number): void {
    const { outputs } = this
    const v = outputs[i]
    if (!v) return
    if (v.isUsed) throw bugError(`output '${v.name}' of ${this.label} is still used`)
    this.graph.forget(v)
    outputs[i] = null
    while (outputs.length > 0 && outputs.at(-1) === null) outputs.pop()
  }

  addOutput(name: string): Value {
    const v = this.graph.define(name, this)
    this.outputs.push(v)
    return v
  }

  get subgraphs(): readonly Graph[] {
    return [...this.attributes.values()].flatMap(subgraphsOf)
  }
}

/** Nodes that must come before `node`: the producers of what it and its bodies read. */
export function dependencies(node: Node): Node[] {
  const inner = node.subgraphs.flatMap((g) => [...g.nodes()].flatMap(dependencies))
  return [...node.inputs.flatMap((v) => v?.producer ?? []), ...inner]
}

/** A removed node's body no longer reads values of the graphs around it. */
export function releaseOuterUses(g: Graph): void {
  for (const n of g.nodes()) {
    for (const v of n.inputs) if (v && v.graph !== g) unuse(v, n)
    for (const inner of n.subgraphs) releaseOuterUses(inner)
  }
  for (const v of g.outputs) if (v.graph !== g) (v.outputOf as Set<Graph>).delete(g)
}
