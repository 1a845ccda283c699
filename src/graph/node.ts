/** A node of a graph: an operator, its operands, results and attributes. */
import { bugError, modelError } from '../base/errors.ts'
import { type Attribute, type AttributeLike, subgraphsOf, toAttribute } from './attribute.ts'
import type { Graph } from './graph.ts'
import type { Tensor } from './tensor.ts'
import { type Extra, type Mutable, unuse, use, type Value } from './value.ts'

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
