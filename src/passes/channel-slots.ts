/**
 * Which channels of a network's feature maps are one and the same thing to whoever wants to remove some: a slot is a set
 * of channels, of one value or several, that can only go together. Add couples the channels of its two inputs; so do
 * BatchNormalization, activations and pools those of input and output, and a depthwise convolution those of both sides.
 * Concat lines slots up; flattening repeats them. Any other layer starts with slots of its own.
 *
 * A slot is blocked, with the reason, where something reads or makes its channels that does not say how they go through
 * (`OpDef.channels`): graph inputs and outputs, grouped convolutions, shared weights, Pad over channels, ...
 */
import type { Graph, Node, Value } from '../graph/graph.ts'
import { findOp } from '../ops/index.ts'
import { constantOf } from './constant-of.ts'
import { type WeightLayer, weightLayers } from './layers.ts'

export class ChannelSlots {
  /** Slot of each channel (axis 1) of a value. */
  readonly #of = new Map<Value, readonly number[]>()
  readonly #parent: number[] = []
  /** Computed from constants alone. */
  readonly #derived = new Set<Value>()
  readonly #blocked = new Map<number, string>()
  /** Layers by the nodes that use their weights. */
  readonly layers: ReadonlyMap<Node, WeightLayer>
  readonly #dims: (v: Value) => readonly (number | string | null)[] | null

  /** `dims` gives what is known of a value's shape; channel counts must be. */
  constructor(graph: Graph, dims: (v: Value) => readonly (number | string | null)[] | null) {
    this.#dims = dims
    this.layers = new Map(weightLayers(graph).flatMap((l) => l.users.map((n) => [n, l] as const)))
    for (const v of graph.inputs) this.#block(this.#fresh(v), `they come from the input '${v.name}'`)
    for (const n of graph.nodes()) this.#visit(n)
    for (const v of graph.outputs) this.#block(this.#of.get(v) ?? [], `they are the output '${v.name}'`)
  }

  /** The slots of a value's channels; null where it has none that are known. */
  of(v: Value | null | undefined): readonly number[] | null {
    const slots = v && this.#of.get(v)
    return slots ? slots.map((s) => this.#root(s)) : null
  }

  /** Why a slot cannot go; null where nothing forbids it. */
  whyBlocked(slot: number): string | null {
    return this.#blocked.get(this.#root(slot)) ?? null
  }

  /** Values with slots. */
  values(): Iterable<Value> {
    return this.#of.keys()
  }

  #visit(n: Node): void {
    const layer = this.layers.get(n)
    if (layer) this.#layer(n, layer)
    else if (this.#isConstant(n)) for (const v of n.outputs) if (v) this.#derived.add(v)
    if (layer || this.#isConstant(n)) return
    if (!this.#flows(n)) this.#barrier(n)
  }

  /** Made of constants alone: a masked weight on its way to a layer. */
  #isConstant(n: Node): boolean {
    return n.inputs.length > 0 && n.subgraphs.length === 0 && n.inputs.every((v) => !v || this.#isKnown(v))
  }

  #isKnown(v: Value): boolean {
    return this.#derived.has(v) || constantOf(v) !== null
  }

  /** Lines the output's slots up with the inputs'; false where that cannot be. */
  #flows(n: Node): boolean {
    const flow = flowOf(n)
    if (flow === null || n.subgraphs.length > 0 || n.outputs.slice(1).some((v) => v?.isUsed)) return false
    const features = flow === 'flattened' ? [n.input(0)] : featuresOf(n)
    const slots = features.map((v) => this.#of.get(v) ?? [])
    if (slots.length === 0 || slots.some((s) => s.length === 0)) return false
    if (flow === 'flattened') return this.#flatten(n, slots[0]!)
    if (flow === 'joined') this.#of.set(n.output, slots.flat())
    return flow === 'joined' || this.#merge(n, features, slots)
  }

  #layer(n: Node, layer: WeightLayer): void {
    const [x, y] = [n.input(0), n.output]
    const inputs = this.#of.get(x) ?? []
    const outputs = this.#dims(y)?.[1]
    const depthwise = isDepthwise(n, layer)
    if (depthwise && typeof outputs === 'number' && inputs.length > 0 && outputs % inputs.length === 0) {
      const sources = Array.from({ length: outputs }, (_, o) => inputs[Math.floor((o * inputs.length) / outputs)]!)
      this.#of.set(y, sources)
    } else this.#fresh(y)
    const lined = depthwise && this.#of.get(y)?.[0] === inputs[0]
    const why = lined ? null : whyFixed(n, layer, this.#dims(x)?.length ?? null)
    if (why) {
      this.#block(inputs, `they go into ${n.label}: ${why}`)
      this.#block(this.#of.get(y) ?? [], `they come from ${n.label}: ${why}`)
    }
  }

  #flatten(n: Node, slots: readonly number[]): boolean {
    const [from, to] = [this.#dims(n.input(0)), this.#dims(n.output)]
    const features = from?.slice(1).reduce<number>((p, d) => p * (typeof d === 'number' ? d : Number.NaN), 1)
    // where the width is left open (-1) it is what the batch leaves of all elements
    const fits = to?.[1] === features || (typeof to?.[1] !== 'number' && to?.[0] === from?.[0])
    if (features === undefined || Number.isNaN(features) || !fits) return false
    const run = features / slots.length
    this.#of.set(
      n.output,
      slots.flatMap((s) => Array<number>(run).fill(s)),
    )
    return true
  }

  /** Feature maps of equal rank and width become one; a map of one channel, spread over all, stays as it is. */
  #merge(n: Node, features: readonly Value[], slots: readonly (readonly number[])[]): boolean {
    const width = Math.max(...slots.map((s) => s.length))
    const rank = this.#dims(n.output)?.length
    if (rank === undefined) return false
    if (features.length > 1 && features.some((v) => this.#dims(v)?.length !== rank)) return false
    if (slots.some((s) => s.length !== width && s.length !== 1) || !constantsFit(n, width, rank)) return false
    const [first, ...others] = slots.filter((s) => s.length === width)
    for (const s of slots) if (s.length !== width) this.#block(s, `${n.label} spreads them over all channels`)
    for (const other of others) for (const [c, s] of other.entries()) this.#union(s, first![c]!)
    this.#of.set(n.output, first!)
    return true
  }

  #barrier(n: Node): void {
    if (n.op === 'Shape' && n.domain === '') return
    for (const v of n.inputs) this.#block((v && this.#of.get(v)) ?? [], `${n.label} reads them`)
    for (const v of n.outputs) if (v) this.#block(this.#fresh(v), `they come from ${n.label}`)
  }

  #fresh(v: Value): readonly number[] {
    const dims = this.#dims(v)
    const width = dims && dims.length >= 2 ? dims[1] : null
    if (typeof width !== 'number') return []
    const slots = Array.from({ length: width }, () => this.#parent.push(this.#parent.length) - 1)
    this.#of.set(v, slots)
    return slots
  }

  #block(slots: readonly number[], reason: string): void {
    for (const s of slots) if (!this.#blocked.has(this.#root(s))) this.#blocked.set(this.#root(s), reason)
  }

  #union(a: number, b: number): void {
    const [x, y] = [this.#root(a), this.#root(b)]
    if (x === y) return
    const why = this.#blocked.get(x)
    this.#parent[x] = y
    if (why) this.#block([y], why)
  }

  #root(s: number): number {
    let r = s
    while (this.#parent[r] !== r) r = this.#parent[r]!
    this.#parent[s] = r
    return r
  }
}

/** How channels go through a node that is no layer. */
export function flowOf(n: Node) {
  const def = findOp(n)
  return def?.channels?.(n) ?? (def && !def.channels && def.broadcasts ? 'same' : null)
}

/** The inputs that are computed; of a quantiser or a Reshape the first only. */
export const featuresOf = (n: Node): Value[] => n.inputs.filter((v): v is Value => v !== null && constantOf(v) === null)

/** One input channel a group: output channel o is made of input channel o / multiplier alone. */
export const isDepthwise = (n: Node, { tensor, inputAxis, users, otherUser }: WeightLayer): boolean =>
  n.op === 'Conv' &&
  n.int('group', 1) > 1 &&
  inputAxis === 1 &&
  tensor.dims[1] === 1 &&
  users.length === 1 &&
  !otherUser

function whyFixed(n: Node, layer: WeightLayer, rank: number | null): string | null {
  const { users, otherUser, outputAxis, inputAxis, weight } = layer
  if (n.int('group', 1) > 1) return 'its groups hold several channels'
  if (users.length > 1) return 'its weight is shared'
  if (otherUser) return `its weight is also read by ${otherUser.label}`
  if (outputAxis === null || inputAxis === null) return 'a Reshape of its weight hides the channels'
  if (n.op === 'MatMul' && rank !== 2) return 'it is no product of matrices'
  if (n.op === 'Gemm' && n.int('transA', 0) === 1) return 'it transposes its input'
  for (let v = n.inputs[1]; v && v !== weight; v = v.producer?.inputs[0] ?? null)
    if (v.producer && ['Reshape', 'Squeeze', 'Unsqueeze'].includes(v.producer.op)) return 'its weight is reshaped'
  return null
}

/** Constants beside feature maps have one entry a channel, or one for all. */
function constantsFit(n: Node, width: number, rank: number): boolean {
  return n.inputs.every((v) => {
    const dims = constantOf(v)?.dims
    if (!dims || !findOp(n)?.broadcasts) return true
    const size = dims[dims.length - rank + 1]
    return dims.length <= rank && (size === undefined || size === 1 || size === width)
  })
}
