/**
 * Cuts a training step at its exchange points (graph/hints.ts) into graphs that run one after the other. A node's segment is
 * the number of exchanges on the longest way to it, so that all exchanges between two segments are made at once.
 *
 * Values that several segments read pass from one to the others. A node whose result takes no less room than what it alone
 * would keep until then (a ReLU's mask, a weight's quantiser) moves to the segment that first reads it.
 */
import { cloneNode, type ValueMap } from '../../graph/clone.ts'
import { Graph, type Node, type Value } from '../../graph/graph.ts'
import { isOverRanks } from '../../graph/hints.ts'
import { Model } from '../../graph/model.ts'
import { sizeInBytes } from '../../graph/types.ts'

export interface Segment {
  /** Its inputs are the step's and what earlier segments gave; its outputs the step's and what later ones and exchanges read. */
  readonly model: Model
  /** Values that are exchanged when it has run, before and after. */
  readonly exchanges: readonly { readonly from: Value; readonly to: Value }[]
  /** Values of the step that later segments or exchanges read, and the last segment that does. */
  readonly passed: ReadonlyMap<Value, number>
}

/** Needs types. */
export function cutAtExchanges(step: Model): Segment[] {
  const nodes = [...step.graph.nodes()]
  const readers = readersOf(nodes)
  const levels = levelsOf(nodes)
  sink(nodes, readers, levels)
  const count = 1 + Math.max(0, ...levels.values())
  return Array.from({ length: count }, (_, level) => {
    const at = nodes.filter((n) => levels.get(n) === level)
    const exchanged = at.filter(isOverRanks)
    const own = at.filter((n) => !isOverRanks(n))
    const passed = new Map<Value, number>()
    for (const v of own.flatMap((n) => n.outputs)) {
      const users = (v && readers.get(v)) ?? []
      const last = Math.max(-1, ...users.map((n) => levels.get(n)!))
      if (v && (last > level || users.some(isOverRanks))) passed.set(v, last)
    }
    const exchanges = exchanged.map((n) => ({ from: n.input(0), to: n.output }))
    return { model: segmentOf(step, own, passed), exchanges, passed }
  })
}

/** What a node reads, in its own inputs or in its bodies'. */
function readsOf(n: Node): Value[] {
  const inner = n.subgraphs.flatMap((g) => [...g.outputs, ...[...g.nodes()].flatMap(readsOf)])
  return [...n.inputs.filter((v) => v !== null), ...inner]
}

function readersOf(nodes: readonly Node[]): Map<Value, Node[]> {
  const readers = new Map<Value, Node[]>()
  for (const n of nodes)
    for (const v of new Set(readsOf(n))) {
      const known = readers.get(v)
      if (known) known.push(n)
      else readers.set(v, [n])
    }
  return readers
}

/** The segment that a node runs in; of an exchange, the one before it. */
type Levels = Map<Node, number>

function levelsOf(nodes: readonly Node[]): Levels {
  const levels: Levels = new Map()
  const behind = (p: Node): number => levels.get(p)! + (isOverRanks(p) ? 1 : 0)
  for (const n of nodes)
    levels.set(
      n,
      Math.max(0, ...readsOf(n).map(({ producer }) => (producer && levels.has(producer) ? behind(producer) : 0))),
    )
  return levels
}

function sink(nodes: readonly Node[], readers: ReadonlyMap<Value, readonly Node[]>, levels: Levels): void {
  for (const n of nodes.toReversed()) {
    const given = n.outputs.filter((v) => v !== null)
    const users = given.flatMap((v) => readers.get(v) ?? [])
    if (isOverRanks(n) || given.some((v) => v.isOutput) || users.length === 0) continue
    const first = Math.min(...users.map((u) => levels.get(u)!))
    if (first <= levels.get(n)!) continue
    const kept = readsOf(n).filter(
      (v) => v.producer && levels.has(v.producer) && !readers.get(v)!.some((u) => u !== n && levels.get(u)! >= first),
    )
    if (bytesOf(kept) <= bytesOf(given)) levels.set(n, first)
  }
}

/** Infinity where a size is unknown. */
const bytesOf = (values: readonly Value[]): number =>
  [...new Set(values)].reduce((sum, v) => sum + (sizeInBytes(v.type) ?? Number.POSITIVE_INFINITY), 0)

function segmentOf(step: Model, nodes: readonly Node[], passed: ReadonlyMap<Value, number>): Model {
  const { graph: whole } = step
  const graph = new Graph(whole.name)
  const map: ValueMap = new Map()
  const own = new Set(nodes.flatMap((n) => n.outputs))
  for (const v of new Set(nodes.flatMap(readsOf))) {
    if (own.has(v) || v.graph !== whole) continue
    if (v.constant) map.set(v, graph.addInitializer(v.name, v.constant))
    else map.set(v, graph.addInput(v.name, v.type))
  }
  for (const n of nodes) cloneNode(n, graph, map)
  for (const v of own) if (v && (v.isOutput || passed.has(v))) graph.addOutput(map.get(v)!)
  const model = new Model(graph)
  model.irVersion = step.irVersion
  model.opsets.clear()
  for (const [domain, version] of step.opsets) model.opsets.set(domain, version)
  return model
}
