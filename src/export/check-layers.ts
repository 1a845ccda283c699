/**
 * Where two models part: every float value that both graphs have under the same name, compared on one batch at
 * ORT_DISABLE_ALL, in the order of the reference. Values that folding removed or that were renamed are not compared: the
 * list is empty where no name is left.
 */
import { constantValues } from '../analysis/constants.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { inferTypes } from '../runtime/infer-types.ts'
import { ortExecutor } from '../runtime/ort.ts'

export interface LayerDifference {
  readonly name: string
  /** The operator that makes it in the reference. */
  readonly op: string
  readonly dims: readonly number[]
  /** dB; Infinity where the values are equal. */
  readonly sqnr: number
  readonly maxAbsError: number
  /** maxAbsError over the reference's largest |value|. */
  readonly maxRelError: number
}

/** `feeds` by the reference's input names; those of the model are matched by position. */
export async function compareLayers(
  reference: Model,
  model: Model,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<LayerDifference[]> {
  const names = await commonNames(reference, model)
  if (names.length === 0) return []
  const [want, got] = [await valuesOf(reference, names, feeds), await valuesOf(model, names, feeds)]
  return names.flatMap((name) => {
    const [a, b] = [want[name]!, got[name]!]
    if (a.size !== b.size) return []
    return { name, op: reference.graph.find(name)?.producer?.op ?? '', dims: a.dims, ...difference(a, b) }
  })
}

/** Float32 values of both graphs, in the reference's order. */
async function commonNames(reference: Model, model: Model): Promise<string[]> {
  const [a, b] = [cloneModel(reference), cloneModel(model)]
  await Promise.all([inferTypes(a), inferTypes(b)])
  const constant = constantValues(a.graph)
  const names: string[] = []
  for (const n of a.graph.nodes())
    for (const v of n.outputs) {
      if (!v || constant.has(v) || v.type?.elem !== 'float32') continue
      const twin = b.graph.find(v.name)
      if (twin?.producer && twin.type?.elem === 'float32') names.push(v.name)
    }
  return names
}

async function valuesOf(
  model: Model,
  names: readonly string[],
  feeds: Readonly<Record<string, Tensor>>,
): Promise<Record<string, Tensor>> {
  const copy = cloneModel(model)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  for (const name of names) copy.graph.addOutput(copy.graph.find(name)!)
  const inputs = copy.graph.inputs.filter((v) => !v.constant)
  const given = Object.fromEntries(Object.values(feeds).map((t, i) => [inputs[i]!.name, t]))
  const folder = model.folder === undefined ? {} : { folder: model.folder }
  const session = await ortExecutor().load(copy, { optimization: 'disabled', ...folder })
  try {
    return await session.run(given)
  } finally {
    await session.dispose()
  }
}

function difference(a: Tensor, b: Tensor): { sqnr: number; maxAbsError: number; maxRelError: number } {
  const [x, y] = [a.toFloat32(), b.toFloat32()]
  let signal = 0
  let noise = 0
  let largest = 0
  let error = 0
  for (let i = 0; i < x.length; i++) {
    const e = x[i]! - y[i]!
    signal += x[i]! * x[i]!
    noise += e * e
    largest = Math.max(largest, Math.abs(x[i]!))
    error = Math.max(error, Math.abs(e))
  }
  const sqnr = noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise)
  return { sqnr, maxAbsError: error, maxRelError: error === 0 ? 0 : error / largest }
}
