/**
 * Which channels have the same value whatever the input, and which value: those of layers whose weights for them are all
 * zero (masked), and what is computed from such channels alone. That they are constant follows from the graph; the number, and
 * that borders do not break it (padded average pools), is seen by running the model, at two sizes where sizes are open.
 */

import type { Node, Value } from '../graph/graph.ts'
import { padsInput } from '../graph/sliding-window.ts'
import { constantOf, groupsOf, productFactor } from '../ops/facts.ts'
import { channelSlot, findOp } from '../ops/index.ts'
import { isDepthwise } from './channel-layers.ts'
import { type ChannelSlots, featuresOf, flowOf } from './channel-slots.ts'
import type { ChannelStatistics } from './channel-statistics.ts'
import { unitOf } from './rounding.ts'

/** Input channels that an output channel is computed from, and the weights' sums over kernel positions. */
export interface LayerRows {
  /** sums[o][i] over kernel positions; NaN-free. */
  readonly sums: readonly Float64Array[]
  /** used[o][i]: some weight is not zero. */
  readonly used: readonly Uint8Array[]
}

export class ChannelConstants {
  readonly #constant = new Map<Value, readonly boolean[]>()
  readonly #seen: ChannelStatistics
  readonly #zerosOnly: boolean
  readonly #slots: ChannelSlots

  /** `zerosOnly`: sizes are open and were not varied, so that no other number is known to hold at all of them. */
  constructor(nodes: Iterable<Node>, slots: ChannelSlots, seen: ChannelStatistics, zerosOnly: boolean) {
    this.#slots = slots
    this.#seen = seen
    this.#zerosOnly = zerosOnly
    for (const n of nodes) {
      const width = slots.of(n.outputs[0])?.length
      if (width === undefined || slots.whyFixed(n)) continue
      const proven = this.#prove(n, width)
      const y = n.output
      this.#constant.set(
        y,
        proven.map((p, c) => p && this.#steady(y, c)),
      )
    }
  }

  /** The number that a channel always is; null where it varies, or is unknown. */
  of(v: Value, channel: number): number | null {
    if (!this.#constant.get(v)?.[channel]) return null
    const value = this.#seen.range(v, channel)?.[0]
    return value === undefined || !Number.isFinite(value) || (this.#zerosOnly && value !== 0) ? null : value
  }

  rows(n: Node): LayerRows {
    const { outs, ins, values, outputOf, inputOf } = this.#weight(n)
    const sums = Array.from({ length: outs }, () => new Float64Array(ins))
    const used = Array.from({ length: outs }, () => new Uint8Array(ins))
    const alpha = productFactor(n)
    for (let e = 0; e < values.length; e++) {
      const [o, i] = [outputOf(e), inputOf(e)]
      sums[o]![i]! += alpha * values[e]!
      if (values[e] !== 0) used[o]![i] = 1
    }
    return { sums, used }
  }

  /** Output channels whose weights are all zero. */
  zeroOutputs(n: Node): number[] {
    const { outs, values, outputOf } = this.#weight(n)
    const used = new Uint8Array(outs)
    for (let e = 0; e < values.length; e++) if (values[e] !== 0) used[outputOf(e)] = 1
    return Array.from(used.keys()).filter((o) => used[o] === 0)
  }

  #weight(n: Node) {
    const slot = channelSlot(n)!
    const w = this.#seen.operand(n.input(slot.input))
    const along = (axis: number): readonly [size: number, of: (e: number) => number] => {
      const [size, stride] = [w.dims[axis]!, w.dims.slice(axis + 1).reduce((x, y) => x * y, 1)]
      return [size, (e) => Math.floor(e / stride) % size]
    }
    const [[outs, outputOf], [ins, inputOf]] = [along(slot.outputAxis(n)), along(slot.inputAxis(n))]
    return { outs, ins, values: w.toNumbers(), outputOf, inputOf }
  }

  #prove(n: Node, width: number): readonly boolean[] {
    const all = (of: (c: number) => boolean): readonly boolean[] => Array.from({ length: width }, (_, c) => of(c))
    const layer = this.#slots.layers.get(n)
    if (layer) {
      const { used } = this.rows(n)
      const x = n.input(0)
      const edge = pads(n)
      const fixed = (i: number): boolean => {
        const v = this.of(x, i)
        return v !== null && (v === 0 || !edge)
      }
      const inputs = this.#slots.of(x)?.length ?? 0
      if (isDepthwise(n, layer)) return all((o) => used[o]![0] === 0 || fixed(Math.floor((o * inputs) / width)))
      return groupsOf(n) > 1 ? all(() => false) : all((o) => used[o]!.every((u, i) => u === 0 || fixed(i)))
    }
    const flow = flowOf(n)
    const whole = (v: Value): readonly boolean[] => this.#constant.get(v) ?? []
    if (flow === 'joined')
      return n.inputs.flatMap((v) => {
        const known = constantOf(v)?.dims[1]
        if (known !== undefined) return Array<boolean>(known).fill(false)
        return (this.#slots.of(v) ?? []).map((_, c) => (v && whole(v)[c]) ?? false)
      })
    if (flow === 'flattened') {
      const run = width / (this.#slots.of(n.input(0))?.length ?? width)
      return all((c) => whole(n.input(0))[Math.floor(c / run)] ?? false)
    }
    if (flow === null || !uniform(n)) return all(() => false)
    const features = featuresOf(n)
    const at = (v: Value, c: number): number => (this.#slots.of(v)?.length === 1 ? 0 : c)
    return all(
      (c) =>
        features.every((v) => whole(v)[at(v, c)] ?? false) ||
        (flow === 'product' && features.some((v) => this.of(v, at(v, c)) === 0)),
    )
  }

  /** The same everywhere, except for the order of sums. Integers between two halves of a quantiser are not looked at. */
  #steady(v: Value, channel: number): boolean {
    const range = this.#seen.range(v, channel)
    if (range === null) return true
    const [least, most] = range
    return most - least <= STEADY * unitOf(v.type?.elem ?? 'float32') * Math.max(Math.abs(least), Math.abs(most))
  }
}

/** Units of rounding by which one and the same sum may differ between positions. */
const STEADY = 16

/** Whether a constant input channel looks different at the borders of a layer's output. */
export function pads(n: Node): boolean {
  return channelSlot(n)?.transposed === true || padsInput(n)
}

/** Constants next to feature maps do not differ between positions. */
function uniform(n: Node): boolean {
  const rank = n.output.type?.dims?.length ?? 0
  return n.inputs.every((v) => {
    const dims = constantOf(v)?.dims
    return !dims || !findOp(n)?.broadcasts || dims.every((d, i) => d === 1 || i === dims.length - rank + 1)
  })
}
