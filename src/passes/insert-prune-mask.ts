/**
 * Prunes by magnitude: a 0/1 mask as an initializer, and Mul(W, mask) between the weight and the layer. W keeps its
 * dense latent values, so a later run, or training, can move the mask. Which weights go: see magnitude.ts.
 *
 * Run again it prunes on: what a mask holds at zero stays there and counts as smallest, so that both patterns hold, and
 * so does the larger sparsity (--replace chooses again among all weights). Scales of quantised weights are refitted.
 *
 * Node metadata: mnc.role=prune-mask, mnc.pattern, mnc.scope (`layer`, or `adaptive-layer`, for layers with a sparsity of their
 * own), mnc.sparsity (the target): the rule by which training can move the mask. A mask that no single rule gives has the
 * pattern `combined`, which training leaves as it is. Does not apply to integer weights, to weights that something other than layers reads, and
 * for N:M to layers whose input channels are not a multiple of M.
 */

import { usageError } from '../base/errors.ts'
import { type OptionsOf, optionTable } from '../base/options.ts'
import { channelsOf, channelTies, formatChannels } from '../channels/channel-ties.ts'
import type { Value } from '../graph/graph.ts'
import { marks, putMarks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { chooseLayers, noteAbsent } from '../layers/choose-layers.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { layerOptions } from '../layers/layer-options.ts'
import {
  asInitializer,
  firstUse,
  PRUNE_MASK,
  rewire,
  WEIGHT_QUANT,
  type WeightLayer,
  weightLayers,
} from '../layers/layers.ts'
import {
  computeMasks,
  type MaskRule,
  maskRules,
  type PrunableLayer,
  type PruneScope,
  parsePattern,
} from '../layers/magnitude.ts'
import { mapNamed } from '../layers/select.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { adviseRemoval, refuseCalibrated } from '../pass-manager/pass-order.ts'
import { refitWeightScales } from '../quant/refit-scales.ts'
import { inlineFunctions } from './inline-functions.ts'

const DEFAULT_SPARSITY = 0.75
/** `mnc.pattern` of a mask that is more than one rule's. */
const COMBINED = 'combined'

const options = optionTable({
  sparsity: {
    type: 'share',
    minimum: 0,
    below: true,
    description: 'Share of weights to set to zero (of output channels for --pattern channel); 0.75 by default',
  },
  scope: {
    type: 'string',
    enum: ['global', 'layer', 'adaptive'],
    default: 'global',
    description:
      'One magnitude threshold for all layers, one for each, or one for all by the share of a weight in its output channel, which is the same however channels are scaled',
  },
  pattern: {
    type: 'string',
    default: 'unstructured',
    suggestions: ['unstructured', '2:4', '4:8', 'channel'],
    description: 'unstructured, N:M along input channels (2:4, 4:8), or channel',
  },
  replace: {
    type: 'boolean',
    description: 'Choose again among all weights, pruned ones included, in place of earlier masks',
  },
  ...layerOptions,
  layerSparsity: {
    type: 'shareMap',
    minimum: 0,
    below: true,
    description: 'Sparsity of individual layers, by name (globs): conv1=0.5,fc=0.9, or @FILE',
  },
  ...finiteOptions,
})

/**
 * A layer's weights as maskRules takes them (the axes count for structured patterns only); `weights` replaces the graph's
 * (training holds newer ones).
 */
function prunable(
  { tensor, inputAxis, outputAxis }: WeightLayer,
  channels: readonly number[] | null,
  weights = tensor,
): PrunableLayer {
  return { weights, inputAxis: inputAxis ?? 0, outputAxis: outputAxis ?? 0, channels }
}

/**
 * Masks of all pruned layers, recomputed from latent weights, by the rule written on their mask nodes: what training does with
 * moving masks. `latent` gives a layer's present weights. Layers sharing a global threshold are those with scope
 * `global` and the same pattern and sparsity. `progress` < 1 gives masks on the way there: that fraction of the sparsity,
 * or of the channels that N:M removes from each M.
 */
export function recomputeMasks(
  layers: readonly WeightLayer[],
  latent: (layer: WeightLayer) => Float32Array,
  progress = 1,
): Map<WeightLayer, Float32Array> {
  const groups = new Map<string, WeightLayer[]>()
  for (const l of layers) {
    if (!l.maskNode || marks.pattern.get(l.maskNode) === COMBINED) continue
    const key = JSON.stringify([marks.pattern, marks.scope, marks.sparsity].map((m) => m.text(l.maskNode)))
    const group = groups.get(key)
    if (group) group.push(l)
    else groups.set(key, [l])
  }
  const out = new Map<WeightLayer, Float32Array>()
  for (const [key, group] of groups) {
    const [pattern, scope, sparsity] = JSON.parse(key) as [string, PruneScope, string]
    const input = new Map<PrunableLayer, WeightLayer>()
    for (const l of group) input.set(prunable(l, channelsOf(l), Tensor.float32(l.tensor.dims, latent(l))), l)
    const options = { pattern, scope, sparsity: Number(sparsity) * progress, progress }
    for (const [l, mask] of computeMasks([...input.keys()], options)) out.set(input.get(l)!, mask)
  }
  return out
}

/** Of a layer with a sparsity of its own. */
const ownScope = (scope: PruneScope): PruneScope => (scope === 'adaptive' ? 'adaptive-layer' : 'layer')

function checkOptions({ sparsity, scope, pattern, layerSparsity = {} }: OptionsOf<typeof options>): number {
  if (scope === 'adaptive' && pattern !== 'unstructured')
    throw usageError(`--scope adaptive cannot be combined with --pattern ${pattern}`, 'use --scope global or layer')
  const nm = parsePattern(pattern)
  if (!nm) return sparsity ?? DEFAULT_SPARSITY
  const implied = 1 - nm[0] / nm[1]
  if (sparsity !== undefined && Math.abs(sparsity - implied) > 1e-9)
    throw usageError(
      `--pattern ${pattern} makes ${implied} of the weights zero, not ${sparsity}`,
      'leave out --sparsity',
    )
  if (Object.keys(layerSparsity).length > 0)
    throw usageError(`--layer-sparsity cannot be combined with --pattern ${pattern}`)
  return implied
}

/** And the option that would include it, if there is one. */
function whyNot(layer: WeightLayer, pattern: string): readonly [reason: string, remedy?: string] | null {
  const { tensor, otherUser, inputAxis, outputAxis, slot } = layer
  if (!tensor.type.includes('float')) return [`its weights are already integers (${tensor.type})`]
  if (otherUser) return [`its weights are also read by ${otherUser.label}`]
  const single = '--pattern unstructured'
  if (pattern === 'channel' && slot.part) return ['its rows are gates, none of which can be removed alone', single]
  const hidden = pattern === 'channel' ? outputAxis === null : parsePattern(pattern) !== null && inputAxis === null
  if (hidden) return ['a Reshape of its weights hides the channel axes', single]
  return null
}

/** Puts a mask of W's shape on the layer, in place of an earlier one. True where anything changed. */
function applyMask(layer: WeightLayer, { weights, held, rule, isCombined, facts }: MaskPlan): boolean {
  const { tensor, maskNode, mask: old } = layer
  const point = layer.maskPoint === layer.weight ? asInitializer(layer.weight) : layer.maskPoint
  const type = point === layer.weight || point.constant ? tensor.type : 'float32'
  const alone = weights.mapFloats(type, rule)
  if (maskNode && old) {
    const next = held ? alone.mapFloats(type, (values, first) => zeroWhere(held, values, first, 0)) : alone
    const same = old.constant?.equals(next) ?? false
    if (!same) old.setConstant(next)
    if (same && isCombined) return false
    return putMarks(maskNode, isCombined ? marks.pattern.entry(COMBINED) : facts) || !same
  }
  const { graph } = point
  const value = graph.addInitializer(`${layer.weight.name}.mask`, alone)
  marks.role.set(value, PRUNE_MASK)
  const masked = insertMul(point, value, `${layer.weight.name}.masked`)
  putMarks(masked.producer!, { ...marks.role.entry(PRUNE_MASK), ...facts })
  if (marks.frozen.is(layer.weight)) for (const x of [value, masked.producer!]) marks.frozen.put(x)
  return true
}

interface MaskPlan {
  /** What the rule is for. */
  readonly weights: Tensor
  /** An earlier mask, whose zeros stay. */
  readonly held: Tensor | null
  readonly rule: MaskRule
  /** The rule alone, for all weights, would leave something of `held` out. */
  readonly isCombined: boolean
  readonly facts: Readonly<Record<string, string>>
}

/** The smallest float32 above 0: a zero that no mask holds there is pruned after those that one does. */
const LEAST = 2 ** -149

/** The layer's weights as they count for a rule: 0 where `held` is. */
const effective = ({ tensor }: WeightLayer, held: Tensor | null): Tensor =>
  held ? tensor.mapFloats('float32', (values, first) => zeroWhere(held, values, first, LEAST)) : tensor

/** `values` become 0 where `held` is; those that are 0 otherwise become `zero`. */
function zeroWhere(held: Tensor, values: Float32Array, first: number, zero: number): void {
  const kept = held.range(first, values.length).toFloat32()
  for (let i = 0; i < values.length; i++) values[i] = kept[i] === 0 ? 0 : values[i] || zero
}

/** Layers of which a rule for all weights would not leave all zeros at zero that an earlier mask holds. */
function combinedLayers(
  held: ReadonlyMap<WeightLayer, Tensor | null>,
  rulesOf: (layers: readonly WeightLayer[]) => ReadonlyMap<WeightLayer, MaskRule | undefined>,
): Set<WeightLayer> {
  const layers = [...held].filter(([, mask]) => mask).map(([l]) => l)
  const found = new Set<WeightLayer>()
  if (layers.length === 0) return found
  for (const [layer, rule] of rulesOf(layers)) {
    if (!rule) continue
    const alone = layer.tensor.mapFloats('float32', rule)
    const both = alone.mapFloats('float32', (values, first) => zeroWhere(held.get(layer)!, values, first, 0))
    if (!both.equals(alone)) found.add(layer)
  }
  return found
}

function insertMul(point: Value, mask: Value, name: string): Value {
  const users = [...point.uses]
  const masked = point.graph.before(firstUse(point)).op('Mul', [point, mask], {}, { name })
  rewire(users, point, masked)
  return masked
}

async function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  const sparsity = checkOptions(o)
  const inlined = inlineFunctions(model)
  const { chosen, left, absent } = chooseLayers(model.graph, o)
  noteAbsent(absent, ctx)
  const decline = (layer: WeightLayer, reason: string, remedy?: string): void =>
    ctx.decline(layer.name, reason, layer.maskNode ? undefined : { weights: layer.tensor.size, remedy })
  for (const { layer, reason, remedy } of left) decline(layer, reason, remedy)
  const overrides = mapNamed(o.layerSparsity ?? {}, chosen, 'layer')
  const fit = chosen.filter((layer) => {
    const [reason, remedy] = whyNot(layer, o.pattern) ?? []
    if (reason) decline(layer, reason, remedy)
    return !reason
  })
  refuseCalibrated(
    model.graph,
    fit.flatMap((l) => l.users),
    'prune',
  )
  const ties = o.pattern === 'channel' ? await channelTies(model, fit) : null
  const held = new Map(fit.map((l) => [l, (!o.replace && l.mask?.constant) || null]))
  const input = new Map(fit.map((l) => [l, prunable(l, ties?.get(l) ?? null, effective(l, held.get(l)!))]))
  const rulesFor = (of: ReadonlyMap<WeightLayer, PrunableLayer>) =>
    maskRules([...of.values()], {
      ...{ sparsity, scope: o.scope, pattern: o.pattern },
      overrides: new Map([...overrides].map(([l, own]) => [of.get(l)!, own])),
    })
  const rules = rulesFor(input)
  const combined = combinedLayers(held, (layers) => {
    const latent = new Map(fit.map((l) => [l, prunable(l, ties?.get(l) ?? null)]))
    const alone = rulesFor(latent)
    return new Map(layers.map((l) => [l, alone.get(latent.get(l)!)]))
  })
  // layers with one threshold have one rule or none
  const pooled = o.scope !== 'layer' && combined.size > 0
  let changed = inlined
  const fitted = new Set<string>()
  let kept = 0
  for (const layer of fit) {
    const rule = rules.get(input.get(layer)!)
    if (!rule) {
      const channels = layer.tensor.dims[layer.inputAxis!]
      const reason = `${channels} input channels are not a multiple of ${parsePattern(o.pattern)?.[1]}`
      decline(layer, reason, '--pattern unstructured')
      continue
    }
    const own = overrides.get(layer)
    if (own === 0 && !layer.maskNode) {
      decline(layer, 'its sparsity is set to 0', `--layer-sparsity ${layer.name}=${sparsity}`)
      continue
    }
    const channels = ties?.get(layer)
    const facts = {
      ...marks.pattern.entry(o.pattern),
      ...marks.scope.entry(own === undefined ? o.scope : ownScope(o.scope)),
      ...marks.sparsity.entry(own ?? sparsity),
      ...(channels && own === undefined && marks.channels.entry(formatChannels(channels))),
    }
    const plan = {
      weights: input.get(layer)!.weights,
      held: held.get(layer)!,
      rule,
      isCombined: pooled || combined.has(layer),
      facts,
    }
    if (!applyMask(layer, plan)) continue
    if (plan.held) kept++
    changed = true
    if (marks.role.get(layer.quant?.dequantize) === WEIGHT_QUANT) fitted.add(layer.weight.name)
  }
  if (kept > 0) ctx.log(`${kept} layers were pruned before: their zeros stay (--replace chooses again)`)
  const advice = changed && o.pattern === 'channel' ? adviseRemoval(model) : null
  if (advice) ctx.log(advice)
  if (fitted.size > 0) for (const l of weightLayers(model.graph)) if (fitted.has(l.weight.name)) refitWeightScales(l)
  return changed
}

export const insertPruneMask = definePass({
  name: 'insert-prune-mask',
  alias: 'prune',
  summary: 'Prune weights by magnitude: Mul(W, mask), keeping the latent weights',
  options,
  preserves: 'interface',
  treatsWeights: true,
  bakes: true,
  requires: (_model, o) => {
    checkOptions(o)
  },
  run,
})
