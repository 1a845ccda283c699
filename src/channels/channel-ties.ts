/**
 * Output channels of layers that can only be removed together (the two sides of an Add, a depthwise convolution and what
 * comes before it), so that pruning whole channels chooses them together: a channel that is zero on one side only can
 * stay in use and costs as much as before.
 *
 * Written to mask nodes as `mnc.channels`, numbers of the channels' slots in ranges: `0-15,20,22-23`. Numbers are the
 * model's: those that masks of other layers have already, from an earlier run, are not used again.
 */

import { MncError } from '../base/errors.ts'
import { cloneModel } from '../graph/clone.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { type WeightLayer, weightLayers } from '../layers/layers.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { ChannelSlots } from './channel-slots.ts'

/** Slot numbers of the output channels of those layers that share some with another. None where shapes are unknown. */
export async function channelTies(
  model: Model,
  layers: readonly WeightLayer[],
): Promise<ReadonlyMap<WeightLayer, readonly number[]>> {
  const typed = cloneModel(model)
  try {
    await inferTypes(typed)
  } catch (error) {
    if (error instanceof MncError) return new Map()
    throw error
  }
  const slots = new ChannelSlots(typed.graph, (v) => v.constant?.dims ?? v.type?.dims ?? null)
  const own = new Map<WeightLayer, readonly number[]>()
  const readers = new Map<number, number>()
  for (const l of layers) {
    const channels = l.users.length === 1 ? slots.of(typed.graph.find(l.node.output.name)) : null
    if (!channels || channels.length !== l.tensor.dims[l.outputAxis ?? -1]) continue
    own.set(l, channels)
    for (const s of new Set(channels)) readers.set(s, (readers.get(s) ?? 0) + 1)
  }
  const taken = numbersOfOthers(model, layers)
  const numbers = new Map<number, number>()
  let next = 0
  const numberOf = (slot: number): number => {
    if (!numbers.has(slot)) {
      while (taken.has(next)) next++
      numbers.set(slot, next++)
    }
    return numbers.get(slot)!
  }
  return new Map(
    [...own]
      .filter(([, channels]) => channels.some((s) => readers.get(s)! > 1))
      .map(([l, channels]) => [l, channels.map(numberOf)]),
  )
}

function numbersOfOthers(model: Model, layers: readonly WeightLayer[]): Set<number> {
  const own = new Set(layers.map((l) => l.weight))
  return new Set(weightLayers(model.graph).flatMap((l) => (own.has(l.weight) ? [] : (channelsOf(l) ?? []))))
}

/** What is written to a layer's mask node. */
export const channelsOf = ({ maskNode, tensor, outputAxis }: WeightLayer): readonly number[] | null =>
  parseChannels(marks.channels.get(maskNode), tensor.dims[outputAxis ?? -1] ?? 0)

export function formatChannels(channels: readonly number[]): string {
  const ranges: [number, number][] = []
  for (const c of channels) {
    const last = ranges.at(-1)
    if (last && c === last[1] + 1) last[1] = c
    else ranges.push([c, c])
  }
  return ranges.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(',')
}

/** null for anything but a list of `count` numbers. */
function parseChannels(text: string | undefined, count: number): readonly number[] | null {
  if (text === undefined) return null
  const channels = text.split(',').flatMap((range) => {
    const [a, b = a] = range.split('-').map(Number)
    return Array.from({ length: b! - a! + 1 }, (_, i) => a! + i)
  })
  return channels.length === count && channels.every(Number.isInteger) ? channels : null
}
