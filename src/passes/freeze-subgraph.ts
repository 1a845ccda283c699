/**
 * Freezes parts of a model: `mnc.frozen=true` on nodes and on their initializers. Training does not change a frozen
 * initializer, keeps a frozen BatchNormalization in inference mode, and builds no backward graph for frozen nodes.
 *
 * A node is chosen by name, output or initializer name (globs), by op type, or by `--all-but`: everything except the
 * nodes named. Along with a layer are frozen the mask, quantisers and other nodes on the way to its weight, and the quantiser of an input
 * that only such nodes read. All initializers that only chosen nodes read are frozen. A chosen node is itself marked only where
 * nothing trainable lies before it: otherwise the gradient still has to pass through it to what is trained.
 */

import { usageError } from '../base/errors.ts'
import { type OptionsOf, optionTable } from '../base/options.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { layerOptions } from '../layers/layer-options.ts'
import { ACTIVATION_QUANT } from '../layers/layers.ts'
import { QUANT_GUARD } from '../layers/quant-pair.ts'
import { type Named, selectNamed } from '../layers/select.ts'
import { isConstantNode } from '../ops/facts.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { QUANT_SCALE } from '../quant/quant-nodes.ts'

const options = optionTable({
  names: { type: 'strings', description: 'Freeze nodes by node, output or weight name (globs)', placeholder: 'NAMES' },
  ops: {
    type: 'strings',
    placeholder: 'OPS',
    suggestions: layerOptions.ops.suggestions,
    description: 'Freeze nodes of these operator types',
  },
  allBut: { type: 'strings', description: 'Freeze everything except these (globs)', placeholder: 'NAMES' },
})

interface Candidate extends Named {
  readonly node: Node
}

function candidates(graph: Graph): Candidate[] {
  return [...graph.nodes()].map((node) => {
    const values = [
      ...node.outputs,
      ...node.inputs.filter((v) => v?.stored || (v?.producer && isConstantNode(v.producer))),
    ]
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
  const byOp = all.map(({ node }) => ({ names: [node.op], node }))
  for (const c of selectNamed(o.ops ?? [], byOp, 'operator')) chosen.add(c.node)
  return chosen
}

/** Adds what only serves chosen nodes: what computes their weights from constants, and quantisers of ours before them. */
function addServants(graph: Graph, chosen: Set<Node>): void {
  const constant = new Set<Value>()
  for (const n of graph.nodes())
    if (n.inputs.every((v) => !v || v.constant || constant.has(v))) for (const v of n.outputs) if (v) constant.add(v)
  for (const n of graph.nodesReversed()) {
    const readers = n.outputs.flatMap((v) => [...(v?.uses ?? [])])
    if (readers.length === 0 || n.outputs.some((v) => v?.isOutput) || !readers.every((r) => chosen.has(r))) continue
    const role = marks.role.get(n)
    const isQuantiser = role === ACTIVATION_QUANT || role === QUANT_GUARD
    if (isQuantiser || n.outputs.every((v) => !v || constant.has(v))) chosen.add(n)
  }
}

function mark(x: Node | Value): boolean {
  if (marks.frozen.is(x)) return false
  marks.frozen.put(x)
  return true
}

function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): boolean {
  const { graph } = model
  const chosen = choose(graph, o)
  addServants(graph, chosen)
  let changed = false
  for (const v of graph.stored()) {
    if (![...v.uses].some((n) => chosen.has(n))) continue
    const other = [...v.uses].find((n) => !chosen.has(n) && !marks.frozen.is(n))
    if (other) ctx.decline(v.name, `it is also read by ${other.label}, which is not frozen`)
    else if (mark(v)) changed = true
  }
  const trainable = new Set<Value>()
  for (const n of graph.nodes()) {
    const behind = n.inputs.some((v) => v && (trainable.has(v) || isTrainable(v)))
    if (behind) for (const v of n.outputs) if (v) trainable.add(v)
    if (!chosen.has(n)) continue
    if (behind) ctx.decline(n.id, 'only its weights are frozen: what comes before it is trained')
    else if (mark(n)) changed = true
  }
  return changed
}

/** A quantiser's step alone is nothing to build a backward graph for. */
const isTrainable = (v: Value): boolean =>
  v.stored?.type.includes('float') === true && !marks.frozen.is(v) && marks.role.get(v) !== QUANT_SCALE

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
