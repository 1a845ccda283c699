/**
 * What quantised weights change in the means of layers' outputs, without data: (W - Q(W)) E[x] by output channel, with the
 * means of a layer's inputs from BatchNormalization (normal-means.ts). Padding is left out of account, and that the layers
 * before give other inputs: theirs are corrected.
 */
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { evaluateConstants } from '../layers/constants.ts'
import { outputChannels, shiftOfInputs } from '../layers/layer-algebra.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { inputChannels } from '../layers/scale-groups.ts'
import { channelSlot } from '../ops/index.ts'
import type { FloatReference } from './bypass-quantisers.ts'
import { normalMeans } from './normal-means.ts'

export interface AnalyticShift {
  readonly layer: WeightLayer
  /** A string that says why it is unknown. */
  readonly shift: Float64Array | string
}

export async function analyticShifts(
  model: Model,
  layers: readonly WeightLayer[],
  reference: FloatReference,
): Promise<AnalyticShift[]> {
  const means = await normalMeans(model)
  const operandOf = (l: WeightLayer): Value => l.node.input(l.slot.input)
  const floatOf = (l: WeightLayer): Value => reference.values.get(l.node.output)!.producer!.input(l.slot.input)
  const rounded = await evaluateConstants(model, layers.map(operandOf), { asFloat: true })
  const float = await evaluateConstants(reference.model, layers.map(floatOf), { asFloat: true })
  return layers.map((layer) => {
    const x = layer.node.input(layer.slot.data!)
    const mean = means(x.name)
    if (!mean) return { layer, shift: `no normalisation says what the mean of '${x.name}' is` }
    if (mean.length !== inputChannels(layer)) return { layer, shift: `'${x.name}' has other channels` }
    const [w, q] = [float.get(floatOf(layer))!, rounded.get(operandOf(layer))!]
    const [ws, qs] = [w.toFloat32(), q.toFloat32()]
    const slot = channelSlot(layer.node)!
    // at the operand, where masks and whatever else lies behind the weight have been applied
    const lost: WeightLayer = {
      ...layer,
      tensor: Tensor.float32(
        w.dims,
        ws.map((v, i) => v - qs[i]!),
      ),
      outputAxis: slot.outputAxis(layer.node),
      inputAxis: slot.inputAxis(layer.node),
      mask: null,
    }
    return { layer, shift: shiftOfInputs(lost, mean, outputChannels(layer)) }
  })
}
