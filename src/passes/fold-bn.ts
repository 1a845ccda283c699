/**
 * Folds inference-mode BatchNormalization, y = x * k + c with k = gamma / sqrt(var + eps), c = beta - mean * k, into the
 * layer before it (W' = W * k per output channel, b' = b * k + c), or into the layer after it
 * (W' = W * k per input channel, b' = b + sum(W * c)), where that is exact. Conv, ConvTranspose, Gemm, MatMul.
 *
 * Declines, with the reason: training mode, parameters that are computed, a shared weight, a quantised weight (its
 * integers would change; a prune mask is no obstacle), other readers of the value between, padding where c is not zero
 * (padded zeros are not normalised), float16 weights that would leave the range of float16, MatMul of a rank other than
 * 2, neighbours that are not layers. Where only quantisers of ours stand in the way it refuses: after `quantize` it is
 * too late.
 */

import type { Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import {
  addBias,
  canBias,
  canShiftInputs,
  editableLayer,
  outputChannels,
  scaleWeight,
  shiftOfInputs,
  whyUnfit,
} from '../layers/layer-algebra.ts'
import { layersByNode, WEIGHT_QUANT, type WeightLayer } from '../layers/layers.ts'
import { setOutputStatistics } from '../layers/output-statistics.ts'
import { QUANT_GUARD } from '../layers/quant-pair.ts'
import { rankLookup } from '../layers/ranks.ts'
import { removeUnused } from '../layers/remove-unused.ts'
import { constantOf, isChannelNorm } from '../ops/facts.ts'
import { type ChannelAffine, channelSlot, findOp } from '../ops/index.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { comesTooLate, quantisesActivation } from '../pass-manager/pass-order.ts'

interface Facts {
  readonly layers: ReadonlyMap<Node, WeightLayer>
  readonly rank: (v: Value) => number | null
}

const isLayerNode = (n: Node): boolean => channelSlot(n) !== undefined

/** Folds into the layer that produces the BN's input; returns the reason where it cannot. */
function foldBack(bn: Node, affine: ChannelAffine, { layers, rank }: Facts): string | null {
  const x = bn.input(0)
  const node = x.producer
  if (!node) return `it follows the graph input '${x.name}'`
  if (!isLayerNode(node)) return `it follows ${node.label}`
  if (x.uses.size > 1 || x.isOutput) return `its input '${x.name}' is also read elsewhere`
  const layer = layers.get(node)
  if (!layer) return `the weight of ${node.label} is computed`
  const why = editableLayer(layer) ?? canBias(node, outputChannels(layer), rank) ?? whyUnfit(layer, 'outputs', affine)
  if (why) return why
  scaleWeight(layer, 'outputs', affine.k)
  const biased = addBias(layer, affine)
  rememberOutputs(bn, layer)
  bn.graph.replaceUses(bn.output, biased)
  return null
}

/** What the normalisation gave is what the layer gives now: normal, with its shift and scale. */
function rememberOutputs(bn: Node, { node }: WeightLayer): void {
  if (!isChannelNorm(bn)) return
  const [scale, shift] = findOp(bn)!.parameters!.map((i) => constantOf(bn.inputs[i])?.toNumbers())
  if (!scale || !shift) return
  setOutputStatistics(node, { mean: Float64Array.from(shift), deviation: Float64Array.from(scale, (s) => Math.abs(s)) })
}

/** Folds into the only layer that reads the BN's output; returns the reason where it cannot. */
function foldForward(bn: Node, affine: ChannelAffine, { layers, rank }: Facts): string | null {
  const y = bn.output
  const [node, ...others] = y.uses
  if (!node || others.length > 0 || y.isOutput) return `its output '${y.name}' is read by several nodes`
  if (!isLayerNode(node)) return `it precedes ${node.label}`
  const layer = layers.get(node)
  if (!layer || node.inputs.lastIndexOf(y) !== 0) return `it is not the data input of ${node.label}`
  const channels = outputChannels(layer)
  const why = editableLayer(layer) ?? canShiftInputs(node, affine, rank) ?? canBias(node, channels, rank)
  if (why) return why
  const shift = shiftOfInputs(layer, affine.c, channels)
  const unfit = whyUnfit(layer, 'inputs', { k: affine.k, c: shift })
  if (unfit) return unfit
  const out = node.output
  scaleWeight(layer, 'inputs', affine.k)
  bn.graph.replaceUses(y, bn.input(0))
  const biased = addBias(layer, { k: new Float64Array(channels).fill(1), c: shift })
  if (biased !== out) bn.graph.replaceUses(out, biased, biased.producer!)
  return null
}

/** The layer into which the normalisation could be folded, were it not for quantisers of ours; null if there is none. */
function quantisedNeighbour(bn: Node, affine: ChannelAffine, { layers, rank }: Facts): Node | null {
  const couldEdit = (node: Node): boolean => {
    const layer = layers.get(node)
    if (!layer || !isLayerNode(node)) return false
    return editableLayer({ ...layer, quant: null }) === null && canBias(node, outputChannels(layer), rank) === null
  }
  const isOurs = (node: Node): boolean => marks.role.get(layers.get(node)?.quant?.dequantize) === WEIGHT_QUANT
  const x = bn.input(0)
  const before = x.producer
  if (before && x.uses.size === 1 && !x.isOutput && isOurs(before) && couldEdit(before)) return before
  let y = bn.output
  for (let [n] = y.uses; n && y.uses.size === 1 && !y.isOutput && belongsToQuantiser(n); [n] = y.uses) y = n.output
  const [behind, ...others] = y.uses
  if (!behind || others.length > 0 || y.isOutput || behind.inputs.lastIndexOf(y) !== 0) return null
  if (!isOurs(behind) && y === bn.output) return null
  return couldEdit(behind) && canShiftInputs(behind, affine, rank) === null ? behind : null
}

const belongsToQuantiser = (n: Node): boolean => quantisesActivation(n) || marks.role.get(n) === QUANT_GUARD

async function run(model: Model, _o: unknown, ctx: PassContext): Promise<boolean> {
  const { graph } = model
  let changed = false
  let rank: Facts['rank'] | null = null
  for (const bn of graph.nodes()) {
    const affine = findOp(bn)?.affine?.(bn, model.opset, constantOf)
    if (affine === undefined) continue
    if (typeof affine === 'string') {
      ctx.decline(bn.id, affine)
      continue
    }
    const ofAnyRank = [bn.input(0).producer, ...bn.output.uses].some((n) => n && channelSlot(n)?.channels === 'rows')
    if (ofAnyRank) rank ??= await rankLookup(model)
    const layers = layersByNode(graph)
    const facts: Facts = { layers, rank: rank ?? (() => null) }
    const back = foldBack(bn, affine, facts)
    const forward = back && foldForward(bn, affine, facts)
    if (forward) {
      const late = quantisedNeighbour(bn, affine, facts)
      if (late) throw comesTooLate('fold-bn', `${late.label} is quantised already`, bn.id)
      ctx.decline(bn.id, `${back}; ${forward}`)
      continue
    }
    removeUnused([bn])
    changed = true
  }
  return changed
}

export const foldBn = definePass({
  name: 'fold-bn',
  summary: 'Fold BatchNormalization into the layer before or after it',
  options: finiteOptions,
  preserves: 'numerics',
  bakes: true,
  run,
})
