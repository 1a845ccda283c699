/**
 * Outlier channel splitting (Zhao, Hu, Dotzel, De Sa, Zhang, arXiv:1901.09504) of weights: where the weight of one input channel
 * is far larger than the others of its row, it alone sets the row's step. The channel is given k times, and the weight is
 *
 *   w x = w_1 x + ... + w_k x        w_j = w/k + (j - (k + 1)/2) D/k,   k a power of two
 *
 * with D the row's step then (at `--weight-bits`): by Hermite's identity the rounded parts add up to the rounded weight, while equal
 * parts would be off k times as much. Parts mirror one another, so that their sum is the weight to the bit. In rows where the channel does not stand out the first copy keeps the weight and the others get zeros, so that those rows are
 * rounded as they were. The copies are made by a Gather and a Concat before the layer, of whatever makes its input. The network
 * computes what it did, but for the order of sums, with up to `--growth` more input channels in layers that have such weights.
 *
 * A weight stands out where it is more than `--ratio` times the largest of the row's other channels, not counting a twentieth of
 * them, one at least, which can stand out. Does not apply,
 * and says so, to convolutions with groups, masked, shared and quantised weights, weights that change their form on the
 * way to the layer, layers split before.
 */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { chooseLayers, noteAbsent } from '../layers/choose-layers.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { eachRun, editableLayer, outputChannels } from '../layers/layer-algebra.ts'
import { layerOptions } from '../layers/layer-options.ts'
import { asInitializer, type WeightLayer } from '../layers/layers.ts'
import { rankLookup } from '../layers/ranks.ts'
import { groupsOf } from '../ops/facts.ts'
import { channelSlot } from '../ops/index.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { widthOption } from '../quant/width-options.ts'
import { inlineFunctions } from './inline-functions.ts'

const options = optionTable({
  ...layerOptions,
  ops: { ...layerOptions.ops, default: ['*'] },
  ratio: {
    type: 'number',
    exclusiveMinimum: 1,
    default: 3,
    description: 'A weight is split that is more than this times the largest of the others in its row',
  },
  growth: {
    type: 'number',
    exclusiveMinimum: 0,
    maximum: 1,
    default: 0.05,
    description: 'Share of its input channels that a layer may get more; one at least',
  },
  weightBits: { ...widthOption('weights that the parts are made for'), default: 8 },
  ...finiteOptions,
})

/** Copies of a channel, at most: beyond that a row is better served by more bits. */
const MOST_COPIES = 16

/** Share of a row's channels that can stand out. */
const FEW = 0.05

/** Why a layer is left alone; null where it is not. */
function whyLeft(layer: WeightLayer): string | null {
  const { node, slot, weight, inputAxis } = layer
  if (slot.part || !channelSlot(node)) return `${node.op} is no product with its weight alone`
  const why = editableLayer(layer)
  if (why) return why
  if (marks.split.is(node)) return 'it has been split before'
  if (groupsOf(node) > 1) return 'its groups have input channels of their own'
  if (layer.mask) return 'its weight is masked'
  if (node.input(slot.input) !== weight || inputAxis === null) return 'its weight changes its form on the way to it'
  return slot.transposesData?.(node) ? 'it transposes its input' : null
}

/** How often each input channel is given, and in how many parts each row has it: [rows, channels]. */
interface Split {
  readonly copies: Int32Array
  readonly parts: Uint8Array
  /** By row, the largest weight of channels that do not stand out. */
  readonly levels: Float64Array
}

function splitOf(layer: WeightLayer, ratio: number, growth: number): Split | null {
  const [rows, channels] = [outputChannels(layer), layer.tensor.dims[layer.inputAxis!]!]
  const spare = Math.max(1, Math.floor(growth * channels))
  const few = Math.max(1, Math.floor(FEW * channels))
  if (channels <= few) return null
  const largest = new Float64Array(rows * channels)
  const w = layer.tensor.toFloat32()
  eachRun(layer, 0, w.length, (from, to, o, i) => {
    const at = o * channels + i
    for (let e = from; e < to; e++) largest[at] = Math.max(largest[at]!, Math.abs(w[e]!))
  })
  const wanted = new Uint8Array(rows * channels).fill(1)
  const levels = new Float64Array(rows)
  const [most, gain] = [new Int32Array(channels).fill(1), new Float64Array(channels)]
  for (let o = 0; o < rows; o++) {
    const row = largest.subarray(o * channels, (o + 1) * channels)
    const level = row.toSorted()[channels - 1 - few]!
    levels[o] = level
    if (!(level > 0)) continue
    for (const [i, x] of row.entries()) {
      if (!(x > ratio * level)) continue
      const parts = Math.min(MOST_COPIES, 2 ** Math.ceil(Math.log2(x / level)))
      wanted[o * channels + i] = parts
      most[i] = Math.max(most[i]!, parts)
      gain[i]! += Math.log2(parts)
    }
  }
  const copies = new Int32Array(channels).fill(1)
  let left = spare
  const byGain = Array.from(most.keys()).sort((a, b) => gain[b]! - gain[a]! || a - b)
  for (const i of byGain) {
    // as many as the growth leaves, a power of two
    const parts = Math.min(most[i]!, 2 ** Math.floor(Math.log2(left + 1)))
    copies[i] = parts
    left -= parts - 1
  }
  if (copies.every((k) => k === 1)) return null
  return { levels, copies, parts: wanted.map((k, at) => Math.min(k, copies[at % channels]!)) }
}

/** Part j of k of a weight, in rows whose step will be `step`. */
function partOf(w: number, j: number, k: number, step: number): number {
  if (k === 1) return w
  const mirrored = Math.max(j, k - 1 - j)
  const upper = Math.fround(w / k + ((mirrored - (k - 1) / 2) * step) / k)
  return j === mirrored ? upper : (2 * w) / k - upper
}

/** The weight with its copies behind it, and the channel that each of them is of. */
function splitWeight(
  layer: WeightLayer,
  { copies, parts, levels }: Split,
  bits: number,
): { tensor: Tensor; added: number[] } {
  const { tensor, inputAxis } = layer
  const channels = copies.length
  const added = Array.from(copies.entries()).flatMap(([i, k]) => Array<number>(k - 1).fill(i))
  const inner = tensor.dims.slice(inputAxis! + 1).reduce((a, b) => a * b, 1)
  const outer = tensor.dims.slice(0, inputAxis!).reduce((a, b) => a * b, 1)
  // narrower types would not hold the halves of a step
  const unit = bits === 0 || tensor.type !== 'float32' ? 0 : 1 / (2 ** (bits - 1) - 1)
  const w = tensor.toNumbers()
  const rowOf = new Int32Array(tensor.size)
  eachRun(layer, 0, tensor.size, (from, to, o) => rowOf.fill(o, from, to))
  const total = channels + added.length
  const out = new Float64Array(outer * total * inner)
  // the how-manieth copy of its channel an added one is
  const number = added.map((i, at) => at - added.indexOf(i) + 1)
  for (let a = 0; a < outer; a++)
    for (let c = 0; c < total; c++) {
      const channel = c < channels ? c : added[c - channels]!
      const copy = c < channels ? 0 : number[c - channels]!
      for (let b = 0; b < inner; b++) {
        const from = (a * channels + channel) * inner + b
        const k = parts[rowOf[from]! * channels + channel]!
        out[(a * total + c) * inner + b] = copy < k ? partOf(w[from]!, copy, k, levels[rowOf[from]!]! * unit) : 0
      }
    }
  const dims = tensor.dims.map((d, axis) => (axis === inputAxis ? total : d))
  return { tensor: Tensor.from(tensor.type, dims, out), added }
}

async function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  const inlined = inlineFunctions(model)
  const { chosen, left, absent } = chooseLayers(model.graph, o)
  noteAbsent(absent, ctx)
  for (const { layer, reason } of left) ctx.decline(layer.name, reason)
  let rank: Awaited<ReturnType<typeof rankLookup>> | null = null
  let count = 0
  for (const layer of chosen) {
    const why = whyLeft(layer)
    const split = why === null ? splitOf(layer, o.ratio, o.growth) : null
    if (why) ctx.decline(layer.name, why)
    if (!split) continue
    const { node, slot } = layer
    if (slot.channels === 'rows') rank ??= await rankLookup(model)
    const x = node.input(slot.data!)
    const axis = slot.channels === 'rows' ? (rank?.(x) ?? 0) - 1 : 1
    if (axis < 0) {
      ctx.decline(layer.name, `the shape of '${x.name}' is unknown`)
      continue
    }
    const { tensor, added } = splitWeight(layer, split, o.weightBits)
    const b = node.graph.before(node)
    const copies = b.op('Gather', [x, b.ints(added)], { axis }, { name: `${node.id}.copies` })
    node.setInput(slot.data!, b.op('Concat', [x, copies], { axis }, { name: `${node.id}.split` }))
    asInitializer(layer.weight).setConstant(tensor)
    marks.split.put(node)
    count++
  }
  if (count > 0) ctx.log(`${count} layers have input channels of their own for weights that stood out`)
  return count > 0 || inlined
}

export const splitOutliers = definePass({
  name: 'split-outliers',
  summary: 'Split weights that are far larger than the others of their row, exactly',
  options,
  preserves: 'numerics',
  bakes: true,
  run,
})
