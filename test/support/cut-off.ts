/** Processors that cut off sums of 8-bit weights (src/export/saturating-sums.ts): what a test may expect there. */
import { saturatingLayers } from '../../src/export/saturating-sums.ts'
import type { Model } from '../../src/graph/model.ts'
import { cutsOffSums } from '../../src/runtime/ort/cut-off-sums.ts'

/** Most bits of weights that integer kernels compute with rightly here. */
export const widest = (await cutsOffSums()) ? 7 : 8

/** Whether onnxruntime's integer kernels give other numbers here than the model says. */
export const isCutOff = async (model: Model): Promise<boolean> =>
  widest < 8 && (await saturatingLayers(model)).length > 0
