/**
 * Splits a graph's batch into tiles: every node that depends on the input is copied once per tile and works on its part
 * of the images; weights are shared, outputs are joined again. What runs between two BatchNormalizations then
 * works on arrays that fit the processor's caches: onnxruntime runs one operator at a time, and an elementwise kernel on
 * 3 MB takes about half the time per byte that it takes on 24 MB or more (bench/results/kernels.json).
 *
 * The results are the same as for the whole batch except for BatchNormalization's batch statistics, which the caller
 * takes over all tiles (batch-statistics.ts). Only the part of the graph with large activations is tiled (nodesToTile).
 * Does not apply where a node fixes the batch size or mixes images (then the shapes of a tile say so, and the batch stays
 * whole).
 */
import { cloneNode, type ValueMap } from '../../graph/clone.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { elementCount, isStatic } from '../../graph/types.ts'
import { rewire } from '../../layers/layers.ts'

/** Maps nodes of tile 0 to their copies in all tiles, themselves first. */
export type Tiles = ReadonlyMap<Node, readonly Node[]>

/**
 * Tiles the nodes of `chosen`, a set that holds every node on the way from the input to any of its members. `graph` must
 * have been typed with the batch of ONE tile (its input's first dim); afterwards the input has `tiles` times that, and
 * what leaves the tiled part is whole again. Types after it are for the caller to infer again. Returns null, the graph
 * unchanged, where a value that leaves does not start with the batch.
 */
export function tileBatch(graph: Graph, input: Value, tiles: number, chosen: ReadonlySet<Node>): Tiles | null {
  const batch = input.dims[0]!
  const nodes = [...chosen]
  const leaving = nodes.flatMap((n) => n.outputs.filter((v): v is Value => v !== null && leaves(v, chosen)))
  if (nodes.length === 0 || leaving.some((v) => v.type?.dims?.[0] !== batch)) return null

  const type = { elem: input.type!.elem, dims: [batch, ...input.dims.slice(1)] } as const
  const sizes = graph.prepend().ints(Array<number>(tiles).fill(batch))
  const parts = graph.prepend().ops('Split', [input, sizes], tiles, { axis: 0 }, { name: `${input.name}.tile` })
  for (const p of parts) p.setType(type)
  input.setType({ elem: type.elem, dims: [batch * tiles, ...type.dims.slice(1)] })
  for (const n of [...input.uses]) if (chosen.has(n)) rewire([n], input, parts[0]!)

  const copies = new Map<Node, Node[]>(nodes.map((n) => [n, [n]]))
  const pieces = new Map<Value, Value[]>(leaving.map((v) => [v, [v]]))
  for (let t = 1; t < tiles; t++) {
    const map: ValueMap = new Map([[parts[0]!, parts[t]!]])
    for (const n of nodes) copies.get(n)!.push(cloneNode(n, graph, map, (name) => graph.freshName(`${name}.tile${t}`)))
    for (const [v, list] of pieces) list.push(map.get(v)!)
  }
  for (const [v, list] of pieces) {
    const { dims, elem } = v.type!
    const whole = { elem, dims: [batch * tiles, ...dims!.slice(1)] }
    const joined = graph.append().op('Concat', list, { axis: 0 }, { name: `${v.name}.whole`, type: whole })
    for (const n of [...v.uses])
      if (!chosen.has(n) && n !== joined.producer && !isCopy(n, copies)) rewire([n], v, joined)
    if (graph.outputs.includes(v)) replaceOutput(graph, v, joined)
  }
  return copies
}

/** Whether anything but the chosen nodes reads a value of theirs. */
export const leaves = (v: Value, chosen: ReadonlySet<Node>): boolean =>
  v.isOutput || [...v.uses].some((n) => !chosen.has(n))

const isCopy = (n: Node, copies: Tiles): boolean => [...copies.values()].some((list) => list.includes(n))

/** Keeps the outputs' order. */
function replaceOutput(graph: Graph, from: Value, to: Value): void {
  const outputs = [...graph.outputs]
  for (const v of outputs) graph.removeOutput(v)
  for (const v of outputs) graph.addOutput(v === from ? to : v)
}

/**
 * The nodes to tile: those that touch an activation above `bytes` (float32, at the whole batch), and what lies before
 * them. Small activations further on stay whole: more nodes would cost more than the caches give.
 */
export function nodesToTile(graph: Graph, input: Value, batch: number, bytes: number): Set<Node> {
  const dependent = new Set<Value>([input])
  for (const n of graph.nodes())
    if (n.inputs.some((v) => v && dependent.has(v))) for (const v of n.outputs) if (v) dependent.add(v)
  const isLarge = (v: Value | null): boolean => {
    const dims = v && dependent.has(v) ? (v.type?.dims ?? null) : null
    return isStatic(dims) && dims[0] === batch && 4 * elementCount(dims) > bytes
  }
  const chosen = new Set<Node>()
  for (const n of [...graph.nodes()].reverse()) {
    if (!n.inputs.some((v) => v && dependent.has(v))) continue
    const before = n.outputs.some((v) => [...(v?.uses ?? [])].some((user) => chosen.has(user)))
    if (before || [...n.inputs, ...n.outputs].some(isLarge)) chosen.add(n)
  }
  return new Set([...graph.nodes()].filter((n) => chosen.has(n)))
}
