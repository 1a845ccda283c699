/** Runs a model on calibration batches and gathers a streaming histogram of chosen values. */
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { Histogram } from './histogram.ts'
import { observe } from './observe.ts'

/**
 * One histogram per value, over all batches. Usage error when there are no batches; model error for values that are not
 * finite, which `allowNonfinite` ignores.
 */
export async function collectHistograms(
  model: Model,
  values: readonly Value[],
  data: CalibrationData,
  { allowNonfinite = false }: { readonly allowNonfinite?: boolean | undefined } = {},
): Promise<Map<Value, Histogram>> {
  const map: ValueMap = new Map()
  const copy = cloneModel(model, map)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  const held = values.map((v) => map.get(v)!)
  for (const v of held) if (!v.isInput) copy.graph.addOutput(v)
  const histograms = new Map(values.map((v) => [v, new Histogram()]))
  await observe(copy, data, { held: [held], allowNonfinite }, ({ feeds, out, size, count }) => {
    for (const [v, h] of histograms) {
      const values = out[v.name] ?? feeds[v.name]!
      h.elem = values.type
      const numbers = counted(values, size, count)
      h.add(allowNonfinite ? numbers.filter(Number.isFinite) : numbers, v.name)
    }
  })
  return histograms
}

/** The values of the first `count` of `size` samples; all of them where the first dim is not a multiple of the batch. */
function counted(t: Tensor, size: number, count: number): Float32Array {
  const values = t.toFloat32()
  const [rows = 0] = t.dims
  return count === size || rows === 0 || rows % size > 0 ? values : values.subarray(0, (values.length / size) * count)
}
