/**
 * What each node of a step is for, said in its metadata (graph/hints.ts) where the step is to be profiled: a kind of work, by the
 * stage that makes the node, and a layer: the operator with weights that it belongs to, with all that follows up to the
 * next. What makes a layer's weights (masks, quantisers) belongs to it, and so do their gradients. Nodes that later stages and
 * lowerings put in another's place are for what they are next to (graph/hints.ts).
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { originOf, setOrigin, spreadOrigins } from '../../graph/hints.ts'
import { isQuantizer } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'
import type { Stage } from '../../pass-manager/stages.ts'
import type { StepBuilding } from './step-building.ts'

export const stepKinds = [
  ...['forward', 'input gradient', 'weight gradient', 'quantisers', 'teacher', 'loss', 'update'],
] as const
export type StepKind = (typeof stepKinds)[number]

/** Of the nodes that a stage adds. */
const kindOfStage: Readonly<Record<string, StepKind>> = {
  'lower-quantisers': 'quantisers',
  'join-teacher': 'teacher',
  'emit-loss': 'loss',
  'join-gradients': 'update',
  'emit-update': 'update',
  'emit-statistics': 'update',
  'give-gradient': 'update',
}
/** The last one before nodes are copied for tiles. */
const WHOLE = 'flatten-parameters'

export function withOrigins(stage: Stage<StepBuilding>): Stage<StepBuilding> {
  const kind = kindOfStage[stage.name]
  return {
    name: stage.name,
    async run(step) {
      await stage.run(step)
      if (!kind) spreadOrigins(step.graph)
      for (const n of step.graph.nodes()) if (!originOf(n)) setOrigin(n, { kind: kind ?? kindOf(n), layer: '' })
      if (stage.name === WHOLE) nameLayers(step)
    },
  }
}

/** Of the network's own nodes. What a quantiser is lowered to takes its origin. */
const kindOf = (n: Node): StepKind => (isQuantizer(n) ? 'quantisers' : 'forward')

function nameLayers({ graph, input }: StepBuilding): void {
  const data = computedFrom(graph, [input])
  const layers = new Map<Node, { readonly name: string; readonly at: number }>()
  const nodes = [...graph.nodes()]
  for (const [at, n] of nodes.entries()) {
    if (!reads(n, data)) continue
    const before = n.inputs.flatMap((v) => (v?.producer && layers.get(v.producer)) || [])
    const last = findOp(n)?.weights ? { name: n.name, at } : before.sort((a, b) => b.at - a.at)[0]
    if (last) layers.set(n, last)
  }
  for (const n of nodes.reverse()) {
    if (reads(n, data)) continue
    const readers = n.outputs.flatMap((v) => [...(v?.uses ?? [])])
    const first = readers.flatMap((r) => layers.get(r) ?? []).sort((a, b) => a.at - b.at)[0]
    if (first) layers.set(n, first)
  }
  for (const [n, { name }] of layers) setOrigin(n, { kind: originOf(n)!.kind, layer: name })
}

/** For `differentiate`: the nodes that it has made for a node of the forward pass. */
export function originsOfGradients({
  graph,
  input,
}: StepBuilding): (node: Node, of: readonly (Value | null)[]) => void {
  const data = computedFrom(graph, [input])
  return (node, gradients) => {
    const { kind, layer } = originOf(node)!
    const own = kind === 'forward' ? null : kind
    const mark = (v: Value | null | undefined, as: StepKind): void => {
      const made = v?.producer
      if (!made || originOf(made)) return
      setOrigin(made, { kind: own ?? as, layer })
      for (const x of made.inputs) mark(x, as)
    }
    const isData = (i: number): boolean => data.has(node.inputs[i]!)
    gradients.forEach((g, i) => void (g && isData(i) && mark(g, 'input gradient')))
    gradients.forEach((g, i) => void (g && !isData(i) && mark(g, 'weight gradient')))
  }
}

const reads = (n: Node, values: ReadonlySet<Value>): boolean => n.inputs.some((v) => v !== null && values.has(v))

function computedFrom(graph: Graph, roots: readonly Value[]): Set<Value> {
  const found = new Set(roots)
  for (const n of graph.nodes()) if (reads(n, found)) for (const v of n.outputs) if (v) found.add(v)
  return found
}
