/** Removes the channels of a decision from an upgraded model, node by node. */
import { type Kept, shrinkConstants, shrinkLayer } from '../../channels/shrink-nodes.ts'
import type { Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { weightLayers } from '../../layers/layers.ts'
import type { ChannelDecision } from './channel-decision.ts'

export function shrinkModel(model: Model, { plan, slots, lifted }: ChannelDecision): void {
  const { graph } = lifted
  const twin = (v: Value | null | undefined): Value | undefined => (v ? graph.find(v.name) : undefined)
  const layers = new Map(weightLayers(model.graph).flatMap((l) => l.users.map((n) => [n, l] as const)))
  const todo = [...model.graph.nodes()].map((n) => {
    const other = twin(n.outputs[0])
    const made = other?.producer
    const kept: Kept = {
      ...{ inputs: plan.keep(twin(n.inputs[0])), outputs: plan.keep(other) },
      ...{ shift: (made && plan.shifts.get(made)) ?? null, merge: (made && plan.merges.get(made)) ?? null },
    }
    const isLayer = made !== undefined && made !== null && slots.layers.has(made)
    const fixed = isLayer && slots.whyFixed(made) !== null
    return { n, kept, isLayer, fixed, width: slots.of(other)?.length ?? 0, rank: other?.type?.dims?.length ?? 0 }
  })
  for (const { n, kept, isLayer, fixed, width, rank } of todo) {
    if (isLayer) {
      if (!fixed) shrinkLayer(n, layers.get(n)!, kept)
    } else if (kept.outputs && width > kept.outputs.length) shrinkConstants(n, { width, rank, keep: kept.outputs })
  }
  for (const v of model.graph.values()) {
    const other = twin(v)
    const keep = v.producer && !v.isOutput ? plan.keep(other) : null
    if (keep && keep.length < slots.of(other)!.length) v.setType(null)
  }
}
