/**
 * Removes channels without effect: whole output channels that `prune --pattern channel` (or anything else) made zero
 * leave their layer, everything they go through (BatchNormalization, activations, pools, Concat, Add, depthwise
 * convolutions, flattening), and the layers that read them, which become smaller and faster in any runtime. The model
 * computes the same as before: constants that such channels amount to go into biases, or are carried by one channel that
 * stays (channel-plan.ts); each smaller node is compared with what it was, on random inputs (channel-check.ts).
 *
 * A channel stays, and `--explain` says why, where others that it is tied to are in use (the other side of an
 * Add), where an operator does not keep channels apart (Pad or Slice over channels, Transpose, grouped convolutions,
 * products of more than matrices), where a weight is shared or handed out, where a body reads it, where arithmetic
 * depends on the number of channels, and where it is an input or output of the model. Upgrades the model to opset 21 where
 * it removes anything. Does not apply to models that cannot be run on random inputs.
 */
import { modelError } from '../base/errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { NO_EMPTY_CHANNELS } from '../pass-manager/pass-order.ts'
import { type Named, probe } from '../samples/probe.ts'
import { checkChannels } from './remove-channels/channel-check.ts'
import { decideChannels, liftModel } from './remove-channels/channel-decision.ts'
import { channelSamples } from './remove-channels/channel-samples.ts'
import { shrinkModel } from './remove-channels/shrink-model.ts'

/** Removal can make more channels constant, or a depthwise convolution an ordinary one: repeated until nothing more is removed. */
async function run(model: Model, _o: unknown, ctx: PassContext): Promise<boolean> {
  const samples = await channelSamples(model)
  const reasons = new Map<string, string>()
  for (let changed = false; ; changed = true) {
    const decision = await decideChannels(model, samples)
    const { removed, stays } = decision.plan
    // with the reasons of the first round, which counts the original channels
    for (const { layer, reason } of stays) if (!reasons.has(layer)) reasons.set(layer, reason)
    if (removed === 0) {
      for (const { layer } of stays) ctx.decline(layer, reasons.get(layer)!)
      if (!changed && stays.length === 0) ctx.log(NO_EMPTY_CHANNELS)
      return changed
    }
    // tried on a copy: if it goes wrong, the caller's model stays as it was
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
  summary: 'Remove channels whose weights are all zero: smaller layers, the same outputs',
  options: finiteOptions,
  preserves: 'numerics',
  bakes: true,
  run,
})
