/**
 * Fits the scales of a layer's weight quantiser to its present, masked weights, by the method that the pass used: what
 * pruning and training do when weights have changed. Does not apply to quantisers whose scale is computed.
 */
import { marks } from '../graph/marks.ts'
import { Tensor } from '../graph/tensor.ts'
import { maskedWeights, type WeightLayer } from '../layers/layers.ts'
import type { QuantPair } from '../layers/quant-pair.ts'
import { fitWeightScales, type WeightScaleMethod, weightScaleMethods } from './quantizer.ts'

export function refitWeightScales(layer: WeightLayer): void {
  const { quant, tensor, outputAxis } = layer
  const scale = quant?.scale.constant
  if (!quant || !scale) return
  const { axis, block } = quant
  const layout = { axis: axis === null || block > 0 ? axis : outputAxis, block }
  const scales = fitWeightScales(maskedWeights(layer), tensor.dims, layout, quant.bits, methodOf(quant), scale.type)
  quant.scale.setConstant(Tensor.from(scale.type, scale.dims, scales))
}

function methodOf({ dequantize }: QuantPair): WeightScaleMethod {
  const named = marks.fit.get(dequantize)
  return weightScaleMethods.find((m) => m === named) ?? 'als'
}
