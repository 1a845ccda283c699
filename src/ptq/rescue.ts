/**
 * Which layers quantisation costs most, and wider ones for them: each layer alone is put back to float in the quantised
 * network, and those that bring the outputs nearest get 8 bits, or stay float where they have 8 already.
 */
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { elementTypes } from '../graph/types.ts'
import { macsOf } from '../layers/layer-macs.ts'
import { type WeightLayer, weightLayers } from '../layers/layers.ts'
import type { Judge } from './judge.ts'
import type { PtqOptions } from './ptq-options.ts'

export interface Rescued {
  readonly layer: string
  /** Distance to the float model with this layer alone put back. */
  readonly without: number
  /** Widths, before and now; 0 is float. */
  readonly weightBits: readonly [before: number, now: number]
  readonly activationBits: readonly [before: number, now: number]
  /** What its weights take more. */
  readonly bytes: number
  /** Multiplications that are wider now, of one sample where the model has a batch dimension; null where shapes are unknown. */
  readonly macs: number | null
  /** Of all layers' multiplications. */
  readonly share: number | null
}

/** From this width on the next step up is float. */
const WIDEST = 8

const widened = (bits: number): number => (bits > 0 && bits < WIDEST ? WIDEST : 0)

/** The `count` layers whose quantisation costs most, the worst first. */
export async function worstLayers(quantised: Model, judge: Judge, count: number): Promise<readonly Rescued[]> {
  const layers = weightLayers(quantised.graph).filter((l) => l.quant || l.activationQuant)
  const measured: { layer: WeightLayer; without: number }[] = []
  for (const layer of layers) measured.push({ layer, without: (await judge.judge(putBack(quantised, layer))).distance })
  const macs = await macsOf(quantised)
  const all = layers.map((l) => macs(l.node))
  const total = all.every((m) => m !== null) ? all.reduce<number>((sum, m) => sum + m!, 0) : null
  return measured
    .toSorted((a, b) => a.without - b.without)
    .slice(0, count)
    .map(({ layer, without }) => {
      const weightBits = [layer.quant?.bits ?? 0, widened(layer.quant?.bits ?? 0)] as const
      const activationBits = [layer.activationQuant?.bits ?? 0, widened(layer.activationQuant?.bits ?? 0)] as const
      const width = (bits: number): number => (bits === 0 ? elementTypes[layer.tensor.type].bits : bits)
      const bytes = Math.round((layer.tensor.size * (width(weightBits[1]) - width(weightBits[0]))) / 8)
      const own = macs(layer.node)
      const share = total && own !== null ? own / total : null
      return { layer: layer.name, without, weightBits, activationBits, bytes, macs: own, share }
    })
}

/** A copy in which one layer is not quantised. */
function putBack(quantised: Model, layer: WeightLayer): Model {
  const map: ValueMap = new Map()
  const model = cloneModel(quantised, map)
  const { quant, activationQuant, node, slot } = layer
  if (quant?.quantize) model.graph.replaceUses(map.get(quant.dequantize.output)!, map.get(quant.source)!)
  const image = map.get(node.output)!.producer!
  if (activationQuant) image.setInput(slot.data!, map.get(activationQuant.source)!)
  return model
}

/** Options of `quantize` with the wider layers. */
export function widerOptions(o: PtqOptions, rescued: readonly Rescued[]): PtqOptions {
  const widths = (of: (r: Rescued) => readonly [number, number]): Record<string, number> =>
    Object.fromEntries(rescued.flatMap((r) => (of(r)[0] === 0 ? [] : [[r.layer, of(r)[1]]])))
  return {
    ...o,
    layerWeightBits: { ...o.layerWeightBits, ...widths((r) => r.weightBits) },
    layerActivationBits: { ...o.layerActivationBits, ...widths((r) => r.activationBits) },
  }
}

export function describeRescued({ layer, weightBits, activationBits, bytes, macs, share }: Rescued): string {
  const width = ([before, now]: readonly [number, number]): string =>
    before === 0 ? 'float' : `${before} to ${now === 0 ? 'float' : `${now} bits`}`
  const work =
    macs === null || share === null
      ? 'an unknown number of MACs'
      : `${macs.toLocaleString('en')} MACs, ${(100 * share).toFixed(1)} % of all,`
  return `${layer}: weights ${width(weightBits)}, inputs ${width(activationBits)}; ${bytes.toLocaleString('en')} bytes more, ${work} wider`
}
