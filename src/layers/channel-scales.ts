/**
 * Factors of channels moved through a model: which groups of channels can be scaled (scale-groups.ts), and the model in
 * which whatever makes a group is multiplied by a factor and whatever reads it by its reciprocal.
 */
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Node } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { biasOf } from '../ops/facts.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { addBias, scaleWeight, whyUnfit } from './layer-algebra.ts'
import { layersByNode, type WeightLayer } from './layers.ts'
import { scaleOutputStatistics } from './output-statistics.ts'
import { scaleClip, scaleConstant } from './scale-constants.ts'
import { type ScaleFacts, ScaleGroups } from './scale-groups.ts'

export interface ChannelScales {
  readonly groups: ScaleGroups
  readonly layers: ReadonlyMap<Node, WeightLayer>
  /** The model's own node for one of its typed copy, to which groups refer. */
  nodeOf(n: Node): Node
}

/** Groups of the model's channels. Layers that are not `chosen` stay as they are. */
export async function channelScales(
  model: Model,
  chosen: readonly WeightLayer[],
  { splitClips, shareSums }: Pick<ScaleFacts, 'splitClips' | 'shareSums'>,
): Promise<ChannelScales> {
  const map: ValueMap = new Map()
  const typed = cloneModel(model, map)
  await inferTypes(typed)
  const own = new Map<Node, Node>()
  for (const n of model.graph.nodes()) {
    const y = n.outputs.find((v) => v !== null)
    const image = y && map.get(y)?.producer
    if (image) own.set(image, n)
  }
  const layers = layersByNode(model.graph)
  const wanted = new Set(chosen.map((l) => l.weight))
  const groups = new ScaleGroups({
    nodes: typed.graph.nodes(),
    layerOf: (n) => layers.get(own.get(n)!),
    whyLeft: (l) => (wanted.has(l.weight) ? null : `${l.name} is to be left alone`),
    ...{ splitClips, shareSums },
  })
  return { groups, layers, nodeOf: (n) => own.get(n)! }
}

interface Scaled {
  readonly layer: WeightLayer
  readonly byRow: Float64Array | null
  readonly byColumn: Float64Array | null
}

/**
 * Multiplies the channels of each group by its `scaleOf`, 1 for -1. Returns how many layers then have other outputs; or,
 * where float16 does not hold a weight, a string that says so, with the model unchanged.
 */
export function applyScales(
  model: Model,
  { groups, layers, nodeOf }: ChannelScales,
  scaleOf: (group: number) => number,
): number | string {
  const scaled = [...new Set(layers.values())].map((layer) => ({
    layer,
    byRow: factorsOf(groups.outputs(layer), scaleOf),
    byColumn: factorsOf(groups.inputs(layer), (g) => 1 / scaleOf(g)),
  }))
  const misfit = scaled.map(unfit).find((why) => why !== null)
  if (misfit) return misfit
  for (const { layer, byRow, byColumn } of scaled) {
    if (byColumn) scaleWeight(layer, 'inputs', byColumn)
    if (!byRow) continue
    const now = layersByNode(model.graph).get(layer.node)!
    scaleWeight(now, 'outputs', byRow)
    scaleOutputStatistics(layer.node, byRow)
    if (biasOf(layer.node)) addBias(now, { k: byRow, c: new Float64Array(byRow.length) })
  }
  for (const c of groups.constants) {
    const k = factorsOf(c.groups, scaleOf)
    if (k) scaleConstant(nodeOf(c.node), c.input, { k, inner: c.inner })
  }
  for (const c of groups.clips) {
    const k = factorsOf(c.groups, scaleOf)
    if (k) scaleClip(nodeOf(c.node), { ...c, k })
  }
  return scaled.filter((s) => s.byRow).length
}

/** What each channel is multiplied by; null if none is. */
function factorsOf(groups: Iterable<number> | null, of: (group: number) => number): Float64Array | null {
  const k = groups && Float64Array.from(groups, of)
  return k?.some((x) => x !== 1) ? k : null
}

/** Why float16 cannot hold what the layer would become; null if it can. */
function unfit({ layer, byRow, byColumn }: Scaled): string | null {
  const c = new Float64Array(1)
  return (
    (byRow && whyUnfit(layer, 'outputs', { k: byRow, c })) ??
    (byColumn && whyUnfit(layer, 'inputs', { k: byColumn, c }))
  )
}
