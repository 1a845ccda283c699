/**
 * Which channels can be removed without changing what the model computes. A slot (channel-slots.ts) is needed where it is
 * blocked, or where a layer reads one of its channels, for an output channel that is needed itself, with weights that are
 * not zero, and the channel is not constant. A layer is compensated for a constant channel that is removed:
 *
 *   0                         nothing to do
 *   v, the layer pads not     b' = b + W v
 *   v, the layer pads         padded borders are 0, not v, so no bias does. One constant channel u stays to carry all of
 *                             them: W'_u = W_u + sum W_i v_i / u. Not where the weight is quantised.
 */
import type { Node, Value } from '../graph/graph.ts'
import { canBias, outputChannels } from '../layers/layer-algebra.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { type ChannelConstants, pads } from './channel-constants.ts'
import { isDepthwise } from './channel-layers.ts'
import type { ChannelSlots } from './channel-slots.ts'

export interface Merge {
  /** Input channel that stays. */
  readonly into: number
  readonly from: readonly { readonly channel: number; readonly ratio: number }[]
}

export interface ChannelPlan {
  /** Channels of a value that stay, in order; null where its channels are unknown. */
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

interface Reader {
  readonly n: Node
  readonly layer: WeightLayer
  /** All its input channels. */
  readonly all: readonly Read[]
  /** Slots of its output channels. */
  readonly outputs: readonly number[]
  readonly used: readonly Uint8Array[]
  readonly sums: readonly Float64Array[]
}

/** A constant that stays may be this much smaller than one that it carries. */
const LARGEST_RATIO = 16

const bySize = (a: Read, b: Read): number => Math.abs(b.value!) - Math.abs(a.value!)

export function planChannels(nodes: readonly Node[], slots: ChannelSlots, constants: ChannelConstants): ChannelPlan {
  const needed = new Map<number, string>()
  const need = (slot: number, reason: string): void => void (needed.has(slot) || needed.set(slot, reason))
  const readers = nodes.flatMap((n): Reader[] => {
    const layer = slots.layers.get(n)
    const [inputs, outputs] = [slots.of(n.inputs[0]), slots.of(n.output)]
    if (!layer || !inputs || !outputs || isDepthwise(n, layer) || slots.whyFixed(n)) return []
    const { used, sums } = constants.rows(n)
    const all = inputs.map((slot, channel): Read => ({ channel, slot, value: constants.of(n.input(0), channel) }))
    return [{ n, layer, all, outputs, used, sums }]
  })
  /** What is read for the output channels that stay. */
  const readsOf = ({ all, outputs, used }: Reader): Read[] => {
    const rows = used.filter((_, o) => needed.has(outputs[o]!))
    return all.filter(({ channel }) => rows.some((row) => row[channel]))
  }
  const carried = (reads: readonly Read[]): Read[] => reads.filter((r) => r.value && !needed.has(r.slot))
  /** The largest constant that stays, where it is not much smaller than those that go: W'_u must not overflow. */
  const carrierOf = (reads: readonly Read[]): Read | undefined => {
    const [largest] = [...reads].filter((r) => r.value && needed.has(r.slot)).sort(bySize)
    const most = Math.max(...carried(reads).map((r) => Math.abs(r.value!)), 0)
    return largest && Math.abs(largest.value!) * LARGEST_RATIO >= most ? largest : undefined
  }
  for (const v of slots.values())
    for (const s of slots.of(v)!) {
      const why = slots.whyBlocked(s)
      if (why) need(s, why)
    }
  // readers last to first, since what a layer needs depends on what its own readers need
  for (let before = -1; before < needed.size; ) {
    before = needed.size
    for (const reader of [...readers].reverse()) {
      const { n, layer } = reader
      const reads = readsOf(reader)
      for (const { slot, value } of reads) {
        const why = value === null ? 'channels that they are tied to are in use' : whyNoBias(n, layer, value)
        if (why) need(slot, why)
      }
      const [first] = pads(n) ? carried(reads).sort(bySize) : []
      if (first && !carrierOf(reads))
        need(first.slot, `one carries the constants of the others into ${n.label}, which pads`)
    }
    if (needed.size > before) continue
    for (const v of slots.values()) {
      const own = slots.of(v)!
      if (own.length === 0 || own.some((s) => needed.has(s))) continue
      const steady = own.findIndex((_, c) => constants.of(v, c) !== null)
      need(own[Math.max(0, steady)]!, 'one channel must remain')
    }
  }
  const shifts = new Map<Node, Float64Array>()
  const merges = new Map<Node, Merge>()
  for (const reader of readers) {
    const { n, sums } = reader
    const reads = readsOf(reader)
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

/** Why a constant that is not 0 cannot be compensated for. */
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
    const zero = constants.zeroOutputs(n)
    const fixed = slots.whyFixed(n)
    const reasons = zero.flatMap((o) => (fixed ? `they come from ${n.label}: ${fixed}` : (needed.get(own[o]!) ?? [])))
    if (reasons.length === 0) return []
    return [{ layer: layer.name, reason: `${reasons.length} of its ${zero.length} zero channels stay: ${reasons[0]}` }]
  })
}
