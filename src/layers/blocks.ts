/**
 * The blocks of a network: parts that one value enters and one value leaves. A value is a cut where everything computed behind
 * it from the model's inputs is computed from it alone: walking the nodes in graph order, it is then the only computed value
 * that nodes behind still read. Whatever order the nodes are in, the cuts are the same: of what is beside a cut, nothing could
 * come later and be read.
 *
 * Between two neighbouring cuts lies what cannot be taken apart: a residual branch and its sum, a gate with what it is
 * computed from and what it multiplies, an attention. What has no layer belongs to the layers before it, quantisers to those
 * behind. Parts with fewer than `least` layers are joined with those that follow.
 *
 * A network without cuts is one block. Outputs of the model on the way are outputs of their block.
 */
import type { Graph, Node, Value } from '../graph/graph.ts'
import { constantValues } from './constants.ts'
import { quantPairOf } from './quant-pair.ts'

export interface Block {
  /** In graph order, without those that compute constants. */
  readonly nodes: readonly Node[]
  /** What it is computed from: one value, or the inputs of the model. */
  readonly entries: readonly Value[]
  /** What it gives: what is read behind it, and the model's outputs in it. */
  readonly exits: readonly Value[]
}

/** Blocks in graph order. `isLayer`: nodes that count. */
export function blocksOf(graph: Graph, isLayer: (n: Node) => boolean, least = 1): Block[] {
  const parts = partsOf(graph)
  const blocks: Block[] = []
  let open: Part[] = []
  const layersIn = (list: readonly Part[]): number => list.reduce((n, p) => n + p.nodes.filter(isLayer).length, 0)
  const close = (): void => {
    const nodes = open.flatMap((p) => p.nodes)
    const given = new Set(nodes.flatMap((n) => n.outputs))
    const left = open.at(-1)!.left
    const exits = [...left, ...graph.outputs.filter((v) => !left.includes(v))].filter((v) => given.has(v))
    blocks.push({ nodes, entries: open[0]!.entries, exits })
    open = []
  }
  for (const part of parts) {
    if (layersIn(open) >= least && layersIn([part]) > 0) close()
    open.push(part)
  }
  if (open.length === 0) return blocks
  const last = blocks.at(-1)
  // too few layers at the end are no block of their own
  if (last && layersIn(open) === 0) {
    blocks.pop()
    open.unshift({ nodes: last.nodes, entries: last.entries, left: [] })
  }
  close()
  return blocks
}

/** From one cut to the next. */
interface Part {
  readonly nodes: readonly Node[]
  readonly entries: readonly Value[]
  /** What nodes behind read. */
  readonly left: readonly Value[]
}

function partsOf(graph: Graph): Part[] {
  const constant = constantValues(graph)
  const computed = (v: Value | null): v is Value => v !== null && !constant.has(v)
  const order = new Map([...graph.nodes()].map((n, i) => [n, i]))
  const last = (v: Value): number => Math.max(-1, ...Array.from(v.uses, (n) => order.get(outermost(n, graph)) ?? -1))
  const isQuantiser = quantiserValues(graph)
  const fed = graph.inputs.filter((v) => computed(v) && v.isUsed)
  const live = new Map<Value, number>(fed.map((v) => [v, last(v)]))
  const parts: Part[] = []
  let [nodes, entries]: [Node[], readonly Value[]] = [[], fed]
  for (const [n, at] of order) {
    if (!n.outputs.some(computed)) continue
    nodes.push(n)
    for (const v of n.outputs) if (computed(v)) live.set(v, last(v))
    for (const [v, until] of live) if (until <= at) live.delete(v)
    const left = [...live.keys()]
    if (left.length !== 1 || isQuantiser.has(left[0]!)) continue
    parts.push({ nodes, entries, left })
    ;[nodes, entries] = [[], left]
  }
  return nodes.length > 0 ? [...parts, { nodes, entries, left: [] }] : parts
}

/** The node of `graph` itself in whose body this one is. */
function outermost(node: Node, graph: Graph): Node {
  if (node.graph === graph) return node
  for (const n of graph.nodes()) if (n.subgraphs.some((g) => [...g.allNodes()].includes(node))) return n
  return node
}

/** What quantisers compute on their way and give. */
function quantiserValues(graph: Graph): Set<Value> {
  const pairs = [...graph.nodes()].flatMap((n) => quantPairOf(n) ?? [])
  return new Set(pairs.flatMap((p) => p.nodes.flatMap((n) => n.outputs.filter((v) => v !== null))))
}
