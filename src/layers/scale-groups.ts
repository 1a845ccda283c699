/**
 * Channels through which a positive factor can be moved: outputs of layers reach other layers through nothing but
 * operators for which f(s x) = s f(x) (`OpDef.homogeneous`). A group is a set of channels, of one value or several, that
 * can only be scaled together: an addition ties the channels of its inputs, so a residual stream has one group per channel;
 * a Concat lines groups up, a Slice takes some, flattening repeats them. A factor computed from the channel elsewhere
 * (the gate of squeeze and excitation) keeps its values: the gate's own layer reads the channel and compensates for the
 * scale.
 *
 * A group is blocked, with the reason, where anything else reads or makes its channels.
 */
import { TiedNumbers } from '../base/tied-numbers.ts'
import type { Node, Value } from '../graph/graph.ts'
import { constantOf, readsShape } from '../ops/facts.ts'
import { channelSlot, findOp } from '../ops/index.ts'
import { canBias, editableLayer, outputChannels } from './layer-algebra.ts'
import type { WeightLayer } from './layers.ts'

/** A constant next to scaled values that is scaled with them, or the limits of a Clip. */
export interface ScaledConstant {
  readonly node: Node
  readonly input: number
  readonly groups: readonly number[]
  /** Axes of the output behind that of the channels. */
  readonly inner: number
}

export interface ScaledClip {
  readonly node: Node
  readonly least: number
  readonly most: number
  readonly groups: readonly number[]
  readonly inner: number
}

export interface ScaleFacts {
  /** Nodes in order, with inferred types. */
  readonly nodes: Iterable<Node>
  readonly layerOf: (node: Node) => WeightLayer | undefined
  /** Why a layer must be left alone; null if it need not be. */
  readonly whyLeft: (layer: WeightLayer) => string | null
  /** Limits become one constant per channel; otherwise a Clip blocks. */
  readonly splitClips: boolean
  /** Inputs of a sum share their factors; a sum of computed values blocks without. */
  readonly shareSums: boolean
}

interface Channels {
  readonly axis: number
  readonly groups: readonly number[]
}

/** Input channels of a layer, of all groups. */
export const inputChannels = ({ node, tensor, inputAxis }: WeightLayer): number =>
  tensor.dims[inputAxis!]! * (channelSlot(node)?.transposed ? 1 : node.int('group', 1))

const dimsOf = (v: Value): readonly (number | string | null)[] | null => v.constant?.dims ?? v.type?.dims ?? null

export class ScaleGroups {
  readonly #of = new Map<Value, Channels>()
  readonly #groups = new TiedNumbers()
  /** By the node that a layer is named after. */
  readonly #left = new Map<Node, string>()
  readonly #outputs = new Map<Node, readonly number[]>()
  readonly #inputs = new Map<Node, readonly number[]>()
  readonly #constants: ScaledConstant[] = []
  readonly #clips: ScaledClip[] = []
  readonly #facts: ScaleFacts

  constructor(facts: ScaleFacts) {
    this.#facts = facts
    for (const n of facts.nodes) this.#visit(n)
    for (const [v, { groups }] of this.#of) {
      const body = [...v.uses].find((n) => n.graph !== v.graph)
      if (v.isOutput) this.#groups.block(groups, `'${v.name}' is an output of the model`)
      else if (body) this.#groups.block(groups, `a body of ${body.label} reads it`)
      else if (v.uses.size === 0) this.#groups.block(groups, `nothing reads '${v.name}'`)
    }
  }

  /** Groups by output channel of a layer; -1 where a channel must stay as it is. null where all must. */
  outputs(layer: WeightLayer): Int32Array | null {
    return this.#free(this.#outputs.get(layer.node))
  }

  /** The same by input channel, of all groups of the layer. */
  inputs(layer: WeightLayer): Int32Array | null {
    return this.#free(this.#inputs.get(layer.node))
  }

  /** Why the outputs of a layer stay as they are; null where one of them need not. */
  whyFixed(layer: WeightLayer): string | null {
    const groups = this.#outputs.get(layer.node)
    if (!groups) return this.#left.get(layer.node) ?? `it is not of the model's own graph`
    const reasons = groups.map((g) => this.#groups.whyBlocked(g))
    return reasons.every((r) => r !== null) ? (reasons[0] ?? null) : null
  }

  /** Constants with a group that is free. */
  get constants(): readonly ScaledConstant[] {
    return this.#constants.map((c) => ({ ...c, groups: this.#roots(c.groups) }))
  }

  get clips(): readonly ScaledClip[] {
    return this.#clips.map((c) => ({ ...c, groups: this.#roots(c.groups) }))
  }

  #free(groups: readonly number[] | undefined): Int32Array | null {
    if (!groups) return null
    const roots = Int32Array.from(this.#roots(groups))
    return roots.some((g) => g >= 0) ? roots : null
  }

  #roots(groups: readonly number[]): number[] {
    return groups.map((g) => (this.#groups.whyBlocked(g) === null ? this.#groups.root(g) : -1))
  }

  #visit(n: Node): void {
    const layer = this.#facts.layerOf(n)
    if (layer) {
      const why = this.#layer(n, layer)
      if (why === null) return
      this.#left.set(layer.node, why)
      this.#blockInputs(n, why)
    } else if (!readsShape(n)) {
      const why = this.#flow(n)
      if (why !== null) this.#blockInputs(n, why)
    }
  }

  #blockInputs(n: Node, why: string): void {
    for (const v of n.inputs) this.#blockValue(v, why)
  }

  #blockValue(v: Value | null | undefined, why: string): void {
    const own = v && this.#of.get(v)
    if (own) this.#groups.block(own.groups, why)
  }

  /** Why neither side of the layer can be scaled; null where a side can. */
  #layer(n: Node, layer: WeightLayer): string | null {
    const slot = channelSlot(n)
    if (layer.slot.part || !slot) return `${n.label} is not just a product with its weight`
    const why = editableLayer(layer) ?? this.#facts.whyLeft(layer)
    if (why) return why
    if (slot.transposesData?.(n)) return `${n.label} transposes its input`
    const x = n.input(slot.data!)
    for (const [i, v] of n.inputs.entries())
      if (i !== slot.data || n.inputs.lastIndexOf(x) !== i) this.#blockValue(v, `${n.label} reads it as a parameter`)
    const [before, after] = [dimsOf(x)?.length, dimsOf(n.output)?.length]
    const axis = (rank: number | undefined): number | undefined => (slot.channels === 'rows' ? (rank ?? 0) - 1 : 1)
    const own = this.#of.get(x)
    if (own && own.axis === axis(before) && own.groups.length === inputChannels(layer))
      this.#inputs.set(layer.node, own.groups)
    else if (own) this.#groups.block(own.groups, `${n.label} does not read it channel by channel`)
    const channels = outputChannels(layer)
    const groups = this.#groups.take(channels)
    this.#outputs.set(layer.node, groups)
    if (after === undefined) this.#groups.block(groups, `the shape of '${n.output.name}' is unknown`)
    const biased = canBias(n, channels, () => 2)
    if (biased) this.#groups.block(groups, biased)
    this.#of.set(n.output, { axis: axis(after) ?? 1, groups })
    return null
  }

  /** Lines the output up with the inputs; why it cannot. */
  #flow(n: Node): string | null {
    const reads = `${n.label} reads it`
    const own = n.inputs.flatMap((v) => (v && this.#of.has(v) ? [v] : []))
    const def = findOp(n)
    if (this.#isMadeByScale(n)) return own.length > 0 ? reads : null
    if (own.length === 0) return null
    const [x] = n.inputs
    const first = (x && own.every((v) => v === x) && own.length === 1 && this.#of.get(x)) || null
    if (def?.takesAlong) return (first && this.#take(n, first)) ?? (first ? null : reads)
    if (n.outputs.slice(1).some((v) => v?.isUsed)) return reads
    if (def?.carries === 'order' && def.permutes && first) {
      const rank = dimsOf(x!)?.length
      if (rank === undefined) return reads
      this.#of.set(n.output, { axis: def.permutes(n, rank).indexOf(first.axis), groups: first.groups })
      return null
    }
    if (def?.zerosAlong && first) return this.#pad(n, x!, first)
    if (def?.bounds && first && !this.#facts.splitClips)
      return `${n.label} has the same limits for all channels; --clips per-channel gives each its own`
    if (def?.bounds) return first ? this.#clip(n, first) : reads
    switch (def?.homogeneous?.(n) ?? null) {
      case 'element':
        return first ? this.#alike(n, x!, first) : reads
      case 'channel':
        return first ? this.#channels(n, x!, first) : reads
      case 'factor':
        return this.#factor(n, own)
      case 'joint':
        if (def?.joinsAlong) return this.#join(n, own)
        if (!this.#facts.shareSums && n.inputs.filter((v) => v && !constantOf(v)).length > 1)
          return `${n.label} joins it with others; --sums share gives them all one factor`
        return this.#together(n)
      default:
        return reads
    }
  }

  /** A normalisation, or a product with a constant a channel, whose own numbers can take a factor up: a group each. */
  #isMadeByScale(n: Node): boolean {
    const rank = dimsOf(n.output)?.length
    const makers = rank === undefined ? null : (findOp(n)?.scaledBy?.(n, rank) ?? this.#vectorFactor(n, rank))
    if (!makers) return false
    const channels = dimsOf(n.output)?.[makers.axis]
    const given = makers.inputs.filter((i) => n.inputs[i])
    const fits = given.every((i) => {
      const dims = constantOf(n.inputs[i])?.type.includes('float') ? constantOf(n.inputs[i])!.dims : []
      return dims.some((d) => d === channels)
    })
    if (typeof channels !== 'number' || !fits) return false
    const groups = this.#groups.take(channels)
    for (const input of given) {
      const { dims } = constantOf(n.inputs[input])!
      this.#constants.push({ node: n, input, groups, inner: dims.length - 1 - dims.lastIndexOf(channels) })
    }
    this.#of.set(n.output, { axis: makers.axis, groups })
    return true
  }

  #vectorFactor(n: Node, rank: number): { axis: number; inputs: readonly number[] } | null {
    if (findOp(n)?.homogeneous?.(n) !== 'factor' || n.inputs.some((v) => v && this.#of.has(v))) return null
    const input = n.inputs.findIndex((v) => constantOf(v))
    const { dims } = constantOf(n.inputs[input]) ?? { dims: [] }
    const isVector = dims.filter((d) => d > 1).length === 1 && n.inputs.filter((v) => constantOf(v)).length === 1
    return isVector ? { axis: rank - dims.length + dims.findIndex((d) => d > 1), inputs: [input] } : null
  }

  /** Channels of zeros are what they are at any scale. */
  #pad(n: Node, x: Value, own: Channels): string | null {
    const around = findOp(n)!.zerosAlong!(n, own.axis)
    if (!around) {
      const why = findOp(n)!.homogeneous?.(n) === 'channel' ? this.#channels(n, x, own) : `${n.label} reads it`
      const isComputed = n.inputs.slice(1).some((v) => v && !constantOf(v))
      return why && isComputed ? `${why}, which takes something computed: fold-constants may know it` : why
    }
    const [before, after] = around.map((count) => this.#groups.take(count))
    this.#of.set(n.output, { axis: own.axis, groups: [...before!, ...own.groups, ...after!] })
    return null
  }

  #take(n: Node, { axis, groups }: Channels): string | null {
    const parts = findOp(n)!.takesAlong!(n, axis, groups.length)
    if (!parts) return `${n.label} reads it`
    for (const [i, part] of parts.entries()) {
      const y = n.outputs[i]
      if (y) this.#of.set(y, { axis, groups: part.map((c) => groups[c]!) })
    }
    return null
  }

  /** The output has the input's shape. */
  #alike(n: Node, x: Value, own: Channels): string | null {
    const [from, to] = [dimsOf(x), dimsOf(n.output)]
    const spread = findOp(n)?.broadcasts && (from?.length !== to?.length || to?.[own.axis] !== own.groups.length)
    if (spread) return `${n.label} spreads it over others`
    this.#of.set(n.output, own)
    return null
  }

  #channels(n: Node, x: Value, own: Channels): string | null {
    const apart = `${n.label} does not keep channels apart`
    const flow = own.axis === 1 ? (findOp(n)?.channels?.(n) ?? null) : null
    if (flow === 'same') {
      this.#of.set(n.output, own)
      return null
    }
    const after = dimsOf(n.output)
    const isReshaped = own.axis === 1 && after === null && findOp(n)?.carries === 'shape'
    if (flow !== 'flattened' && !isReshaped) return apart
    const inner = dimsOf(x)
      ?.slice(2)
      .reduce<number>((p, d) => p * (typeof d === 'number' ? d : Number.NaN), 1)
    const features = own.groups.length * (inner || Number.NaN)
    const isMatrix = after?.length === 2 && after[1] === features
    if (!isMatrix && (typeof after?.[1] === 'number' || !this.#isReadAsMatrix(n.output, features))) return apart
    this.#of.set(n.output, {
      axis: 1,
      groups: own.groups.flatMap((g) => Array<number>(features / own.groups.length).fill(g)),
    })
    return null
  }

  /** Its readers multiply matrices with that many columns, so it has one row per sample. */
  #isReadAsMatrix(v: Value, columns: number): boolean {
    const readers = [...v.uses].map((n) => this.#facts.layerOf(n))
    return readers.every((l) => l?.slot.channels === 'matrix' && l.inputAxis !== null && inputChannels(l) === columns)
  }

  /** Of two computed factors one is scaled, the other stays. */
  #factor(n: Node, own: readonly Value[]): string | null {
    const reads = `${n.label} reads it`
    if (new Set(own).size < own.length) return reads
    const dims = dimsOf(n.output)
    const fits = (v: Value): boolean => {
      const { axis, groups } = this.#of.get(v)!
      return dims !== null && dimsOf(v)?.length === dims.length && dims[axis] === groups.length
    }
    const isFree = (v: Value): boolean => this.#roots(this.#of.get(v)!.groups).some((g) => g >= 0)
    const taken = own.find((v) => fits(v) && isFree(v))
    for (const v of own) if (v !== taken) this.#blockValue(v, reads)
    if (taken) this.#of.set(n.output, this.#of.get(taken)!)
    return null
  }

  #join(n: Node, own: readonly Value[]): string | null {
    const rank = dimsOf(n.output)?.length
    const { axis } = this.#of.get(own[0]!)!
    if (rank === undefined || own.some((v) => this.#of.get(v)!.axis !== axis)) return `${n.label} reads it`
    if (findOp(n)!.joinsAlong!(n, rank) !== axis) return this.#together(n)
    // what is not scaled keeps groups of its own, which are blocked
    const groups = n.inputs.map((v) => {
      const known = v && this.#of.get(v)?.groups
      if (known) return known
      const count = v && dimsOf(v)?.[axis]
      if (typeof count !== 'number') return null
      const fresh = this.#groups.take(count)
      this.#groups.block(fresh, `${n.label} takes it as it is`)
      return fresh
    })
    if (groups.some((g) => g === null)) return `the shape of what ${n.label} reads is unknown`
    this.#of.set(n.output, { axis, groups: groups.flatMap((g) => g!) })
    return null
  }

  /** All inputs of one shape get the same scales; constants get a scaled copy. */
  #together(n: Node): string | null {
    const rank = dimsOf(n.output)?.length
    const given = n.inputs.filter((v): v is Value => v !== null)
    const known = given.flatMap((v) => this.#of.get(v) ?? [])
    const [first] = known
    if (rank === undefined || !first) return `${n.label} reads it`
    const { axis, groups } = first
    for (const v of given) {
      const other = this.#of.get(v)
      const isAlike = other && other.axis === axis && other.groups.length === groups.length
      if (isAlike && dimsOf(v)?.length === rank) continue
      if (other || !constantFits(v, { rank, axis, channels: groups.length }))
        return `${n.label} joins it with '${v.name}', which cannot be scaled likewise`
    }
    if (dimsOf(n.output)?.[axis] !== groups.length) return `${n.label} spreads it over others`
    for (const other of known) for (const [c, g] of other.groups.entries()) this.#groups.tie(g, groups[c]!)
    for (const [input, v] of n.inputs.entries())
      if (v && !this.#of.has(v)) this.#constants.push({ node: n, input, groups, inner: rank - 1 - axis })
    this.#of.set(n.output, first)
    return null
  }

  #clip(n: Node, own: Channels): string | null {
    const limits = findOp(n)!.bounds!(n)
    const rank = dimsOf(n.output)?.length
    if (!limits || rank === undefined) return `${n.label} has limits that are computed`
    this.#clips.push({ node: n, ...limits, groups: own.groups, inner: rank - 1 - own.axis })
    this.#of.set(n.output, own)
    return null
  }
}

/** One entry for each channel, or one for all. */
function constantFits(v: Value, { rank, axis, channels }: { rank: number; axis: number; channels: number }): boolean {
  const tensor = constantOf(v)
  if (!tensor?.type.includes('float') || tensor.dims.length > rank) return false
  const size = tensor.dims[axis - (rank - tensor.dims.length)]
  return size === undefined || size === 1 || size === channels
}
