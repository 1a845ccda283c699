/**
 * Which channels can go without changing what the model computes. A slot (channel-slots.ts) is needed where it is
 * blocked, or where a layer reads one of its channels with weights that are not zero and the channel is not constant. What
 * a constant channel that goes gave to a layer is made up for:
 *
 *   0                         nothing to do
 *   v, the layer pads not     b' = b + W v
 *   v, the layer pads         padded borders are 0, not v, so no bias does. One constant channel u stays to carry all of
 *                             them: W'_u = W_u + sum W_i v_i / u. Not where the weight is quantised.
 */
import type { Node, Value } from '../graph/graph.ts'
import { type ChannelConstants, pads } from './channel-constants.ts'
import { type ChannelSlots, isDepthwise } from './channel-slots.ts'
import { canBias, outputChannels } from './layer-algebra.ts'
import type { WeightLayer } from './layers.ts'

export interface Merge {
  /** Input channel that stays. */
  readonly into: number
  readonly from: readonly { readonly channel: number; readonly ratio: number }[]
}

export interface ChannelPlan {
  /** Channels of a value that stay, in order; null where its channels are not known. */
  keep(v: Value | null | undefined): readonly number[] | null
  /** What a layer's bias gains, by output channel. */
  readonly shifts: ReadonlyMap<Node, Float64Array>
  readonly merges: ReadonlyMap<Node, Merge>
  /** Slots that go. */
  readonly removed: number
  /** Channels of zero weights that stay, by layer, and why. */
  readonly stays: readonly { readonly layer: string; readonly reason: string }[]
}

interface Read {
  readonly channel: number
  readonly slot: number
  /** null where it varies. */
  readonly value: number | null
}

export function planChannels(nodes: readonly Node[], slots: ChannelSlots, constants: ChannelConstants): ChannelPlan {
  const needed = new Map<number, string>()
  const need = (slot: number, reason: string): void => void (needed.has(slot) || needed.set(slot, reason))
  const readers = nodes.flatMap((n) => {
    const layer = slots.layers.get(n)
    const inputs = slots.of(n.inputs[0])
    if (!layer || !inputs || isDepthwise(n, layer) || n.int('group', 1) > 1) return []
    const { used, sums } = constants.rows(n)
    const reads = inputs.flatMap((slot, channel): Read[] =>
      used.some((row) => row[channel]) ? [{ channel, slot, value: constants.of(n.input(0), channel) }] : [],
    )
    return [{ n, layer, reads, sums }]
  })
  for (const v of slots.values())
    for (const s of slots.of(v)!) {
      const why = slots.whyBlocked(s)
      if (why) need(s, why)
    }
  for (const { n, layer, reads } of readers)
    for (const { slot, value } of reads) {
      const why = value === null ? 'channels that they belong together with are in use' : whyNoBias(n, layer, value)
      if (why) need(slot, why)
    }
  for (const v of slots.values()) {
    const own = slots.of(v)!
    if (own.every((s) => !needed.has(s))) need(own[0]!, 'one channel has to stay')
  }
  const carried = (reads: readonly Read[]): Read[] => reads.filter((r) => r.value && !needed.has(r.slot))
  const carrierOf = (reads: readonly Read[]): Read | undefined => reads.find((r) => r.value && needed.has(r.slot))
  for (const { n, reads } of readers) {
    if (!pads(n)) continue
    const gone = carried(reads)
    const [first] = [...gone].sort((a, b) => Math.abs(b.value!) - Math.abs(a.value!))
    if (first && !carrierOf(reads))
      need(first.slot, `one carries the constants of the others into ${n.label}, which pads`)
  }
  const shifts = new Map<Node, Float64Array>()
  const merges = new Map<Node, Merge>()
  for (const { n, reads, sums } of readers) {
    const gone = carried(reads)
    if (gone.length === 0) continue
    if (pads(n)) {
      const carrier = carrierOf(reads)!
      const from = gone.map(({ channel, value }) => ({ channel, ratio: value! / carrier.value! }))
      merges.set(n, { into: carrier.channel, from })
    } else
      shifts.set(
        n,
        Float64Array.from(sums, (row) => gone.reduce((sum, { channel, value }) => sum + row[channel]! * value!, 0)),
      )
  }
  const all = new Set([...slots.values()].flatMap((v) => slots.of(v)!))
  return {
    keep: (v) => slots.of(v)?.flatMap((s, c) => (needed.has(s) ? [c] : [])) ?? null,
    ...{ shifts, merges, removed: all.size - needed.size, stays: staying(nodes, slots, constants, needed) },
  }
}

/** Why a constant that is not 0 cannot be made up for. */
function whyNoBias(n: Node, layer: WeightLayer, value: number): string | null {
  if (value === 0) return null
  if (!pads(n)) return canBias(n, outputChannels(layer), (v) => v.type?.dims?.length ?? null)
  if (!layer.quant && layer.tensor.type.includes('float')) return null
  return `they carry constants into ${n.label}, which pads and whose weight is quantised`
}

function staying(
  nodes: readonly Node[],
  slots: ChannelSlots,
  constants: ChannelConstants,
  needed: ReadonlyMap<number, string>,
): { layer: string; reason: string }[] {
  return nodes.flatMap((n) => {
    const layer = slots.layers.get(n)
    const own = layer && slots.of(n.output)
    if (!own) return []
    const { used } = constants.rows(n)
    const zero = own.flatMap((slot, o) => (used[o]?.every((u) => u === 0) ? [slot] : []))
    const reasons = zero.flatMap((slot) => needed.get(slot) ?? [])
    if (reasons.length === 0) return []
    return [{ layer: layer.name, reason: `${reasons.length} of its ${zero.length} zero channels stay: ${reasons[0]}` }]
  })
}
