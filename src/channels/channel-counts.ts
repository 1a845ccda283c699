/**
 * Which values depend on how many channels other values have: Shape, and what is computed from it. Entries of a shape are
 * distinguished as long as they are only picked out of it (`OpDef.picks`); everything else depends on all that it is
 * computed from.
 */
import type { Node, Value } from '../graph/graph.ts'
import { findOp } from '../ops/index.ts'

type Counted = readonly Value[]

export class ChannelCounts {
  /** By entry; a list of one where entries are not told apart. */
  readonly #of = new Map<Value, readonly Counted[]>()

  /** The values whose channels `v` counts. */
  of(v: Value): Counted {
    return this.#of.get(v)?.flat() ?? []
  }

  /** `rank` of input 0 where `node` gives its shape: its channels are counted. False for a node that looks at more. */
  measure(node: Node, rank: number | undefined): boolean {
    const def = findOp(node)
    if (!def?.ofShape) return false
    const counted = [node.input(0)]
    const entries = rank === undefined ? null : def.picks?.(node, rank)
    this.#of.set(node.output, entries ? entries.map((i) => (i === 1 ? counted : [])) : [counted])
    return true
  }

  /** A node whose inputs have no channels: its outputs count what they count. */
  pass(node: Node, inputs: Iterable<Value>): void {
    const list = node.inputs[0] && this.#of.get(node.inputs[0])
    const entries = list && list.length > 1 ? findOp(node)?.picks?.(node, list.length) : null
    const picked = entries?.map((i) => list![i] ?? [])
    const all = [...new Set([...inputs].flatMap((v) => this.of(v)))]
    if (picked?.length) this.#of.set(node.output, picked)
    else if (all.length > 0) for (const v of node.outputs) if (v) this.#of.set(v, [all])
  }
}
