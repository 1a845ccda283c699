/** Means of the outputs of layers, by channel, in a quantised network and in a float one run alongside. */
import { modelError } from '../base/errors.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { elementTypes } from '../graph/types.ts'
import { biasedOutput, outputChannels } from '../layers/layer-algebra.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { isMatrixProduct } from '../ops/facts.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import type { FloatReference } from './bypass-quantisers.ts'
import { LayerWalk, type WalkSite } from './layer-walk.ts'

interface Of {
  readonly layer: WeightLayer
}

export interface OutputDifference {
  /** Mean of the float network's output less that of the quantised one's, by channel. */
  readonly difference: Float64Array
  /** The largest mean of either, without its sign. */
  readonly largest: number
}

/** A walk that measures means of these layers' outputs. */
export const meansWalk = (
  model: Model,
  layers: readonly Of[],
  data: CalibrationData,
  options: { readonly reference: FloatReference; readonly allowNonfinite?: boolean | undefined },
): LayerWalk =>
  new LayerWalk(
    model,
    data,
    layers.map(
      ({ layer }) =>
        (site) =>
          probeOf(site, layer).held,
    ),
    options,
  )

/** By layer, of layers none of which depends on another of them, in graph order. */
export async function outputDifferences(
  walk: LayerWalk,
  layers: readonly Of[],
): Promise<Map<WeightLayer, OutputDifference>> {
  let probes: MeanProbe[] = []
  const sums = layers.map(({ layer }) => ({
    ...{ here: new Float64Array(outputChannels(layer)), there: new Float64Array(outputChannels(layer)), count: 0 },
  }))
  let seen = 0
  const add = (site: WalkSite): Value[] => {
    probes = layers.map(({ layer }) => probeOf(site, layer))
    return probes.flatMap((p) => p.held)
  }
  await walk.step(layers[0]!.layer.node, add, ({ out, size, count }) => {
    // a last batch that is filled up with copies is left out where there are others
    if (count < size && seen > 0) return
    seen += count
    for (const [i, { shape, here, there }] of probes.entries()) {
      const positions = out[shape]!.toNumbers()[2]!
      const sum = sums[i]!
      sum.count += positions
      addTimes(sum.here, out[here]!.toFloat32(), positions)
      addTimes(sum.there, out[there]!.toFloat32(), positions)
    }
  })
  return new Map(layers.map(({ layer }, i) => [layer, differenceOf(layer, sums[i]!)]))
}

function addTimes(sum: Float64Array, values: Float32Array, factor: number): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += factor * values[i]!
}

interface Sums {
  readonly here: Float64Array
  readonly there: Float64Array
  readonly count: number
}

function differenceOf({ name }: WeightLayer, { here, there, count }: Sums): OutputDifference {
  const difference = there.map((x, i) => (x - here[i]!) / Math.max(1, count))
  if (difference.some((x) => !Number.isFinite(x)))
    throw modelError('not-finite', `outputs of '${name}' are not finite on the calibration data`, {
      next: 'check the preprocessing (--mean --std --scale) and the model',
    })
  const largest = [...here, ...there].reduce((m, x) => Math.max(m, Math.abs(x)), 0) / Math.max(1, count)
  return { difference, largest }
}

interface MeanProbe {
  readonly held: readonly Value[]
  readonly shape: string
  readonly here: string
  readonly there: string
}

function probeOf(site: WalkSite, layer: WeightLayer): MeanProbe {
  const b = site.graph.append()
  const outputs = [site.here(layer.node.output), site.there(layer.node.output)!].map((v) =>
    byChannel(b, layer, biasedOutput(layer, v.producer!)),
  )
  const handOut = (v: Value): string => {
    site.graph.addOutput(v)
    return v.name
  }
  const [here, there] = outputs.map((v) => handOut(b.op('GlobalAveragePool', [v])))
  return { held: [...outputs, ...outputs], shape: handOut(b.op('Shape', [outputs[0]!])), here: here!, there: there! }
}

/** A layer's output as [1, channels, positions of all samples]. */
function byChannel(b: Builder, layer: WeightLayer, output: Value): Value {
  const channels = outputChannels(layer)
  const y = b.op('Cast', [output], { to: elementTypes.float32.code })
  const flat = isMatrixProduct(layer.node) ? b.op('Reshape', [y, b.ints([-1, channels])]) : y
  const rank = isMatrixProduct(layer.node) ? 2 : layer.tensor.dims.length
  const order = [1, 0, ...Array.from({ length: rank - 2 }, (_, i) => i + 2)]
  return b.op('Reshape', [b.op('Transpose', [flat], { perm: order }), b.ints([1, channels, -1])])
}
