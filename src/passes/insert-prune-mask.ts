/**
 * Prunes by magnitude: a 0/1 mask as an initializer, and Mul(W, mask) between the weight and the layer. W keeps its
 * dense latent values, so a later run, or training, can move the mask. Which weights go: see magnitude.ts.
 *
 * Node metadata: mnc.role=prune-mask, mnc.pattern, mnc.scope (`layer` for layers with a sparsity of their own),
 * mnc.sparsity (the target). Run again with other options it updates the masks in place; masks of layers that are then
 * excluded stay as they are. Does not apply to integer weights, to weights that something other than layers reads, and
 * for N:M to layers whose input channels are no multiple of M.
 */
import { usageError } from '../errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { type OptionsOf, optionTable } from '../options.ts'
import { CHANNELS_KEY, channelsOf, channelTies, formatChannels } from './channel-ties.ts'
import { chooseLayers } from './choose-layers.ts'
import { definePass, type PassContext } from './define-pass.ts'
import { finiteOptions } from './finite-options.ts'
import { inlineFunctions } from './inline-functions.ts'
import { layerOptions } from './layer-options.ts'
import { asInitializer, firstUse, PRUNE_MASK, ROLE_KEY, rewire, type WeightLayer } from './layers.ts'
import {
  computeMasks,
  type MaskRule,
  maskRules,
  type PrunableLayer,
  type PruneScope,
  parsePattern,
} from './magnitude.ts'
import { mapNamed } from './select.ts'

const DEFAULT_SPARSITY = 0.75

const options = optionTable({
  sparsity: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 1,
    description: 'Fraction of weights to zero (of output channels for --pattern channel); 0.75 by default',
  },
  scope: {
    type: 'string',
    enum: ['global', 'layer'],
    default: 'global',
    description: 'One magnitude threshold for all layers, or one for each',
  },
  pattern: {
    type: 'string',
    default: 'unstructured',
    description: 'unstructured, N:M along input channels (2:4, 4:8), or channel',
  },
  ...layerOptions,
  layerSparsity: {
    type: 'numberMap',
    description: 'Sparsity of single layers, by name (globs): conv1=0.5,fc=0.9, or @FILE',
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
 * Masks of all pruned layers anew from latent weights, by the rule written on their mask nodes: what training does with
 * moving masks. `latent` gives a layer's present weights. Layers sharing a global threshold are those with scope
 * `global` and the same pattern and sparsity. `progress` < 1 gives masks on the way there: that share of the sparsity,
 * or of the channels that N:M takes from each M.
 */
export function recomputeMasks(
  layers: readonly WeightLayer[],
  latent: (layer: WeightLayer) => Float32Array,
  progress = 1,
): Map<WeightLayer, Float32Array> {
  const groups = new Map<string, WeightLayer[]>()
  for (const l of layers) {
    if (!l.maskNode) continue
    const key = JSON.stringify(['mnc.pattern', 'mnc.scope', 'mnc.sparsity'].map((k) => l.maskNode?.metadata.get(k)))
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

function checkOptions({ sparsity, pattern, layerSparsity = {} }: OptionsOf<typeof options>): number {
  const nm = parsePattern(pattern)
  for (const [name, s] of Object.entries(layerSparsity))
    if (!(s >= 0 && s < 1)) throw usageError(`--layer-sparsity ${name}=${s} must be >= 0 and < 1`)
  if (!nm) return sparsity ?? DEFAULT_SPARSITY
  const implied = 1 - nm[0] / nm[1]
  if (sparsity !== undefined && Math.abs(sparsity - implied) > 1e-9)
    throw usageError(
      `--pattern ${pattern} makes ${implied} of the weights zero, not ${sparsity}`,
      'leave out --sparsity',
    )
  if (Object.keys(layerSparsity).length > 0) throw usageError(`--layer-sparsity does not go with --pattern ${pattern}`)
  return implied
}

function whyNot(layer: WeightLayer, pattern: string): string | null {
  const { tensor, otherUser, inputAxis, outputAxis } = layer
  if (!tensor.type.includes('float')) return `its weights are already integers (${tensor.type})`
  if (otherUser) return `its weights are also read by ${otherUser.label}`
  const hidden = pattern === 'channel' ? outputAxis === null : parsePattern(pattern) !== null && inputAxis === null
  if (hidden) return 'a Reshape of its weights hides the channel axes'
  return null
}

function markMask(node: Node, facts: Readonly<Record<string, string>>): boolean {
  let changed = false
  for (const [k, v] of Object.entries(facts)) {
    if (node.metadata.get(k) === v) continue
    node.metadata.set(k, v)
    changed = true
  }
  return changed
}

/** Puts a mask of W's shape on the layer, in place of an earlier one. True where anything changed. */
function applyMask(layer: WeightLayer, rule: MaskRule, facts: Readonly<Record<string, string>>): boolean {
  const { tensor, maskNode, mask: old } = layer
  const point = layer.maskPoint === layer.weight ? asInitializer(layer.weight) : layer.maskPoint
  const next = tensor.mapFloats(point === layer.weight || point.constant ? tensor.type : 'float32', rule)
  if (maskNode && old) {
    const same = old.constant?.equals(next) ?? false
    if (!same) old.setConstant(next)
    return markMask(maskNode, facts) || !same
  }
  const { graph } = point
  const value = graph.addInitializer(`${layer.weight.name}.mask`, next)
  value.metadata.set(ROLE_KEY, PRUNE_MASK)
  const masked = insertMul(point, value, `${layer.weight.name}.masked`)
  markMask(masked.producer!, { [ROLE_KEY]: PRUNE_MASK, ...facts })
  return true
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
  const { chosen, left } = chooseLayers(model.graph, o)
  for (const { layer, reason } of left) ctx.decline(layer.name, reason)
  const fit = chosen.filter((layer) => {
    const reason = whyNot(layer, o.pattern)
    if (reason) ctx.decline(layer.name, reason)
    return !reason
  })
  const overrides = mapNamed(o.layerSparsity ?? {}, fit, 'layer')
  const ties = o.pattern === 'channel' ? await channelTies(model, fit) : null
  const input = new Map(fit.map((l) => [l, prunable(l, ties?.get(l) ?? null)]))
  const rules = maskRules([...input.values()], {
    ...{ sparsity, scope: o.scope, pattern: o.pattern },
    overrides: new Map([...overrides].map(([l, own]) => [input.get(l)!, own])),
  })
  let changed = inlined
  for (const layer of fit) {
    const rule = rules.get(input.get(layer)!)
    if (!rule) {
      const channels = layer.tensor.dims[layer.inputAxis!]
      ctx.decline(layer.name, `${channels} input channels are no multiple of ${parsePattern(o.pattern)?.[1]}`)
      continue
    }
    const own = overrides.get(layer)
    if (own === 0 && !layer.maskNode) {
      ctx.decline(layer.name, 'its sparsity is set to 0')
      continue
    }
    const channels = ties?.get(layer)
    const facts = {
      'mnc.pattern': o.pattern,
      'mnc.scope': own === undefined ? o.scope : 'layer',
      'mnc.sparsity': String(own ?? sparsity),
      ...(channels && own === undefined && { [CHANNELS_KEY]: formatChannels(channels) }),
    }
    if (applyMask(layer, rule, facts)) changed = true
  }
  return changed
}

export const insertPruneMask = definePass({
  name: 'insert-prune-mask',
  alias: 'prune',
  summary: 'Prune weights by magnitude: Mul(W, mask), the latent weights kept',
  options,
  preserves: 'interface',
  bakes: true,
  requires: (_model, o) => {
    checkOptions(o)
  },
  run,
})
