/**
 * Trains a quantised network block by block until each gives what it gives in the float network, without labels (BRECQ, Li et al. 2021,
 * arXiv:2102.05426). Blocks are parts that one value enters and one leaves (src/layers/blocks.ts), so residual branches and
 * gates stay whole. One after the other in graph order, each is trained
 *
 *   on      the inputs that it gets from those before it, already trained; number by number, with probability `--drop`, on those of the
 *           float network in place of them (QDrop, Wei et al. 2022, arXiv:2203.05740)
 *   for     what the block gives in the float network:  sum over exits of  mean w (y - t)^2 / var(t), with w how much the
 *           outputs depend on each number (importance.ts), or 1 (`--loss nmse`)
 *   by      Adam with a cosine schedule, of the weights or their rounding (learned-weight.ts), of the steps of inputs (LSQ,
 *           Esser et al. 2020), and of biases
 *
 * It begins with weights as `round-weights` leaves them (`--start nearest`: as the quantiser rounds them), which it runs itself: behind
 * that the float weights are gone. So it takes its place. A block stays as it began where training does not bring it nearer.
 *
 * Does not apply, and says so, to weights without a quantiser, stored as integers, on the grid already, or with several
 * steps for one output channel, and to blocks with a node that has no gradient. Weights that several blocks read stay as they are.
 */
import { type OptionsOf, optionTable, parseOptions } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { layerOptions } from '../layers/layer-options.ts'
import { asInitializer, type WeightLayer } from '../layers/layers.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { floatReference } from '../quant/bypass-quantisers.ts'
import { guardQuantisers } from '../quant/quant-guard.ts'
import { inlineFunctions } from './inline-functions.ts'
import { Reconstruction, trainable } from './reconstruct/reconstruction.ts'
import { isOnGrid, prunedOptions, quantisedLayers, rounds, roundWeights, whyNotRounded } from './round-weights.ts'

const options = optionTable({
  ...layerOptions,
  ops: { ...layerOptions.ops, default: ['*'] },
  steps: { type: 'integer', minimum: 1, default: 48, description: 'Steps for each block' },
  layers: {
    type: 'integer',
    minimum: 1,
    default: 4,
    description: 'Join neighbouring blocks until they have this many layers',
  },
  rounding: {
    type: 'string',
    enum: ['direct', 'adaround', 'keep'],
    default: 'direct',
    description: 'Train the weights, whether each is rounded up or down (AdaRound), or neither',
  },
  loss: {
    type: 'string',
    enum: ['fisher', 'nmse'],
    default: 'fisher',
    description: 'Numbers that a block gives count by how much the outputs depend on them, or all alike',
  },
  start: {
    type: 'string',
    enum: ['round-weights', 'nearest'],
    default: 'round-weights',
    description: 'Rounding to begin with',
  },
  ...prunedOptions,
  drop: {
    type: 'number',
    minimum: 0,
    maximum: 1,
    default: 0.5,
    description: 'Part of a block’s inputs that come from the float network (QDrop)',
  },
  rate: {
    type: 'number',
    exclusiveMinimum: 0,
    default: 1,
    description: 'Factor of all learning rates',
  },
  ...finiteOptions,
})

type Options = OptionsOf<typeof options>

/** Why a layer's weight is not trained; null where it is. */
function whyNot(layer: WeightLayer): string | null {
  const why = whyNotRounded(layer)
  if (why) return why
  const { source, axis, block } = layer.quant!
  if (block > 0) return 'its steps differ within an output channel'
  if (source !== layer.quantPoint || (axis !== null && axis !== layer.outputAxis))
    return 'its steps run along another axis than its output channels'
  return isOnGrid(layer) ? 'its weights lie on the grid already' : null
}

async function run(model: Model, o: Options, ctx: PassContext): Promise<boolean> {
  const inlined = inlineFunctions(model)
  const chosen = quantisedLayers(model, o, ctx)
  const fit = new Set<string>()
  for (const layer of chosen) {
    const reason = whyNot(layer)
    if (reason) ctx.decline(layer.name, reason)
    else fit.add(layer.name)
  }
  if (fit.size === 0) return inlined
  const stored = chosen.filter((layer) => fit.has(layer.name) && layer.weight.producer)
  for (const layer of stored) asInitializer(layer.weight)
  const float = trainable(floatReference(model, { unmasked: o.pruned === 'compensate' }).model)
  const started = o.start === 'round-weights' && (await startRounded(model, o, ctx))
  const trained = await new Reconstruction(model, float, fit, o, ctx).run()
  const guarded = guardQuantisers(model.graph)
  return inlined || stored.length > 0 || started || trained || guarded
}

/** What `round-weights` does by default to the same layers and pruned weights; it says itself why it leaves some alone. */
async function startRounded(model: Model, o: Options, ctx: PassContext): Promise<boolean> {
  const { ops, only, exclude, pruned, allowNonfinite } = o
  const own = parseOptions(roundWeights.options, { ops, only, exclude, pruned, allowNonfinite }, roundWeights.name)
  // progress counts the steps of blocks
  return roundWeights.run(model, own, { ...ctx, onProgress: undefined })
}

export const reconstruct = definePass({
  name: 'reconstruct',
  summary: 'Train quantised weights, rounding and steps block by block against the float network',
  options,
  ...rounds,
  run,
})
