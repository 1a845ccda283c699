/**
 * Bias correction (Nagel, van Baalen, Blankevoort, Welling, arXiv:1906.04721, section 4.2), with data empirical: layer
 * after layer in graph order, each on inputs computed with those before already corrected,
 *
 *   b' = b + E[output in the float network] - E[output in the quantised one]     per output channel, over calibration data
 *
 * Without data the means come from BatchNormalization, in the graph or folded (section 4.2.1 there, analytic bias correction): what it
 * gives is taken to be normal, ReLU and other limits cut it off, and
 *
 *   b' = b + (W - Q(W)) E[x]                   in layers whose inputs follow from normalisations; others stay
 *
 * which takes up what rounding of weights does, not that of inputs.
 *
 * A layer without a bias gets one; behind a MatMul it is an Add, or the constant of one that is there already. The float network
 * is the model with its quantisers bypassed, or `--reference`, whose layers have the same names: for weights that were
 * rounded before, which bypassing does not restore. Labels are not used.
 *
 * Does not apply, and says so, to layers whose biases are corrected already (round-weights does that too), unless a
 * reference is given; to shared weights and computed biases.
 */
import { modelError, usageError } from '../base/errors.ts'
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
import { analyticShifts } from '../quant/analytic-bias.ts'
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

interface Task {
  readonly model: Model
  readonly reference: FloatReference
  /** The reference is not part of the model. */
  readonly isGiven: boolean
  readonly o: Omit<OptionsOf<typeof options>, 'reference'>
}

/** Layers whose biases can be corrected; others are declined. */
function fitLayers({ model, reference, isGiven, o }: Task, ctx: PassContext): { layer: WeightLayer }[] {
  const { chosen, left, absent } = chooseLayers(model.graph, o)
  noteAbsent(absent, ctx)
  for (const { layer, reason } of left) ctx.decline(layer.name, reason)
  return chosen.flatMap((layer) => {
    const reason = whyNot(layer, reference, isGiven)
    if (reason) ctx.decline(layer.name, reason)
    return reason ? [] : [{ layer }]
  })
}

/** By what normalisations say, without data; returns whether anything changed. */
async function correctFromNormals(task: Task, ctx: PassContext): Promise<boolean> {
  const { model, reference } = task
  const fit = fitLayers(task, ctx).map(({ layer }) => layer)
  const shifts = await analyticShifts(model, fit, reference)
  const isFirst = ![...model.graph.nodes()].some(marks.biasCorrected.is)
  if (isFirst && shifts.length > 0 && shifts.every(({ shift }) => typeof shift === 'string'))
    throw usageError('correct-bias needs data: no BatchNormalization says what the means of inputs are', 'give --data')
  let changed = false
  for (const { layer, shift } of shifts) {
    if (typeof shift === 'string') ctx.decline(layer.name, shift)
    else if (shift.some((x) => x !== 0)) {
      shiftOutputs(layer, shift)
      marks.biasCorrected.put(layer.node)
      changed = true
    }
  }
  if (changed) guardQuantisers(model.graph)
  return changed
}

/** By data; returns whether anything changed. */
async function correctFromData(task: Task, ctx: PassContext): Promise<boolean> {
  const { model, reference, o } = task
  const fit = fitLayers(task, ctx)
  const walk = meansWalk(model, fit, ctx.calibration!, { reference, ...o })
  let changed = false
  const runs = layerRuns(model.graph, fit)
  for (const [i, run] of runs.entries()) {
    ctx.onProgress?.(i, runs.length)
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
  data: 'optional',
  async run(model, { reference: path, ...o }, ctx) {
    const inlined = inlineFunctions(model)
    const reference = path === undefined ? floatReference(model) : await referenceFrom(model, path)
    const correct = ctx.calibration ? correctFromData : correctFromNormals
    return (await correct({ model, reference, isGiven: path !== undefined, o }, ctx)) || inlined
  },
})
