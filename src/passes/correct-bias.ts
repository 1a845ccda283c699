/**
 * Empirical bias correction (Nagel, van Baalen, Blankevoort, Welling, arXiv:1906.04721, section 4.2): layer after layer in
 * graph order, each on inputs computed with those before already corrected,
 *
 *   b' = b + E[output in the float network] - E[output in the quantised one]     per output channel, over calibration data
 *
 * A layer without a bias gets one; behind a MatMul it is an Add, or the constant of one that is there already. The float network
 * is the model with its quantisers bypassed, or `--reference`, whose layers have the same names: for weights that were
 * rounded before, which bypassing does not restore. Labels are not used.
 *
 * Does not apply, and says so, to layers whose biases are corrected already (round-weights does that too), unless a
 * reference is given; to shared weights and computed biases.
 */
import { modelError } from '../base/errors.ts'
import { type OptionsOf, optionTable } from '../base/options.ts'
import { readModel } from '../codec/codec.ts'
import type { Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers, noteAbsent } from '../layers/choose-layers.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { canShiftOutputs, shiftOutputs } from '../layers/layer-algebra.ts'
import { layerOptions } from '../layers/layer-options.ts'
import { layerRuns } from '../layers/layer-runs.ts'
import { type WeightLayer, weightLayers } from '../layers/layers.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { type FloatReference, floatReference } from '../quant/bypass-quantisers.ts'
import { meansWalk, outputDifferences } from '../quant/output-means.ts'
import { guardQuantisers } from '../quant/quant-guard.ts'
import { inlineFunctions } from './inline-functions.ts'

const options = optionTable({
  ...layerOptions,
  ops: { ...layerOptions.ops, default: ['*'] },
  reference: {
    type: 'string',
    description:
      'The float network: an ONNX file with layers of the same names; the model without its quantisers by default',
    placeholder: 'FILE',
  },
  ...finiteOptions,
})

/** Differences below this fraction of a layer's largest mean come from float arithmetic. */
const LEAST = 1e-5

/** The float network of another model: layers are found by their names. */
export function referenceOf(quantised: Model, float: Model): FloatReference {
  const byName = new Map(weightLayers(float.graph).map((l) => [l.name, l]))
  const values = new Map<Value, Value>()
  for (const { name, node } of weightLayers(quantised.graph)) {
    const other = byName.get(name)
    if (other) values.set(node.output, other.node.output)
  }
  if (values.size === 0)
    throw modelError('no-reference', 'the reference has no layer of the same name as one of the model', {
      blame: 'user',
      next: 'give the float network that this one was made from',
    })
  return { model: float, values }
}

async function referenceFrom(model: Model, path: string): Promise<FloatReference> {
  const float = await readModel(path)
  inlineFunctions(float)
  return referenceOf(model, float)
}

/** Why a layer is left alone; null if it is not. */
function whyNot(layer: WeightLayer, reference: FloatReference, given: boolean): string | null {
  if (!canShiftOutputs(layer))
    return 'its outputs cannot be shifted: its weight is shared or looked up, or its bias computed'
  if (!reference.values.has(layer.node.output)) return 'the reference has no layer of its name'
  return marks.biasCorrected.is(layer.node) && !given ? 'its bias is corrected already' : null
}

/** Corrects biases to match `reference`; returns whether anything changed. `given`: the reference is not part of the model. */
export async function correctBiases(
  model: Model,
  reference: FloatReference,
  o: Omit<OptionsOf<typeof options>, 'reference'>,
  ctx: PassContext,
  given: boolean,
): Promise<boolean> {
  const { chosen, left, absent } = chooseLayers(model.graph, o)
  noteAbsent(absent, ctx)
  for (const { layer, reason } of left) ctx.decline(layer.name, reason)
  const fit: { layer: WeightLayer }[] = []
  for (const layer of chosen) {
    const reason = whyNot(layer, reference, given)
    if (reason) ctx.decline(layer.name, reason)
    else fit.push({ layer })
  }
  const walk = meansWalk(model, fit, ctx.calibration!, { reference, ...o })
  let changed = false
  for (const run of layerRuns(model.graph, fit)) {
    const found = await outputDifferences(walk, run)
    for (const { layer } of run) {
      const { difference, largest } = found.get(layer)!
      if (difference.every((x) => Math.abs(x) <= LEAST * largest)) continue
      shiftOutputs(layer, difference)
      marks.biasCorrected.put(layer.node)
      changed = true
    }
  }
  // a bias that is new or larger decides whether an integer kernel computes the same
  if (changed) guardQuantisers(model.graph)
  return changed
}

export const correctBias = definePass({
  name: 'correct-bias',
  summary: 'Take the mean error of quantised layers up in their biases',
  options,
  preserves: 'interface',
  bakes: true,
  data: 'required',
  async run(model, { reference: path, ...o }, ctx) {
    const inlined = inlineFunctions(model)
    const reference = path === undefined ? floatReference(model) : await referenceFrom(model, path)
    return (await correctBiases(model, reference, o, ctx, path !== undefined)) || inlined
  },
})
