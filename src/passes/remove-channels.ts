/**
 * Takes out channels that say nothing: whole output channels that `prune --pattern channel` (or anything else) made zero
 * leave their layer, everything they go through (BatchNormalization, activations, pools, Concat, Add, depthwise
 * convolutions, flattening), and the layers that read them, which become smaller and quicker in any runtime. The model
 * computes what it computed: constants that such channels amount to go into biases, or are carried by one channel that
 * stays (channel-plan.ts); outputs on random inputs are compared before and after.
 *
 * A channel stays, and `--explain` says why, where others that it belongs together with are in use (the other side of an
 * Add), where an operator does not keep channels apart (Pad or Slice over channels, Transpose, grouped convolutions), where
 * a weight is shared, and where it is an input or output of the model. Lifts the model to opset 21 where it removes
 * anything. Does not apply to models with inputs of open height or width.
 */
import { bugError } from '../errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { WORKING_OPSET } from '../ops/define-op.ts'
import { parseOptions } from '../options.ts'
import { inferTypes } from '../runtime/infer-types.ts'
import { ChannelConstants } from './channel-constants.ts'
import { type ChannelPlan, planChannels } from './channel-plan.ts'
import { ChannelSlots, isDepthwise } from './channel-slots.ts'
import { definePass, type PassContext } from './define-pass.ts'
import { finiteOptions } from './finite-options.ts'
import { foldConstants } from './fold-constants.ts'
import { inlineFunctions } from './inline-functions.ts'
import { weightLayers } from './layers.ts'
import { probe } from './probe.ts'
import { type Kept, shrinkConstants, shrinkLayer } from './shrink-nodes.ts'
import { upgradeModelTo } from './upgrade-opset.ts'

/** Samples that shapes are inferred for. */
const BATCH = 2
/** Outputs may differ by float rounding: sums have other terms and another order. */
const ROUNDING = 1e-3

interface Decision {
  readonly plan: ChannelPlan
  readonly slots: ChannelSlots
  /** What the model's value is called here too. */
  readonly graph: Graph
}

/** Decides on a copy whose shapes are all known: lifted, for batches of one size. */
async function decide(model: Model): Promise<Decision> {
  const trial = cloneModel(model)
  await lift(trial)
  const { graph } = trial
  for (const v of graph.fed)
    if (v.type?.dims)
      v.setType({ elem: v.type.elem, dims: v.type.dims.map((d, i) => (i === 0 && typeof d !== 'number' ? BATCH : d)) })
  await inferTypes(trial)
  const nodes = [...graph.nodes()]
  const floats = nodes.flatMap((n) => n.outputs.filter((v): v is Value => v?.type?.elem === 'float32'))
  const seen = await probe(trial, floats)
  for (const v of floats) v.setType({ elem: 'float32', dims: seen[v.name]!.dims })
  const slots = new ChannelSlots(graph, (v) => v.constant?.dims ?? v.type?.dims ?? null)
  return { graph, slots, plan: planChannels(nodes, slots, new ChannelConstants(nodes, slots, seen)) }
}

async function run(model: Model, _o: unknown, ctx: PassContext): Promise<boolean> {
  const decision = await decide(model)
  for (const { layer, reason } of decision.plan.stays) ctx.decline(layer, reason)
  if (decision.plan.removed === 0) return false
  // tried on a copy: where it goes wrong the caller's model stays as it was
  const trial = cloneModel(model)
  await lift(trial)
  shrink(trial, decision)
  await compare(trial, await probe(model, model.graph.outputs))
  await lift(model)
  shrink(model, decision)
  return true
}

/** What exporters compute of constants (the pads of a Pad, the axes of a Resize) is then known. */
async function lift(model: Model): Promise<void> {
  inlineFunctions(model)
  if (model.opset < WORKING_OPSET) upgradeModelTo(model, WORKING_OPSET)
  const quiet: PassContext = { decline() {}, log() {}, seed: 0 }
  await foldConstants.run(model, parseOptions(foldConstants.options, {}, foldConstants.name), quiet)
}

function shrink(model: Model, { plan, slots, graph }: Decision): void {
  const twin = (v: Value | null | undefined): Value | undefined => (v ? graph.find(v.name) : undefined)
  const layers = new Map(weightLayers(model.graph).flatMap((l) => l.users.map((n) => [n, l] as const)))
  const todo = [...model.graph.nodes()].map((n) => {
    const other = twin(n.outputs[0])
    const made = other?.producer
    const kept: Kept = {
      ...{ inputs: plan.keep(twin(n.inputs[0])), outputs: plan.keep(other) },
      ...{ shift: (made && plan.shifts.get(made)) ?? null, merge: (made && plan.merges.get(made)) ?? null },
    }
    return { n, kept, width: slots.of(other)?.length ?? 0, rank: other?.type?.dims?.length ?? 0 }
  })
  for (const { n, kept, width, rank } of todo) {
    const layer = layers.get(n)
    const grouped = layer && n.int('group', 1) > 1 && !isDepthwise(n, layer)
    if (layer && !grouped && layer.users.length === 1) shrinkLayer(n, layer, kept)
    else if (!layer && kept.outputs && width > 0) shrinkConstants(n, { width, rank, keep: kept.outputs })
  }
  for (const v of model.graph.values()) {
    const keep = v.producer && !v.isOutput ? plan.keep(twin(v)) : null
    if (keep) v.setType(null)
  }
}

async function compare(model: Model, before: Readonly<Record<string, Tensor>>): Promise<void> {
  const after = await probe(model, model.graph.outputs)
  for (const [name, want] of Object.entries(before)) {
    const [a, b] = [want.toNumbers(), after[name]!.toNumbers()]
    let [largest, error] = [0, a.length === b.length ? 0 : Number.POSITIVE_INFINITY]
    for (let i = 0; i < a.length; i++) {
      largest = Math.max(largest, Math.abs(a[i]!))
      error = Math.max(error, Math.abs(a[i]! - b[i]!))
    }
    if (!(error <= ROUNDING * Math.max(largest, 1e-6)))
      throw bugError(`removing channels changed '${name}' by ${error} of ${largest}`)
  }
}

export const removeChannels = definePass({
  name: 'remove-channels',
  summary: 'Take out channels whose weights are all zero: smaller layers, the same outputs',
  options: finiteOptions,
  preserves: 'numerics',
  bakes: true,
  run,
})
