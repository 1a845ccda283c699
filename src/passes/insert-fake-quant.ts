/**
 * Quantises layers as the file will run them: real integers through QuantizeLinear -> DequantizeLinear (quant-nodes.ts).
 *
 *   weights      per output channel (or tensor, or group of a channel's weights), symmetric, integers -2^(b-1) .. 2^(b-1)-1, zero point 0, after the
 *                prune mask, so that zeros stay zeros; scales from quantizer.ts
 *   activations  one scale per layer input, unsigned integers, with a zero point where the input can be negative
 *                (activation-range.ts); an input of several layers is quantised once; scales from calibration
 *
 * Node metadata: mnc.role=weight-quant | activation-quant, mnc.bits. Biases and normalisations stay float. Layers that
 * are quantised already, by this pass or another tool, are left with a reason; a model error where nothing is left to do
 * and what there is differs from what was asked for. Raises the opset to 21. Does not apply to weights that something
 * other than layers reads, nor to float64, which QuantizeLinear does not take.
 */

import { modelError, usageError } from '../base/errors.ts'
import { type OptionsOf, optionTable } from '../base/options.ts'
import { quantisable } from '../graph/exported.ts'
import type { Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import type { ElementType } from '../graph/types.ts'
import { chooseLayers, noteAbsent } from '../layers/choose-layers.ts'
import { firstLayers, lastLayers } from '../layers/edge-layers.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { layerOptions } from '../layers/layer-options.ts'
import {
  ACTIVATION_QUANT,
  asInitializer,
  maskedWeights,
  rewire,
  WEIGHT_QUANT,
  type WeightLayer,
} from '../layers/layers.ts'
import { separateWidths } from '../layers/mixed-widths.ts'
import { type QuantPair, quantPairOf } from '../layers/quant-pair.ts'
import { mapNamed } from '../layers/select.ts'
import { dequantizeBehind } from '../ops/facts.ts'
import { weightSlots } from '../ops/index.ts'
import { upgradeModelTo } from '../ops/raise-opset.ts'
import { definePass, type Left, type PassContext } from '../pass-manager/define-pass.ts'
import { activationRange, signedForms } from '../quant/activation-range.ts'
import { collectHistograms } from '../quant/calibrate.ts'
import { nonNegativeTest } from '../quant/non-negative.ts'
import { guardQuantisers } from '../quant/quant-guard.ts'
import { existingQuantizer, insertQuantizer } from '../quant/quant-nodes.ts'
import { fitWeightScales, weightScaleMethods } from '../quant/quantizer.ts'
import { requireGroup, weightGroupOptions } from '../quant/weight-group-options.ts'
import { groupedAxis } from '../quant/weight-groups.ts'
import { layerWidthOptions, widthOption } from '../quant/width-options.ts'
import { inlineFunctions } from './inline-functions.ts'

/** The first opset with 4-bit types. */
const QUANT_OPSET = 21
/** What QuantizeLinear takes. */
const QUANTIZABLE: readonly ElementType[] = ['float32', 'float16', 'bfloat16']

const options = optionTable({
  weightBits: widthOption('weights'),
  activationBits: widthOption("the layers' inputs"),
  ...layerOptions,
  firstLayer: {
    type: 'string',
    enum: ['skip-input', 'quantize', 'skip'],
    default: 'skip-input',
    description: 'The first layers: keep their input float, treat them like others, or leave them alone',
  },
  lastLayer: {
    type: 'string',
    enum: ['quantize', 'skip'],
    default: 'quantize',
    description: 'The last layers: treat them like others, or leave them alone',
  },
  ...layerWidthOptions,
  weightScale: {
    type: 'string',
    enum: weightScaleMethods,
    default: 'als',
    description: 'Weight scales: alternating least squares, grid search of the squared error, or no clipping',
  },
  granularity: {
    type: 'string',
    enum: ['channel', 'tensor'],
    default: 'channel',
    description: 'One weight scale per output channel, or per tensor',
  },
  ...weightGroupOptions,
  calibration: {
    type: 'string',
    enum: ['mse', 'max', 'percentile', 'entropy'],
    default: 'mse',
    description: 'Activation scales from calibration data: least squared error, no clipping, percentile, or entropy',
  },
  signedInputs: {
    type: 'string',
    enum: signedForms,
    default: 'zero-point',
    description:
      'Inputs that can be negative: unsigned integers with a zero point, or signed integers symmetric about 0',
  },
  percentile: {
    type: 'number',
    exclusiveMinimum: 0,
    maximum: 100,
    default: 99.99,
    description: 'For --calibration percentile: percentage of values that are not clipped',
  },
  ...finiteOptions,
})

type Options = OptionsOf<typeof options>

interface Plan {
  readonly weights: { layer: WeightLayer; bits: number }[]
  readonly activations: { value: Value; bits: number; readers: Node[] }[]
  readonly declined: { where: string; reason: string; left?: Left }[]
  readonly absent: readonly string[]
  /** Layers that are quantised in another way than asked for. */
  readonly foreign: string[]
  /** What is quantised already just as this pass would. */
  same: number
}

function checkOptions(o: Options): void {
  const widths = { '--weight-bits': o.weightBits, '--activation-bits': o.activationBits } as Record<string, number>
  for (const [name, b] of Object.entries(o.layerWeightBits ?? {})) widths[`--layer-weight-bits ${name}`] = b
  for (const [name, b] of Object.entries(o.layerActivationBits ?? {})) widths[`--layer-activation-bits ${name}`] = b
  for (const [flag, b] of Object.entries(widths))
    if (!Number.isInteger(b) || b < 0 || b > 8 || b === 1)
      throw usageError(`${flag}=${b} must be 2 to 8, or 0 for none`)
  requireGroup(o.weightGroup)
  if (o.weightGroup && o.granularity === 'tensor')
    throw usageError('--weight-group and --granularity tensor exclude each other', 'leave one out')
  if (Object.values(widths).every((b) => b === 0)) throw usageError('both --weight-bits and --activation-bits are 0')
}

function makePlan(model: Model, o: Options): Plan {
  const layers = chooseLayers(model.graph, o)
  const { absent } = layers
  const plan: Plan = { weights: [], activations: [], declined: [], absent, foreign: [], same: 0 }
  const weightBits = mapNamed(o.layerWeightBits ?? {}, layers.chosen, 'layer')
  const activationBits = mapNamed(o.layerActivationBits ?? {}, layers.chosen, 'layer')
  const decline = (layer: WeightLayer, reason: string, remedy?: string): void => {
    // with quantised weights, or where none are wanted, nothing is left to do
    const left = layer.quant || !isFloat(layer) || noWeights(o) ? {} : { left: { weights: layer.tensor.size, remedy } }
    plan.declined.push({ where: layer.name, reason, ...left })
  }
  for (const { layer, reason, remedy } of layers.left) decline(layer, reason, remedy)
  const first = firstLayers(layers.all)
  const last = lastLayers(layers.all)
  for (const layer of layers.chosen) {
    if (first.has(layer) && o.firstLayer === 'skip') {
      decline(layer, 'the first layer is left alone', '--first-layer quantize')
      continue
    }
    if (last.has(layer) && o.lastLayer === 'skip') {
      decline(layer, 'the last layer is left alone', '--last-layer quantize')
      continue
    }
    const w = weightBits.get(layer) ?? o.weightBits
    if (w > 0) planWeight(plan, layer, w, o, decline)
    else if (o.weightBits > 0)
      decline(layer, 'its width is set to 0', `--layer-weight-bits ${layer.name}=${o.weightBits}`)
    const a = activationBits.get(layer) ?? o.activationBits
    if (a === 0 || layer.slot.data === undefined) continue
    if (first.has(layer) && o.firstLayer === 'skip-input' && !activationBits.has(layer))
      plan.declined.push({ where: layer.name, reason: 'the first layer keeps its float input' })
    else for (const node of layer.users) planActivation(plan, node, a)
  }
  return plan
}

const isFloat = ({ tensor }: WeightLayer): boolean => tensor.type.includes('float')

const noWeights = (o: Options): boolean => o.weightBits === 0 && o.layerWeightBits === undefined

type Decline = (layer: WeightLayer, reason: string, remedy?: string) => void

function planWeight(plan: Plan, layer: WeightLayer, width: number, o: Options, decline: Decline): void {
  if (layer.quant) {
    noteQuantised(plan, layer.name, 'its weights are', layer.quant, width)
  } else if (!isFloat(layer) || !QUANTIZABLE.includes(elementAt(layer)))
    decline(layer, `its weights are ${layer.tensor.type}`)
  else if (layer.otherUser) decline(layer, `its weights are also read by ${layer.otherUser.label}`)
  else if (layer.outputAxis === null && o.granularity === 'channel')
    decline(layer, 'a Reshape of its weights hides the output channel axis', '--granularity tensor')
  else plan.weights.push({ layer, bits: width })
}

function noteQuantised(plan: Plan, where: string, what: string, pair: QuantPair, width: number): void {
  plan.declined.push({ where, reason: `${what} already quantised to ${pair.bits} bits` })
  if (pair.bits !== width || !marks.role.has(pair.dequantize)) plan.foreign.push(where)
  else plan.same++
}

function planActivation(plan: Plan, node: Node, width: number): void {
  const data = weightSlots(node).find((s) => s.data !== undefined)?.data
  const value = data === undefined ? null : node.inputs[data]
  if (!value || value.constant) return
  const pair = value.producer && quantPairOf(value.producer)
  // a rounded output of another width is rounded again
  const isRounded = pair?.bits !== width && roundedOutput(value) !== null
  if (pair && !isRounded) {
    noteQuantised(plan, node.id, 'its input is', pair, width)
    return
  }
  if (!isRounded && dequantizeBehind(value)) {
    // a Cast between the halves, blocks, computed scales: quantised, in a form that is not read here
    plan.declined.push({ where: node.id, reason: 'its input is already quantised by another tool' })
    plan.foreign.push(node.id)
    return
  }
  const known = plan.activations.find((a) => a.value === value && a.bits === width)
  if (known) known.readers.push(node)
  else plan.activations.push({ value, bits: width, readers: [node] })
}

/** The quantiser that gives this value where quantize-outputs put it there. */
function roundedOutput(value: Value): QuantPair | null {
  const producer = marks.output.has(value.producer) ? value.producer : null
  return producer && quantPairOf(producer)
}

/** Element type of the weights where their quantiser belongs. */
const elementAt = ({ maskPoint, weight, tensor }: WeightLayer): ElementType =>
  maskPoint === weight ? tensor.type : 'float32'

function quantizeWeights(layer: WeightLayer, width: number, o: Options): void {
  const { tensor, outputAxis } = layer
  const values = maskedWeights(layer)
  const grouped = groupedAxis(layer, o.weightGroup)
  const axis = o.granularity === 'tensor' ? null : (grouped ?? outputAxis)
  const { name } = layer.weight
  const point = layer.quantPoint === layer.weight ? asInitializer(layer.weight) : layer.quantPoint
  const elem = elementAt(layer)
  const block = grouped === null ? 0 : o.weightGroup!
  const scales = fitWeightScales(values, tensor.dims, { axis, block }, width, o.weightScale, elem)
  const blocks = { ...(block > 0 && { blocks: { block, dims: tensor.dims } }) }
  const spec = { name, bits: width, signed: true, scales, axis, ...blocks, elem, fit: o.weightScale }
  insertQuantizer(point, { ...spec, role: WEIGHT_QUANT, frozen: marks.frozen.is(layer.weight) })
}

/** True where anything changed. */
async function quantizeActivations(model: Model, plan: Plan, o: Options, ctx: PassContext): Promise<boolean> {
  const fresh = plan.activations.filter(({ value, bits, readers }) => {
    const pair = existingQuantizer(value, bits)
    if (!pair) return true
    rewire(readers, value, pair.dequantize.output)
    return false
  })
  let changed = fresh.length < plan.activations.length
  if (fresh.length === 0) return changed
  const histograms = await collectHistograms(model, [...new Set(fresh.map((a) => a.value))], ctx.calibration!, o)
  const isNonNegative = nonNegativeTest()
  const ranges = fresh.map(({ value, bits }) =>
    activationRange(histograms.get(value)!, { ...o, bits, nonNegative: isNonNegative(value) }),
  )
  fresh.forEach(({ value, bits, readers }, i) => {
    const { scale, zeroPoint } = ranges[i]!
    const { elem } = histograms.get(value)!
    if (!QUANTIZABLE.includes(elem)) {
      for (const { id } of readers) ctx.decline(id, `its input is ${elem}`)
      return
    }
    changed = true
    const { name } = roundedOutput(value)?.source ?? value
    const spec = { name, bits, signed: false, scales: Float32Array.of(scale), zeroPoint, axis: null }
    insertQuantizer(
      value,
      { ...spec, elem, role: ACTIVATION_QUANT, frozen: readers.every(marks.frozen.is) },
      new Set(readers),
    )
  })
  return changed
}

async function run(model: Model, o: Options, ctx: PassContext): Promise<boolean> {
  quantisable(model)
  const inlined = inlineFunctions(model)
  let plan = makePlan(model, o)
  for (const { where, reason, left } of plan.declined) ctx.decline(where, reason, left)
  noteAbsent(plan.absent, ctx)
  if (plan.weights.length + plan.activations.length === 0) {
    if (plan.foreign.length === 0) {
      if (plan.same > 0) ctx.log('the model is already quantised as asked; for other widths start from the float model')
      return inlined
    }
    throw modelError('already-quantized', `the model is already quantised (${plan.foreign.slice(0, 4).join(', ')})`, {
      next: 'start from the float model; mnc does not quantise twice',
    })
  }
  if (plan.activations.length > 0 && !ctx.calibration)
    throw usageError('quantising activations needs calibration data', 'give --data, or --activation-bits 0')
  const raised = model.opset < QUANT_OPSET
  if (raised) {
    await upgradeModelTo(model, QUANT_OPSET)
    plan = makePlan(model, o)
  }
  for (const { layer, bits: width } of plan.weights) quantizeWeights(layer, width, o)
  // calibration runs the model as quantised so far
  guardQuantisers(model.graph)
  const rounded = await quantizeActivations(model, plan, o, ctx)
  separateWidths(model.graph)
  guardQuantisers(model.graph)
  return inlined || raised || rounded || plan.weights.length > 0
}

export const insertFakeQuant = definePass({
  name: 'insert-fake-quant',
  alias: 'quantize',
  summary: 'Quantise weights and activations to real 4-bit (2 to 8) integers: QuantizeLinear -> DequantizeLinear',
  options,
  preserves: 'interface',
  treatsWeights: true,
  bakes: true,
  data: 'optional',
  requires: (_model, o) => checkOptions(o),
  run,
})
