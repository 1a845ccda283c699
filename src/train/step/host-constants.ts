/**
 * What the host changes in a model while it is trained: prune masks, recomputed from the latent weights (dynamic masks,
 * weights may regrow), and the scales of weight quantisers, refitted to the weights. All by the rules that the passes
 * wrote into the graph.
 */
import { marks } from '../../graph/marks.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type WeightLayer, weightLayers } from '../../layers/layers.ts'
import { recomputeMasks } from '../../passes/insert-prune-mask.ts'
import { refitWeightScales } from '../../quant/refit-scales.ts'

/** Frozen layers keep their masks and scales: their weights do not move. */
const movingLayers = (model: Model): WeightLayer[] =>
  weightLayers(model.graph).filter((l) => !marks.frozen.is(l.node) && !marks.frozen.is(l.weight))

/** Names of the initializers that refreshMasks and refitScales may replace. */
export function hostConstantNames(model: Model, options: { masks: boolean; scales: boolean }): Set<string> {
  const names = new Set<string>()
  for (const l of movingLayers(model)) {
    if (options.masks && l.mask?.constant) names.add(l.mask.name)
    if (options.scales && l.quant?.scale.constant) names.add(l.quant.scale.name)
  }
  return names
}

/**
 * Recomputes every mask from the model's present weights, at `progress` of its sparsity; returns the fraction of entries
 * that changed.
 */
export function refreshMasks(model: Model, progress = 1): number {
  const layers = movingLayers(model).filter((l) => l.mask?.constant)
  let changed = 0
  let total = 0
  for (const [layer, mask] of recomputeMasks(layers, (l) => l.tensor.toFloat32(), progress)) {
    const old = layer.mask!.constant!
    const before = old.toFloat32()
    for (let i = 0; i < mask.length; i++) if (mask[i] !== before[i]) changed++
    total += mask.length
    layer.mask!.setConstant(Tensor.from(old.type, old.dims, mask))
  }
  return total === 0 ? 0 : changed / total
}

/** Fits the scales of all weight quantisers to the present, masked weights, by the method that the pass used. */
export function refitScales(model: Model): void {
  for (const l of movingLayers(model)) refitWeightScales(l)
}
