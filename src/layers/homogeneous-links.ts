/**
 * Layers between which a positive factor per channel can be moved: a layer's output reaches other layers through nothing
 * but operators for which f(s x) = s f(x) (`OpDef.homogeneous`).
 */
import type { Node, Value } from '../graph/graph.ts'
import { channelSlot, findOp } from '../ops/index.ts'
import { biasedOutput, editableLayer, outputChannels } from './layer-algebra.ts'
import type { WeightLayer } from './layers.ts'

export interface LinkReader {
  readonly layer: WeightLayer
  /** How many consecutive inputs of it each channel became. */
  readonly run: number
}

export interface HomogeneousLink {
  readonly from: WeightLayer
  readonly channels: number
  readonly readers: readonly LinkReader[]
}

export interface LinkFacts {
  /** Layers by the nodes that use their weights. */
  readonly layers: ReadonlyMap<Node, WeightLayer>
  /** Dims as far as they are known. */
  dims(v: Value): readonly (number | string | null)[] | null
  /** The same node with inferred types. */
  typed(node: Node): Node
}

/** Input channels of a layer, of all groups. */
export const inputChannels = ({ node, tensor, inputAxis }: WeightLayer): number =>
  tensor.dims[inputAxis!]! * (channelSlot(node)?.transposed ? 1 : node.int('group', 1))

/** The link that begins at a layer, or why there is none. */
export function linkFrom(from: WeightLayer, facts: LinkFacts): HomogeneousLink | string {
  const own = editableLayer(from)
  if (own) return own
  const channels = outputChannels(from)
  const readers: LinkReader[] = []
  // of matrices of a higher rank the channels are the last axis, which operators on axis 1 do not keep
  const isRows = channelSlot(from.node)?.channels === 'rows' && facts.dims(from.node.output)?.length !== 2
  const follow = (v: Value, run: number): string | null => {
    if (v.isOutput) return `'${v.name}' is an output of the model`
    if (v.uses.size === 0) return `nothing reads '${v.name}'`
    for (const n of v.uses) {
      if (n.graph !== v.graph) return `a body of ${n.label} reads it`
      const layer = facts.layers.get(n)
      const why = layer ? readBy(layer, n, v, run) : through(n, v, run)
      if (why) return why
    }
    return null
  }
  const readBy = (layer: WeightLayer, n: Node, v: Value, run: number): string | null => {
    if (n.inputs.filter((x) => x === v).length > 1 || n.inputs.indexOf(v) !== layer.slot.data)
      return `${n.label} reads it as a parameter`
    const why = editableLayer(layer)
    if (why) return why
    if (layer.slot.transposesData?.(n)) return `${n.label} transposes its input`
    const last = layer.slot.channels === 'rows' && facts.dims(v)?.length !== 2
    if (last !== isRows || inputChannels(layer) !== channels * run)
      return `${n.label} does not read it channel by channel`
    readers.push({ layer, run })
    return null
  }
  const through = (n: Node, v: Value, run: number): string | null => {
    const kind = findOp(n)?.homogeneous?.(facts.typed(n)) ?? null
    const extra = n.outputs.slice(1).find((x) => x?.isUsed)
    if (!kind || extra || n.inputs.indexOf(v) !== 0 || n.inputs.lastIndexOf(v) !== 0) return `${n.label} reads it`
    if (kind === 'element') return follow(n.output, run)
    const flow = findOp(n)?.channels?.(facts.typed(n)) ?? null
    if (isRows || !flow) return `${n.label} does not keep channels apart`
    if (flow !== 'flattened') return follow(n.output, run)
    const [before, after] = [facts.dims(v), facts.dims(n.output)]
    const inner = before?.slice(2).reduce<number>((p, d) => p * (typeof d === 'number' ? d : Number.NaN), run)
    return inner && after?.length === 2 && after[1] === channels * inner
      ? follow(n.output, inner)
      : `${n.label} does not keep channels apart`
  }
  const why = follow(biasedOutput(from), 1)
  return why ?? { from, channels, readers }
}
