/**
 * Which channels of a network's feature maps are inseparable when some are removed: a slot is a set
 * of channels, of one value or several, that can only go together. Add couples the channels of its two inputs; so do
 * BatchNormalization, activations and pools those of input and output, and a depthwise convolution those of both sides.
 * Concat lines slots up; flattening repeats them. Any other layer starts with slots of its own.
 *
 * A slot is blocked, with the reason, where something reads or makes its channels without saying how they go through
 * (`OpDef.channels`): graph inputs and outputs, grouped convolutions, shared weights, Pad over channels, bodies of If, Loop
 * and Scan, arithmetic with their number, ...
 */

import { TiedNumbers } from '../base/tied-numbers.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import { type WeightLayer, weightLayers } from '../layers/layers.ts'
import { constantOf } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'
import { ChannelCounts } from './channel-counts.ts'
import { isDepthwise, whyBias, whyFixed } from './channel-layers.ts'

export class ChannelSlots {
  /** Slot of each channel (axis 1) of a value. */
  readonly #of = new Map<Value, readonly number[]>()
  readonly #slots = new TiedNumbers()
  /** Computed from constants alone. */
  readonly #derived = new Set<Value>()
  readonly #counts = new ChannelCounts()
  readonly #fixed = new Map<Node, string>()
  /** Layers that make channels from channels, by the nodes that use their weights. */
  readonly layers: ReadonlyMap<Node, WeightLayer>
  readonly #dims: (v: Value) => readonly (number | string | null)[] | null

  /** `dims` gives what is known of a value's shape; channel counts must be. */
  constructor(graph: Graph, dims: (v: Value) => readonly (number | string | null)[] | null) {
    this.#dims = dims
    this.layers = new Map(
      weightLayers(graph).flatMap((l) => (l.slot.channels ? l.users.map((n) => [n, l] as const) : [])),
    )
    for (const v of graph.inputs) this.#slots.block(this.#fresh(v), `they come from the input '${v.name}'`)
    for (const n of graph.nodes()) this.#visit(n)
    for (const v of graph.outputs) {
      this.#slots.block(this.#of.get(v) ?? [], `they are the output '${v.name}'`)
      this.#blockCounted([v], `the output '${v.name}' depends on how many there are`)
    }
  }

  /** The slots of a value's channels; null where it has none that are known. */
  of(v: Value | null | undefined): readonly number[] | null {
    const slots = v && this.#of.get(v)
    return slots ? slots.map((s) => this.#slots.root(s)) : null
  }

  /** Why a slot cannot be removed; null where nothing forbids it. */
  whyBlocked(slot: number): string | null {
    return this.#slots.whyBlocked(slot)
  }

  /** Why a layer keeps all its channels; null where they may be removed as far as it is concerned. */
  whyFixed(layer: Node): string | null {
    return this.#fixed.get(layer) ?? null
  }

  /** Made of constants alone: a masked weight on its way to a layer. */
  isDerived(v: Value): boolean {
    return this.#derived.has(v)
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
    const flows = this.#flows(n)
    this.#count(n, flows)
    if (!flows) this.#barrier(n)
  }

  /** Made of constants alone. */
  #isConstant(n: Node): boolean {
    return n.inputs.length > 0 && n.subgraphs.length === 0 && n.inputs.every((v) => !v || this.#isKnown(v))
  }

  #isKnown(v: Value): boolean {
    return this.#derived.has(v) || constantOf(v) !== null
  }

  /**
   * Follows numbers of channels. Where they meet channels (or a body, whose work is not looked at) they are in use; but a
   * flattening Reshape can be given its shape in another way.
   */
  #count(n: Node, flows: boolean): void {
    const read = [...n.inputs.filter((v) => v !== null), ...capturedBy(n)]
    const meets = n.subgraphs.length > 0 || read.some((v) => this.#of.has(v))
    if (!meets) this.#counts.pass(n, read)
    else if (!(flows && flowOf(n) === 'flattened' && read.every((v) => this.#countsOnly(v, n.input(0)))))
      this.#blockCounted(read, `${n.label} depends on how many there are`)
  }

  #countsOnly(v: Value, of: Value): boolean {
    return this.#counts.of(v).every((x) => x === of)
  }

  #blockCounted(read: readonly Value[], reason: string): void {
    for (const v of read) for (const x of this.#counts.of(v)) this.#slots.block(this.#of.get(x) ?? [], reason)
  }

  /** Lines the output's slots up with the inputs'; false where that cannot be. */
  #flows(n: Node): boolean {
    const flow = flowOf(n)
    if (flow === null || n.subgraphs.length > 0 || n.outputs.slice(1).some((v) => v?.isUsed)) return false
    if (flow === 'joined') return this.#join(n)
    const features = flow === 'flattened' ? [n.input(0)] : featuresOf(n).filter((v) => !this.#isSpread(n, v))
    const slots = features.map((v) => this.#of.get(v) ?? [])
    if (slots.length === 0 || slots.some((s) => s.length === 0)) return false
    return flow === 'flattened' ? this.#flatten(n, slots[0]!) : this.#merge(n, features, slots)
  }

  /** One number for all channels, computed: has no channels of its own. */
  #isSpread(n: Node, v: Value): boolean {
    const [rank, own] = [this.#dims(n.output)?.length, this.#dims(v)?.length]
    return findOp(n)?.broadcasts === true && rank !== undefined && own !== undefined && own < rank - 1 && own < 2
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
    const lined = depthwise && inputs.length > 0 && this.#of.get(y)?.[0] === inputs[0]
    const why = whyFixed(n, layer, { rank: this.#dims(x)?.length ?? null, lined })
    const own = this.#of.get(y) ?? []
    if (why) {
      this.#fixed.set(n, why)
      this.#slots.block(inputs, `they go into ${n.label}: ${why}`)
      this.#slots.block(own, `they come from ${n.label}: ${why}`)
    }
    const bias = whyBias(n)
    if (bias) this.#slots.block(own, `they come from ${n.label}: ${bias}`)
    for (const v of n.inputs.slice(1)) if (v) this.#slots.block(this.#of.get(v) ?? [], `${n.label} reads them`)
    this.#blockCounted(
      n.inputs.filter((v) => v !== null),
      `${n.label} depends on how many there are`,
    )
  }

  /** One input after the other; the channels of constants among them stay. */
  #join(n: Node): boolean {
    const parts = n.inputs.map((v) => {
      const dims = constantOf(v)?.dims
      if (!dims) return (v && this.#of.get(v)) ?? []
      const slots = this.#slots.take(dims.length >= 2 ? dims[1]! : 0)
      this.#slots.block(slots, `they are constants that ${n.label} concatenates with others`)
      return slots
    })
    if (parts.some((s) => s.length === 0)) return false
    this.#of.set(n.output, parts.flat())
    return true
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
    // shapes are lined up from the last axis: of another rank, axis 1 would be another one
    const sameRank = features.length === 1 && !findOp(n)?.broadcasts
    if (!sameRank && features.some((v) => this.#dims(v)?.length !== rank)) return false
    if (slots.some((s) => s.length !== width && s.length !== 1) || !constantsFit(n, width, rank)) return false
    const [first, ...others] = slots.filter((s) => s.length === width)
    for (const s of slots) if (s.length !== width) this.#slots.block(s, `${n.label} spreads them over all channels`)
    for (const other of others) for (const [c, s] of other.entries()) this.#slots.tie(s, first![c]!)
    this.#of.set(n.output, first!)
    return true
  }

  #barrier(n: Node): void {
    const [x] = n.inputs
    if (x && this.#of.has(x) && n.inputs.length === 1 && this.#counts.measure(n, this.#dims(x)?.length)) return
    for (const v of [...n.inputs, ...capturedBy(n)])
      this.#slots.block((v && this.#of.get(v)) ?? [], `${n.label} reads them`)
    for (const v of n.outputs) if (v) this.#slots.block(this.#fresh(v), `they come from ${n.label}`)
  }

  #fresh(v: Value): readonly number[] {
    const dims = this.#dims(v)
    const width = dims && dims.length >= 2 ? dims[1] : null
    if (typeof width !== 'number') return []
    const slots = this.#slots.take(width)
    this.#of.set(v, slots)
    return slots
  }
}

/** How channels go through a node that is not a layer. */
export function flowOf(n: Node) {
  const def = findOp(n)
  return def?.channels?.(n) ?? (def && !def.channels && def.broadcasts ? 'same' : null)
}

/** The inputs that are computed; of a quantiser or a Reshape the first only. */
export const featuresOf = (n: Node): Value[] => n.inputs.filter((v): v is Value => v !== null && constantOf(v) === null)

/** Values around a node that the bodies of an If, Loop or Scan read, or hand out as they are. */
function capturedBy(n: Node): Value[] {
  const isOuter = (v: Value | null): v is Value => v !== null && v.graph === n.graph
  const of = (body: Graph): Value[] => [
    ...body.outputs.filter(isOuter),
    ...[...body.nodes()].flatMap((m) => [...m.inputs.filter(isOuter), ...m.subgraphs.flatMap(of)]),
  ]
  return n.subgraphs.flatMap(of)
}

/** Constants next to feature maps have one entry per channel, or one for all. */
function constantsFit(n: Node, width: number, rank: number): boolean {
  return n.inputs.every((v) => {
    const dims = constantOf(v)?.dims
    if (!dims || !findOp(n)?.broadcasts) return true
    const size = dims[dims.length - rank + 1]
    return dims.length <= rank && (size === undefined || size === 1 || size === width)
  })
}
