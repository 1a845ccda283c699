/**
 * What channels show when the model runs on random inputs: the least and the largest value of each, and the weights
 * that layers multiply with where these are computed (masked, dequantised). Measured inside the graph, so that feature
 * maps never leave the engine.
 */
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { channelSlot } from '../ops/index.ts'
import { type Named, probe } from '../samples/probe.ts'
import type { ChannelSlots } from './channel-slots.ts'

/** Least and largest value of a channel over samples and positions; NaN where some are not finite. */
export type Range = readonly [least: number, largest: number]

export interface ChannelStatistics {
  range(v: Value, channel: number): Range | null
  /** The constant that a layer multiplies with. */
  operand(v: Value): Tensor
}

/** `model` is the one whose values the slots are about. */
export async function channelStatistics(
  model: Model,
  slots: ChannelSlots,
  sets: readonly Named[],
): Promise<ChannelStatistics> {
  const copy = cloneModel(model)
  const { graph } = copy
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const twin = (v: Value): Value => graph.find(v.name)!
  const ranges = new Map<Value, readonly [least: string, largest: string]>()
  for (const v of slots.values()) {
    const rank = v.type?.dims?.length ?? 0
    if (v.producer && rank >= 2 && isFloat(v) && !v.type?.dims?.includes(0))
      ranges.set(v, measure(graph, twin(v), rank))
  }
  const operands = new Map<Value, string>()
  for (const n of slots.layers.keys()) {
    const w = n.input(channelSlot(n)!.input)
    if (!w.constant) operands.set(w, output(graph, wide(graph, twin(w))))
  }
  const seen = graph.outputs.length > 0 ? await probe(copy, sets) : []
  const rows = new Map([...ranges].map(([v, names]) => [v, names.map((n) => seen.map((s) => s[n]!.toNumbers()))]))
  return {
    range(v, channel) {
      const of = rows.get(v)
      if (!of) return null
      const [least, largest] = of.map((runs) => runs.map((values) => values[channel]!))
      return [Math.min(...least!), Math.max(...largest!)]
    },
    operand: (v) => v.constant ?? seen[0]![operands.get(v)!]!,
  }
}

const isFloat = (v: Value): boolean => /^float(16|32|64)$/.test(v.type?.elem ?? '')

/** float64 and float32 as they are; float16, for which there are few kernels, in float32. */
function wide(graph: Graph, v: Value): Value {
  const narrow = v.type?.elem === 'float16' || v.type?.elem === 'bfloat16'
  return graph.append().op(narrow ? 'Cast' : 'Identity', [v], narrow ? { to: elementTypes.float32.code } : {})
}

function output(graph: Graph, v: Value): string {
  graph.addOutput(v)
  return v.name
}

function measure(graph: Graph, value: Value, rank: number): readonly [string, string] {
  const b = graph.append()
  const x = wide(graph, value)
  const axes = b.ints(Array.from({ length: rank }, (_, i) => i).filter((i) => i !== 1))
  const zero = b.op('Sub', [x, x])
  // 0, or NaN where anything is not finite, which a minimum need not show
  const finite = b.op('ReduceSum', [zero, axes], { keepdims: 0 })
  const of = (op: string): string => output(graph, b.op('Add', [b.op(op, [x, axes], { keepdims: 0 }), finite]))
  return [of('ReduceMin'), of('ReduceMax')]
}
