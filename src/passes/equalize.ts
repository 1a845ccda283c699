/**
 * Cross-layer equalisation (Nagel, van Baalen, Blankevoort, Welling, arXiv:1906.04721, section 4.1): between two layers with
 * nothing but f(s x) = s f(x) between them (ReLU and its relatives, pools, padding with zeros, Flatten), each channel i gets
 *
 *   s_i = sqrt(r1_i / r2_i)      W1 and b1 by rows / s_i,   W2 by columns * s_i
 *
 * with r1 and r2 the largest weights of the row and of the column (of all layers that read the channel), so that both are
 * sqrt(r1 r2) then. Over all pairs, again and again, until no factor changes by more than 1e-3. The network computes what it
 * computed; the ranges of channels become alike, which a step for all of them (inputs, or weights with `--granularity tensor`)
 * fits better.
 *
 * Declines, with the reason: other operators between (h-swish, sigmoid, Clip, an addition, a BatchNormalization that was not
 * folded), a channel that something else reads, shared and quantised weights, float16 weights that would leave its range.
 * Channels of zeros stay as they are. Behind `quantize` it is too late.
 */

import { type OptionsOf, optionTable } from '../base/options.ts'
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers, noteAbsent } from '../layers/choose-layers.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { type HomogeneousLink, inputChannels, linkFrom } from '../layers/homogeneous-links.ts'
import { eachRun, outputChannels, scaleOutputs, scaleWeight, whyUnfit } from '../layers/layer-algebra.ts'
import { layerOptions } from '../layers/layer-options.ts'
import { layersByNode, type WeightLayer } from '../layers/layers.ts'
import { channelSlot } from '../ops/index.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { inlineFunctions } from './inline-functions.ts'

const options = optionTable({
  ...layerOptions,
  ops: { ...layerOptions.ops, default: ['*'] },
  rounds: {
    type: 'integer',
    minimum: 1,
    default: 50,
    description: 'Rounds over all pairs of layers, at most',
  },
  ...finiteOptions,
})

/** Factors nearer to 1 are left: another round of them gains nothing. */
const SETTLED = 1e-3

/** The factors of a layer, and the largest weights that each pair of output and input channels has without them. */
interface Scaled {
  readonly layer: WeightLayer
  readonly outputs: Int32Array
  readonly inputs: Int32Array
  readonly largest: Float64Array
  readonly rowFactor: Float64Array
  readonly columnFactor: Float64Array
}

function scaledOf(layer: WeightLayer): Scaled {
  const [outputs, inputs, largest]: [number[], number[], number[]] = [[], [], []]
  const mask = layer.mask?.constant?.toFloat32()
  let first = 0
  for (const part of layer.tensor.parts()) {
    const w = part.toFloat32()
    eachRun(layer, first, w.length, (from, to, o, i) => {
      let most = 0
      for (let e = from; e < to; e++) most = Math.max(most, Math.abs(w[e]! * (mask?.[first + e] ?? 1)))
      outputs.push(o)
      inputs.push(i)
      largest.push(most)
    })
    first += w.length
  }
  return {
    layer,
    ...{ outputs: Int32Array.from(outputs), inputs: Int32Array.from(inputs), largest: Float64Array.from(largest) },
    rowFactor: new Float64Array(outputChannels(layer)).fill(1),
    columnFactor: new Float64Array(inputChannels(layer)).fill(1),
  }
}

/** Largest weight by row or by column, factors included. */
function ranges(s: Scaled, side: 'rows' | 'columns'): Float64Array {
  const by = side === 'rows' ? s.outputs : s.inputs
  const out = new Float64Array((side === 'rows' ? s.rowFactor : s.columnFactor).length)
  for (let k = 0; k < by.length; k++) {
    const value = s.largest[k]! * s.rowFactor[s.outputs[k]!]! * s.columnFactor[s.inputs[k]!]!
    if (value > out[by[k]!]!) out[by[k]!] = value
  }
  return out
}

/** One pair of layers made even; the largest change of a factor. */
function equalizeLink(link: HomogeneousLink, scaled: ReadonlyMap<WeightLayer, Scaled>): number {
  const own = scaled.get(link.from)!
  const rows = ranges(own, 'rows')
  const readers = link.readers.map(({ layer, run }) => ({ run, of: scaled.get(layer)! }))
  const columns = new Float64Array(link.channels)
  for (const { of, run } of readers)
    ranges(of, 'columns').forEach((x, i) => {
      const c = Math.floor(i / run)
      columns[c] = Math.max(columns[c]!, x)
    })
  let change = 0
  for (let c = 0; c < link.channels; c++) {
    const factor = Math.sqrt(rows[c]! / columns[c]!)
    // a channel of zeros on either side
    if (!(factor > 0) || factor === Number.POSITIVE_INFINITY) continue
    change = Math.max(change, Math.abs(Math.log(factor)))
    own.rowFactor[c]! /= factor
    for (const { of, run } of readers) for (let i = c * run; i < (c + 1) * run; i++) of.columnFactor[i]! *= factor
  }
  return change
}

const zeros = (n: number): Float64Array => new Float64Array(n)

/** Why float16 does not hold what the layer would become; null where it does. */
const unfit = ({ layer, rowFactor, columnFactor }: Scaled): string | null =>
  whyUnfit(layer, 'outputs', { k: rowFactor, c: zeros(1) }) ??
  whyUnfit(layer, 'inputs', { k: columnFactor, c: zeros(1) })

async function linksOf(model: Model, chosen: readonly WeightLayer[], ctx: PassContext): Promise<HomogeneousLink[]> {
  const map: ValueMap = new Map()
  const typed = cloneModel(model, map)
  await inferTypes(typed)
  const facts = {
    layers: layersByNode(model.graph),
    dims: (v: Value) => v.constant?.dims ?? map.get(v)?.type?.dims ?? null,
    typed: (n: Node) => map.get(n.output)?.producer ?? n,
  }
  const wanted = new Set(chosen)
  const links: HomogeneousLink[] = []
  for (const layer of chosen) {
    if (layer.slot.part || !channelSlot(layer.node)) {
      ctx.decline(layer.name, `${layer.node.op} is no product with its weight alone`)
      continue
    }
    const link = linkFrom(layer, facts)
    const stranger = typeof link === 'string' ? null : link.readers.find((r) => !isAmong(wanted, r.layer))
    if (typeof link === 'string') ctx.decline(layer.name, link)
    else if (stranger) ctx.decline(layer.name, `${stranger.layer.name} behind it is to be left alone`)
    else links.push(link)
  }
  return links
}

const isAmong = (layers: ReadonlySet<WeightLayer>, layer: WeightLayer): boolean =>
  [...layers].some((l) => l.weight === layer.weight)

async function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  const inlined = inlineFunctions(model)
  const { chosen, left, absent } = chooseLayers(model.graph, o)
  noteAbsent(absent, ctx)
  for (const { layer, reason } of left) ctx.decline(layer.name, reason)
  const links = await linksOf(model, chosen, ctx)
  const byWeight = new Map<Value, Scaled>()
  const scaled = new Map<WeightLayer, Scaled>()
  for (const layer of links.flatMap((l) => [l.from, ...l.readers.map((r) => r.layer)])) {
    const known = byWeight.get(layer.weight) ?? scaledOf(layer)
    byWeight.set(layer.weight, known)
    scaled.set(layer, known)
  }
  let first: number | null = null
  for (let round = 0; round < o.rounds; round++) {
    const change = Math.max(0, ...links.map((l) => equalizeLink(l, scaled)))
    first ??= change
    if (change <= SETTLED) break
  }
  if ((first ?? 0) <= SETTLED) return inlined
  const misfit = [...byWeight.values()].map(unfit).find((why) => why !== null)
  if (misfit) {
    ctx.decline(links[0]!.from.name, misfit)
    return inlined
  }
  for (const { layer, rowFactor, columnFactor } of byWeight.values()) {
    if (columnFactor.some((x) => x !== 1)) scaleWeight(layer, 'inputs', columnFactor)
    if (rowFactor.some((x) => x !== 1)) scaleOutputs(refreshed(model, layer), rowFactor)
  }
  ctx.log(`${links.length} pairs of layers made even`)
  return true
}

/** The layer with the weight that it has by now. */
const refreshed = (model: Model, { node }: WeightLayer): WeightLayer => layersByNode(model.graph).get(node)!

export const equalize = definePass({
  name: 'equalize',
  summary: 'Make weights of neighbouring layers alike channel by channel, where nothing but scaling lies between',
  options,
  preserves: 'numerics',
  bakes: true,
  run,
})
