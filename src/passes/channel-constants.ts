/**
 * Which channels are the same number whatever goes in, and which number: those of layers whose weights for them are all
 * zero (masked), and what is made of such channels alone. That they are constant follows from the graph; the number, and
 * that borders do not break it (padded average pools), is seen by running the model.
 */
import type { Node, Value } from '../graph/graph.ts'
import { padsInput } from '../graph/sliding-window.ts'
import type { Tensor } from '../graph/tensor.ts'
import { findOp, layerSlot } from '../ops/index.ts'
import { type ChannelSlots, featuresOf, flowOf, isDepthwise } from './channel-slots.ts'
import { constantOf } from './constant-of.ts'

/** Input channels that an output channel is made of, and the weights' sums over kernel positions. */
export interface LayerRows {
  /** sums[o][i] over kernel positions; NaN-free. */
  readonly sums: readonly Float64Array[]
  /** used[o][i]: some weight is not zero. */
  readonly used: readonly Uint8Array[]
}

export class ChannelConstants {
  readonly #constant = new Map<Value, readonly boolean[]>()
  readonly #seen: Readonly<Record<string, Tensor>>
  readonly #slots: ChannelSlots

  /** `seen`: values and weight operands by name, as `probe` gives them. */
  constructor(nodes: Iterable<Node>, slots: ChannelSlots, seen: Readonly<Record<string, Tensor>>) {
    this.#slots = slots
    this.#seen = seen
    for (const n of nodes) {
      const width = slots.of(n.outputs[0])?.length
      if (width === undefined) continue
      const proven = this.#prove(n, width)
      const y = n.output
      this.#constant.set(
        y,
        proven.map((p, c) => p && this.#steady(y, c)),
      )
    }
  }

  /** The number that a channel always is; null where it varies, or is not known. */
  of(v: Value, channel: number): number | null {
    if (!this.#constant.get(v)?.[channel]) return null
    return this.#range(v, channel)?.[0] ?? null
  }

  rows(n: Node): LayerRows {
    const slot = layerSlot(n)!
    const operand = n.input(slot.input)
    const w = operand.constant ?? this.#seen[operand.name]!
    const values = w.toFloat32()
    const [outAxis, inAxis] = [slot.outputAxis(n), slot.inputAxis(n)]
    const stride = (axis: number): number => w.dims.slice(axis + 1).reduce((a, b) => a * b, 1)
    const [outs, ins, so, si] = [w.dims[outAxis]!, w.dims[inAxis]!, stride(outAxis), stride(inAxis)]
    const sums = Array.from({ length: outs }, () => new Float64Array(ins))
    const used = Array.from({ length: outs }, () => new Uint8Array(ins))
    const alpha = n.op === 'Gemm' ? n.float('alpha', 1) : 1
    for (let e = 0; e < values.length; e++) {
      const [o, i] = [Math.floor(e / so) % outs, Math.floor(e / si) % ins]
      sums[o]![i]! += alpha * values[e]!
      if (values[e] !== 0) used[o]![i] = 1
    }
    return { sums, used }
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
      return n.int('group', 1) > 1 ? all(() => false) : all((o) => used[o]!.every((u, i) => u === 0 || fixed(i)))
    }
    const flow = flowOf(n)
    const whole = (v: Value): readonly boolean[] => this.#constant.get(v) ?? []
    if (flow === 'joined')
      return featuresOf(n).flatMap((v) => (this.#slots.of(v) ?? []).map((_, c) => whole(v)[c] ?? false))
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

  /** Integers between two halves of a quantiser are not looked at. */
  #steady(v: Value, channel: number): boolean {
    const range = this.#range(v, channel)
    return range === null || range[1] - range[0] <= 1e-6 * Math.max(1, Math.abs(range[1]))
  }

  #range(v: Value, channel: number): readonly [number, number] | null {
    const t = this.#seen[v.name]
    if (!t) return null
    const values = t.toFloat32()
    const inner = t.dims.slice(2).reduce((a, b) => a * b, 1)
    const width = t.dims[1]!
    let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
    for (let at = channel * inner; at < values.length; at += width * inner)
      for (let i = at; i < at + inner; i++) {
        least = Math.min(least, values[i]!)
        most = Math.max(most, values[i]!)
      }
    return [least, most]
  }
}

/** Whether a constant input channel looks different at the borders of a layer's output. */
export function pads(n: Node): boolean {
  if (n.op === 'ConvTranspose') return true
  return padsInput(n)
}

/** Constants beside feature maps do not differ between positions. */
function uniform(n: Node): boolean {
  const rank = n.output.type?.dims?.length ?? 0
  return n.inputs.every((v) => {
    const dims = constantOf(v)?.dims
    return !dims || !findOp(n)?.broadcasts || dims.every((d, i) => d === 1 || i === dims.length - rank + 1)
  })
}
