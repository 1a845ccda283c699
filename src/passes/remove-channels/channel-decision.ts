/** Which channels of a model go, decided on an upgraded copy with known shapes. */
import { parseOptions } from '../../base/options.ts'
import { ChannelConstants } from '../../channels/channel-constants.ts'
import { type ChannelPlan, planChannels } from '../../channels/channel-plan.ts'
import { ChannelSlots } from '../../channels/channel-slots.ts'
import { channelStatistics } from '../../channels/channel-statistics.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { isStatic } from '../../graph/types.ts'
import { toWorkingOpset } from '../../ops/raise-opset.ts'
import type { PassContext } from '../../pass-manager/define-pass.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'
import { type Named, probe } from '../../samples/probe.ts'
import { foldConstants } from '../fold-constants.ts'
import { inlineFunctions } from '../inline-functions.ts'
import type { ChannelSamples } from './channel-samples.ts'

export interface ChannelDecision {
  readonly plan: ChannelPlan
  readonly slots: ChannelSlots
  /** The model, upgraded; its values have the names and, at the samples' size, the shapes that they have there. */
  readonly lifted: Model
}

export async function decideChannels(model: Model, samples: ChannelSamples): Promise<ChannelDecision> {
  const lifted = cloneModel(model)
  await liftModel(lifted)
  const { graph } = lifted
  for (const v of graph.inputs) {
    const dims = samples.dims[v.name]
    if (v.type && dims) v.setType({ elem: v.type.elem, dims })
  }
  await inferTypes(lifted)
  await settleDims(lifted, samples.seen[0]!)
  // sizes were only needed to tell channels; it still runs at others
  for (const v of graph.inputs) {
    const type = model.graph.find(v.name)?.type
    if (type) v.setType(type)
  }
  const nodes = [...graph.nodes()]
  const slots = new ChannelSlots(graph, (v) => v.constant?.dims ?? v.type?.dims ?? null)
  const seen = await channelStatistics(lifted, slots, samples.seen)
  return { lifted, slots, plan: planChannels(nodes, slots, new ChannelConstants(nodes, slots, seen, !samples.varied)) }
}

/** Shapes that inference leaves open, taken from one run. */
async function settleDims(model: Model, feeds: Named): Promise<void> {
  const values = [...model.graph.nodes()].flatMap((n) => n.outputs)
  const open = values.filter((v): v is Value => !!v?.type && !isStatic(v.type.dims))
  if (open.length === 0) return
  const copy = cloneModel(model)
  const { graph } = copy
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const names = open.map((v) => {
    const shape = graph.append().op('Shape', [graph.find(v.name)!])
    graph.addOutput(shape)
    return shape.name
  })
  const [seen] = await probe(copy, [feeds])
  open.forEach((v, i) => {
    v.setType({ elem: v.type!.elem, dims: Array.from(seen![names[i]!]!.toNumbers()) })
  })
}

/** What exporters compute from constants (the pads of a Pad, the axes of a Resize) is then known. */
export async function liftModel(model: Model): Promise<void> {
  inlineFunctions(model)
  toWorkingOpset(model)
  const quiet: PassContext = { decline() {}, log() {}, seed: 0 }
  await foldConstants.run(model, parseOptions(foldConstants.options, {}, foldConstants.name), quiet)
}
