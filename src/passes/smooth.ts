/**
 * SmoothQuant (Xiao, Lin, Seznec, Wu, Demouth, Han, arXiv:2211.10438) for Gemm, MatMul and 1x1 Conv: inputs whose
 * channels differ much in size are quantised badly by one scale for all of them, while weights with one scale per row are
 * hardly affected. So each channel j passes some of its size to the weights that read it:
 *
 *   s_j = max |X_j|^a / max |W_j|^(1 - a)      X_j / s_j,   W_j * s_j
 *
 * The division goes into what makes the channel: scale and shift of a LayerNormalization, RMSNormalization or another
 * normalisation, a product with a constant (a normalisation written out), or the layer before it, through whatever keeps a
 * factor (scale-groups.ts). The float network computes the same as before.
 *
 * The strength a is searched for each input: the one whose quantised layers come nearest to the float ones on sampled rows
 * of the calibration data, all layers that read it together; none if no strength removes a fifth of the error.
 *
 * Declines, with the reason: inputs that something else makes or reads (an attention's product, a GELU before the layer),
 * layers smoothed before, weights that are quantised. After `quantize` it is too late.
 */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { TiedNumbers } from '../base/tied-numbers.ts'
import type { Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { applyScales, type ChannelScales, channelScales } from '../layers/channel-scales.ts'
import { chooseLayers, noteAbsent } from '../layers/choose-layers.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { layerOptions } from '../layers/layer-options.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { inputChannels } from '../layers/scale-groups.ts'
import { isMatrixProduct } from '../ops/facts.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { type ChannelSample, channelSamples } from '../quant/channel-samples.ts'
import {
  productOf,
  quantizedInputs,
  quantizedWeights,
  relativeError,
  type SampledWeights,
  sampledWeights,
  type Widths,
} from '../quant/smoothing-error.ts'
import { widthOption } from '../quant/width-options.ts'
import { inlineFunctions } from './inline-functions.ts'

const options = optionTable({
  ...layerOptions,
  ops: { ...layerOptions.ops, default: ['*'] },
  strengths: {
    type: 'numbers',
    default: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
    description: 'Strengths to try for each input: how much of its size goes to the weights',
  },
  weightBits: { ...widthOption('weights that the strengths are compared at'), default: 8 },
  activationBits: { ...widthOption('inputs that the strengths are compared at'), default: 8 },
  ...finiteOptions,
})

/** Fraction of the error without smoothing: less than a fifth can be chance. */
const WORTH = 0.8

interface Reader {
  readonly layer: WeightLayer
  readonly value: Value
  /** By input channel; -1 where a channel must stay. */
  readonly groups: Int32Array
  readonly weights: SampledWeights
}

const dataOf = ({ node, slot }: WeightLayer): Value => node.input(slot.data!)

/** Layers whose input can be smoothed; others are declined. */
function readersOf({ groups, layers }: ChannelScales, chosen: readonly WeightLayer[], ctx: PassContext): Reader[] {
  const names = new Set(chosen.map((l) => l.name))
  return [...new Set(layers.values())].flatMap((layer): Reader[] => {
    const own = groups.inputs(layer)
    const weights = own && sampledWeights(layer)
    const why = !own
      ? 'nothing before it can take a factor'
      : marks.smoothed.is(layer.node)
        ? 'it has been smoothed before'
        : typeof weights === 'string'
          ? weights
          : null
    if (why && names.has(layer.name)) ctx.decline(layer.name, why)
    return own && weights && typeof weights !== 'string' && !why
      ? [{ layer, value: dataOf(layer), groups: own, weights }]
      : []
  })
}

/** Readers that share a group get one strength. Those with a group that another layer reads, too, are declined. */
function setsOf(readers: readonly Reader[], { groups, layers }: ChannelScales, ctx: PassContext): Reader[][] {
  const own = new Set(readers.map((r) => r.layer.node))
  const others = new Map<number, string>()
  for (const layer of new Set(layers.values()))
    if (!own.has(layer.node)) for (const g of groups.inputs(layer) ?? []) if (g >= 0) others.set(g, layer.name)
  const ties = new TiedNumbers()
  const numbers = ties.take(readers.length)
  const first = new Map<number, number>()
  for (const [i, r] of readers.entries())
    for (const g of r.groups) {
      if (g < 0) continue
      const other = others.get(g)
      if (other !== undefined) ties.block([i], `${other} reads it, too`)
      if (first.has(g)) ties.tie(i, first.get(g)!)
      else first.set(g, i)
    }
  const sets = new Map<number, Reader[]>()
  for (const i of numbers) {
    const why = ties.whyBlocked(i)
    if (why) ctx.decline(readers[i]!.layer.name, why)
    else sets.set(ties.root(i), [...(sets.get(ties.root(i)) ?? []), readers[i]!])
  }
  return [...sets.values()]
}

/** By group: largest input and largest weight. */
function extremes(set: readonly Reader[], samples: ReadonlyMap<Value, ChannelSample>) {
  const found = new Map<number, { x: number; w: number }>()
  for (const { value, groups, weights } of set) {
    const { largest } = samples.get(value)!
    for (const [i, g] of groups.entries()) {
      if (g < 0) continue
      const own = found.get(g) ?? { x: 0, w: 0 }
      found.set(g, own)
      own.x = Math.max(own.x, largest[i]!)
      own.w = Math.max(own.w, weights.largest[i]!)
    }
  }
  return found
}

const atStrength = (found: ReadonlyMap<number, { x: number; w: number }>, a: number): Map<number, number> =>
  new Map(
    [...found].map(([g, { x, w }]) => {
      const s = x ** a / w ** (1 - a)
      return [g, s > 0 && s < Number.POSITIVE_INFINITY ? s : 1]
    }),
  )

interface Found {
  readonly strength: number
  /** What each group is divided by. */
  readonly factors: ReadonlyMap<number, number>
}

function search(
  set: readonly Reader[],
  samples: ReadonlyMap<Value, ChannelSample>,
  o: Widths & { readonly strengths: readonly number[] },
): Found | null {
  const wanted = set.map((r) => productOf(samples.get(r.value)!.rows, r.weights.rows, r.groups.length))
  const errorOf = (factors: ReadonlyMap<number, number>): number =>
    set.reduce((sum, r, i) => {
      const s = Float64Array.from(r.groups, (g) => factors.get(g) ?? 1)
      const x = quantizedInputs(samples.get(r.value)!.rows, s, o.activationBits)
      return sum + relativeError(wanted[i]!, productOf(x, quantizedWeights(r.weights.rows, s, o.weightBits), s.length))
    }, 0)
  const found = extremes(set, samples)
  let least = errorOf(new Map()) * WORTH
  let best: Found | null = null
  for (const strength of o.strengths) {
    const factors = atStrength(found, strength)
    const error = errorOf(factors)
    if (error >= least) continue
    least = error
    best = { strength, factors }
  }
  return best
}

async function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  const inlined = inlineFunctions(model)
  const { chosen, left, absent } = chooseLayers(model.graph, o)
  noteAbsent(absent, ctx)
  for (const { layer, reason } of left) ctx.decline(layer.name, reason)
  const scales = await channelScales(model, chosen, { splitClips: false, shareSums: true })
  const sets = setsOf(readersOf(scales, chosen, ctx), scales, ctx)
  if (sets.length === 0) return inlined
  const wanted = new Map(
    sets.flat().map(({ layer, value }) => {
      const axis = isMatrixProduct(layer.node) ? ('last' as const) : (1 as const)
      return [value, { value, channels: inputChannels(layer), axis }]
    }),
  )
  const samples = await channelSamples(model, [...wanted.values()], ctx.calibration!, { ...o, seed: ctx.seed })
  const factors = new Map<number, number>()
  const smoothed: string[] = []
  for (const set of sets) {
    const found = search(set, samples, o)
    const names = set.map((r) => r.layer.name)
    if (!found) for (const name of names) ctx.decline(name, 'no strength makes it a fifth better')
    else {
      for (const [g, s] of found.factors) factors.set(g, s)
      smoothed.push(`${names.join(', ')} at ${found.strength}`)
      for (const r of set) marks.smoothed.put(r.layer.node)
    }
  }
  if (factors.size === 0) return inlined
  const made = applyScales(model, scales, (g) => 1 / (factors.get(g) ?? 1))
  if (typeof made === 'string') {
    for (const set of sets) for (const r of set) marks.smoothed.drop(r.layer.node)
    ctx.decline(sets[0]![0]!.layer.name, made)
    return inlined
  }
  ctx.log(`smoothed ${smoothed.join('; ')}`)
  return true
}

export const smooth = definePass({
  name: 'smooth',
  summary: 'Move the size of input channels that stand out into the weights that read them',
  options,
  preserves: 'numerics',
  bakes: true,
  data: 'required',
  run,
})
