/**
 * Takes out channels that say nothing: whole output channels that `prune --pattern channel` (or anything else) made zero
 * leave their layer, everything they go through (BatchNormalization, activations, pools, Concat, Add, depthwise
 * convolutions, flattening), and the layers that read them, which become smaller and quicker in any runtime. The model
 * computes what it computed: constants that such channels amount to go into biases, or are carried by one channel that
 * stays (channel-plan.ts); each smaller node is compared with what it was, on random inputs (channel-check.ts).
 *
 * A channel stays, and `--explain` says why, where others that it belongs together with are in use (the other side of an
 * Add), where an operator does not keep channels apart (Pad or Slice over channels, Transpose, grouped convolutions,
 * products of more than matrices), where a weight is shared or handed out, where a body reads it, where arithmetic
 * depends on the number of channels, and where it is an input or output of the model. Lifts the model to opset 21 where
 * it removes anything. Does not apply to models that random inputs do not run.
 */
import { modelError } from '../errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { checkChannels } from './channel-check.ts'
import { decideChannels, liftModel } from './channel-decision.ts'
import { channelSamples } from './channel-samples.ts'
import { definePass, type PassContext } from './define-pass.ts'
import { finiteOptions } from './finite-options.ts'
<<<<<<< HEAD
import { type Named, probe } from './probe.ts'
import { shrinkModel } from './shrink-model.ts'
=======
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
>>>>>>> ba388a6 (What is constant is one field: inputs with a default are made constant in one warning, IR 3 files list new initializers, declared outputs, sparse tensors and both declarations of a passed-through value survive)

/** What goes can make more channels constant, or a depthwise convolution an ordinary one: again, until nothing goes. */
async function run(model: Model, _o: unknown, ctx: PassContext): Promise<boolean> {
  const samples = await channelSamples(model)
  const reasons = new Map<string, string>()
  for (let changed = false; ; changed = true) {
    const decision = await decideChannels(model, samples)
    const { removed, stays } = decision.plan
    // in the words of the first round, which counts the channels that there were
    for (const { layer, reason } of stays) if (!reasons.has(layer)) reasons.set(layer, reason)
    if (removed === 0) {
      for (const { layer } of stays) ctx.decline(layer, reasons.get(layer)!)
      return changed
    }
    // tried on a copy: where it goes wrong the caller's model stays as it was
    const trial = cloneModel(model)
    await liftModel(trial)
    shrinkModel(trial, decision)
    await checkChannels(trial, decision, samples.check)
    await compareShapes(model, trial, [samples.check, ...samples.others])
    await liftModel(model)
    shrinkModel(model, decision)
  }
}

/** The smaller model runs at other sizes too, and gives outputs of the same shapes. */
async function compareShapes(before: Model, after: Model, sets: readonly Named[]): Promise<void> {
  const [was, is] = [await probe(before, sets), await probe(after, sets)]
  for (const [i, outputs] of was.entries())
    for (const [name, t] of Object.entries(outputs))
      if (is[i]![name]?.dims.join() !== t.dims.join())
        throw modelError('channels-differ', `removing channels would change the shape of '${name}'`, {
          next: 'the model is left as it is',
        })
}

export const removeChannels = definePass({
  name: 'remove-channels',
  summary: 'Take out channels whose weights are all zero: smaller layers, the same outputs',
  options: finiteOptions,
  preserves: 'numerics',
  bakes: true,
  run,
})
