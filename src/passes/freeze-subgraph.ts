/**
 * Freezes parts of a model: `mnc.frozen=true` on nodes and on their initializers. Training does not change a frozen
 * initializer, keeps a frozen BatchNormalization in inference mode, and builds no backward graph for frozen nodes.
 *
 * A node is chosen by name, output or initializer name (globs), by op type, or by `--all-but`: everything except the
 * nodes named. All initializers that only chosen nodes read are frozen. A chosen node is itself marked only where
 * nothing trainable lies before it: elsewhere the gradient still has to pass through it to what is trained.
 */
import { usageError } from '../errors.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { type OptionsOf, optionTable } from '../options.ts'
import { definePass, type PassContext } from './define-pass.ts'
import { type Named, selectNamed } from './select.ts'

export const FROZEN_KEY = 'mnc.frozen'

/** Whether a node or value carries the mark. */
export const isFrozen = (x: Node | Value): boolean => x.metadata.get(FROZEN_KEY) === 'true'

const options = optionTable({
  names: { type: 'strings', description: 'Freeze nodes by node, output or weight name (globs)', placeholder: 'NAMES' },
  ops: { type: 'strings', description: 'Freeze nodes of these operator types', placeholder: 'OPS' },
  allBut: { type: 'strings', description: 'Freeze everything except these (globs)', placeholder: 'NAMES' },
})

interface Candidate extends Named {
  readonly node: Node
}

function candidates(graph: Graph): Candidate[] {
  return [...graph.nodes()].map((node) => {
    const values = [...node.outputs, ...node.inputs.filter((v) => v?.stored || v?.producer?.op === 'Constant')]
    return { node, names: [node.name, ...values.map((v) => v?.name ?? '')].filter((n) => n !== '') }
  })
}

function choose(graph: Graph, o: OptionsOf<typeof options>): Set<Node> {
  const all = candidates(graph)
  const chosen = new Set<Node>()
  if (o.allBut) {
    const free = selectNamed(o.allBut, all, 'node')
    for (const c of all) if (!free.has(c)) chosen.add(c.node)
  }
  if (o.names) for (const c of selectNamed(o.names, all, 'node')) chosen.add(c.node)
  for (const op of o.ops ?? []) {
    const hits = all.filter((c) => c.node.op === op)
    if (hits.length === 0) throw usageError(`the model has no ${op} nodes`)
    for (const c of hits) chosen.add(c.node)
  }
  return chosen
}

function mark(x: Node | Value): boolean {
  if (isFrozen(x)) return false
  x.metadata.set(FROZEN_KEY, 'true')
  return true
}

function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): boolean {
  const { graph } = model
  const chosen = choose(graph, o)
  let changed = false
  for (const v of graph.stored()) {
    if (![...v.uses].some((n) => chosen.has(n))) continue
    const other = [...v.uses].find((n) => !chosen.has(n) && !isFrozen(n))
    if (other) ctx.decline(v.name, `it is also read by ${other.label}, which is not frozen`)
    else if (mark(v)) changed = true
  }
  const trainable = new Set<Value>()
  for (const n of graph.nodes()) {
    const behind = n.inputs.some((v) => v && (trainable.has(v) || isTrainable(v)))
    if (behind) for (const v of n.outputs) if (v) trainable.add(v)
    if (!chosen.has(n)) continue
    if (behind) ctx.decline(n.id, 'only its weights are frozen: what lies before it is trained')
    else if (mark(n)) changed = true
  }
  return changed
}

const isTrainable = (v: Value): boolean => v.stored?.type.includes('float') === true && !isFrozen(v)

export const freezeSubgraph = definePass({
  name: 'freeze-subgraph',
  alias: 'freeze',
  summary: 'Mark nodes and weights that training must leave alone',
  options,
  preserves: 'numerics',
  requires(_model, o) {
    if (!o.names?.length && !o.ops?.length && !o.allBut?.length)
      throw usageError('freeze needs --names, --ops or --all-but')
  },
  run,
})
