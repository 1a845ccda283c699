/**
 * Rounds weights that already have a quantiser so as to preserve the outputs of their layers rather than the weights:
 * GPTQ in its form as nearest plane (src/quant/nearest-plane.ts, src/quant/round-layer.ts for the formulas and papers).
 * The float weight is overwritten by numbers on the quantiser's grid, which the quantiser does not change; zeros of a prune mask
 * stay zeros.
 *
 * Layers are treated in graph order, each on inputs computed with those before already rounded, on the calibration data,
 * in groups of layers that do not depend on each other. Conv (any groups, strides, pads, dilations), ConvTranspose, Gemm,
 * MatMul by a matrix.
 *
 * Does not apply, and says so, to weights without a quantiser, stored as integers, or on the grid already; with scales
 * along another axis than the output channels'; that something else reads or the model hands out; with more columns than
 * `--largest` (memory is 24 bytes times their square). Behind `correct-bias` it is too late: biases then contain what
 * rounding to nearest lost.
 */
import { modelError } from '../base/errors.ts'
import { type OptionsOf, optionTable } from '../base/options.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers, noteAbsent } from '../layers/choose-layers.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { canShiftOutputs, shiftOutputs } from '../layers/layer-algebra.ts'
import { layerOptions } from '../layers/layer-options.ts'
import { layerRuns } from '../layers/layer-runs.ts'
import { asInitializer, type WeightLayer } from '../layers/layers.ts'
import { scaleIndices } from '../layers/scale-layout.ts'
import { productFactor } from '../ops/facts.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { floatReference } from '../quant/bypass-quantisers.ts'
import { inputMoments, type MomentsOf, momentsWalk } from '../quant/input-moments.ts'
import { guardQuantisers } from '../quant/quant-guard.ts'
import { quantizeValue } from '../quant/quantizer.ts'
import { roundLayer } from '../quant/round-layer.ts'
import { thinPositions } from '../quant/thin-positions.ts'
import { weightRows } from '../quant/weight-rows.ts'
import { inlineFunctions } from './inline-functions.ts'

/** What passes that round weights on data do about those that are pruned. */
export const prunedOptions = optionTable({
  pruned: {
    type: 'string',
    enum: ['zero', 'compensate'],
    default: 'zero',
    description: 'Weights held at zero by a mask: taken for zeros, or made up for by the others',
  },
})

const options = optionTable({
  ...layerOptions,
  ops: { ...layerOptions.ops, default: ['*'] },
  target: {
    type: 'string',
    enum: ['layer', 'network'],
    default: 'network',
    description: 'Keep what a layer makes of the inputs that it gets, or what it makes in the float network of its own',
  },
  pull: {
    type: 'number',
    minimum: 0,
    maximum: 1,
    default: 1,
    description: 'For --target network: part of the way that weights go to make up for what came before',
  },
  biases: {
    type: 'string',
    enum: ['correct', 'keep'],
    default: 'correct',
    description: 'Let the bias take up the mean error, one where there is none, or keep it',
  },
  steps: {
    type: 'string',
    enum: ['search', 'weighted', 'keep'],
    default: 'search',
    description: 'Steps of the weights: the best behind rounding, the best weighted by inputs, or as they are',
  },
  order: {
    type: 'string',
    enum: ['activation', 'given'],
    default: 'activation',
    description: 'Which columns are decided first: those of the largest inputs, or from the last to the first',
  },
  damping: {
    type: 'number',
    exclusiveMinimum: 0,
    default: 0.01,
    description: 'Added to the diagonal of the second moment of inputs, as a part of its mean',
  },
  sweeps: {
    type: 'integer',
    minimum: 0,
    default: 4,
    description: 'Passes of coordinate descent behind rounding, at most',
  },
  ...prunedOptions,
  largest: {
    type: 'integer',
    minimum: 1,
    default: 4608,
    description: 'Leave layers alone whose outputs are sums of more products',
  },
  ...finiteOptions,
})

type Options = OptionsOf<typeof options>

/** Why a weight cannot be put on the grid of its quantiser; null where it can. */
export function whyNotRounded(layer: WeightLayer): string | null {
  const { quant, tensor, slot } = layer
  if (!quant) return 'its weights have no quantiser'
  if (!tensor.type.includes('float') || !quant.quantize) return 'its weights are stored as integers'
  if (!quant.scale.constant || (quant.zeroPoint && !quant.zeroPoint.constant))
    return 'the steps of its weights are computed'
  if (quant.scale.uses.size > 2) return 'the steps of its weights are shared with another quantiser'
  if (layer.otherUser) return `its weights are also read by ${layer.otherUser.label}`
  if (layer.handedOut) return `'${layer.handedOut.name}' is an output of the model`
  return slot.data === undefined || slot.lookup ? 'its weights are looked up, not multiplied' : null
}

/** Why a layer is left alone; its rows if it is not. */
function roundable(layer: WeightLayer, o: Options): MomentsOf | string {
  const why = whyNotRounded(layer)
  if (why) return why
  const rows = weightRows(layer)
  if (typeof rows === 'string') return rows
  const quant = layer.quant!
  const across = quant.block > 0 ? layer.inputAxis : layer.outputAxis
  if (quant.source !== layer.quantPoint || (quant.axis !== null && quant.axis !== across))
    return 'its steps run along another axis than its output channels'
  if (rows.columns > o.largest)
    return `its outputs are sums of ${rows.columns} products, more than --largest ${o.largest}`
  return isOnGrid(layer) ? 'its weights lie on the grid already' : { layer, rows }
}

export function isOnGrid({ quant, tensor, mask }: WeightLayer): boolean {
  const { scale, zeroPoint, lo, hi } = quant!
  const steps = scale.constant!.toNumbers()
  const zeros = zeroPoint?.constant?.toNumbers()
  const kept = mask?.constant?.toNumbers()
  const values = tensor.toFloat32()
  const stepOf = scaleIndices(tensor.dims, quant!)
  for (let i = 0; i < values.length; i++) {
    const c = stepOf[i]!
    const zero = zeros?.[zeros.length === 1 ? 0 : c] ?? 0
    const w = values[i]! * (kept?.[i] ?? 1)
    const near = quantizeValue(w, steps[c]!, lo - zero, hi - zero) * steps[c]!
    // weights of 16 bits cannot hold more
    if (Math.abs(near - w) > Math.abs(w) * (tensor.type === 'float32' ? 1e-6 : 0.01)) return false
  }
  return true
}

/** The layers to treat; quantised ones that the options leave out are declined. */
export function quantisedLayers(
  { graph }: Model,
  o: OptionsOf<typeof layerOptions>,
  ctx: PassContext,
): readonly WeightLayer[] {
  const { chosen, left, absent } = chooseLayers(graph, o)
  noteAbsent(absent, ctx)
  for (const { layer, reason, remedy } of left)
    if (layer.quant) ctx.decline(layer.name, reason, { weights: layer.tensor.size, remedy })
  return chosen
}

async function run(model: Model, o: Options, ctx: PassContext): Promise<boolean> {
  const inlined = inlineFunctions(model)
  const chosen = quantisedLayers(model, o, ctx)
  const fit: MomentsOf[] = []
  for (const layer of chosen) {
    const found = roundable(layer, o)
    if (typeof found === 'string') ctx.decline(layer.name, found)
    else fit.push(found)
  }
  const late = fit.find(({ layer }) => marks.biasCorrected.is(layer.node))
  if (late)
    throw modelError('pass-order', `round-weights comes too late: the bias of ${late.layer.node.label} is corrected`, {
      node: late.layer.node.id,
      next: 'run round-weights, which corrects biases too, before correct-bias',
    })
  const reference = o.target === 'network' ? floatReference(model, { unmasked: o.pruned === 'compensate' }) : null
  const ratios: number[] = []
  const columns = new Map(fit.map(({ layer, rows }) => [layer, rows.columns]))
  const every = await thinPositions(model, columns, ctx.calibration!)
  const thin = fit.map((of) => ({ ...of, every: every.get(of.layer) }))
  const walk = momentsWalk(model, thin, ctx.calibration!, { reference, ...o })
  const groups = layerRuns(model.graph, thin)
  for (const [i, group] of groups.entries()) {
    ctx.onProgress?.(i, groups.length)
    const moments = await inputMoments(walk, group)
    for (const { layer, rows } of group) {
      const shifts = o.biases === 'correct' && canShiftOutputs(layer)
      const { weight, scale, shift, before, after } = roundLayer(layer, rows, moments.get(layer)!, {
        ...o,
        ...{ shifts, compensates: o.pruned === 'compensate' },
      })
      asInitializer(layer.weight).setConstant(weight)
      layer.quant!.scale.setConstant(scale)
      const alpha = productFactor(layer.node)
      if (shift)
        shiftOutputs(
          layer,
          shift.map((x) => alpha * x),
        )
      if (shift) marks.biasCorrected.put(layer.node)
      ratios.push(before > 0 ? after / before : 1)
    }
  }
  const median = ratios.sort((a, b) => a - b)[ratios.length >> 1]
  if (median !== undefined)
    ctx.log(
      `${ratios.length} layers rounded; the error of the one in the middle is ${(100 * median).toPrecision(2)} % of that of rounding to nearest`,
    )
  // a bias that is new or larger decides whether an integer kernel computes the same
  if (o.biases === 'correct') guardQuantisers(model.graph)
  return inlined || fit.length > 0
}

/** What passes that round weights on data say about themselves. */
export const rounds = { preserves: 'interface', treatsWeights: true, bakes: true, data: 'required' } as const

export const roundWeights = definePass({
  name: 'round-weights',
  summary: 'Round quantised weights so that their layers’ outputs stay, not the weights (GPTQ)',
  options,
  ...rounds,
  run,
})
