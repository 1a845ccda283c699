/**
 * Where two models diverge: every float value that both graphs have under the same name, compared on one batch at
 * ORT_DISABLE_ALL (in as many runs as the models take for it), in the order of the reference. Values that folding removed or that were renamed are not compared: the
 * list is empty where no name is left.
 */
import { usageError } from '../base/errors.ts'
import { type LongRun, stopIfAborted } from '../base/long-run.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { constantValues } from '../layers/constants.ts'
import { type IsolatedSession, loadIsolated } from '../runtime/isolated/engine.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { groupsOf } from '../samples/run-samples.ts'
import { planPair } from './check.ts'

/** How far a value that has the same name in two models differs. */
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

/** `feeds` by the reference's input names, of `count` samples; those of the model are matched by position. Progress counts runs. */
export async function compareLayers(
  reference: Model,
  model: Model,
  feeds: Readonly<Record<string, Tensor>>,
  count = Object.values(feeds)[0]?.dims[0] ?? 1,
  { signal, onProgress }: LongRun = {},
): Promise<LayerDifference[]> {
  const names = await commonNames(reference, model)
  if (names.length === 0) return []
  const pair = await planPair(reference, model, { feeds, count })
  // values are compared run by run, so both models take the samples in the groups that the stricter one runs
  const plan = pair.reference.isFixed ? pair.reference : pair.model
  if (pair.model.isFixed && pair.model.batch !== plan.batch)
    throw usageError(`the models run at batch sizes ${plan.batch} and ${pair.model.batch}`, 'leave out --layers')
  const [a, b] = [await exposing(reference, names), await exposing(model, names)]
  const differences = new Map<string, Difference>(names.map((name) => [name, new Difference()]))
  try {
    const groups = [...groupsOf({ ...plan, inputs: pair.reference.inputs }, feeds, count)]
    for (const [i, group] of groups.entries()) {
      stopIfAborted(signal)
      const [want, got] = [await a.run(group.feeds), await b.run(pair.rename(group.feeds))]
      for (const name of names) differences.get(name)!.add(want[name]!, got[name]!)
      onProgress?.(i + 1, groups.length)
    }
  } finally {
    await a.dispose()
    await b.dispose()
  }
  return names.flatMap((name) => {
    const d = differences.get(name)!
    return d.dims ? { name, op: reference.graph.find(name)?.producer?.op ?? '', dims: d.dims, ...d.result() } : []
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

/** A session of the model that hands out these values. */
async function exposing(model: Model, names: readonly string[]): Promise<IsolatedSession> {
  const copy = cloneModel(model)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  for (const name of names) copy.graph.addOutput(copy.graph.find(name)!)
  return loadIsolated(copy, { optimization: 'disabled' })
}

/** How far a value is off, over all runs. */
class Difference {
  /** Of the first run; null where the shapes differ. */
  dims: readonly number[] | null = null
  #signal = 0
  #noise = 0
  #largest = 0
  #error = 0
  #runs = 0

  add(a: Tensor, b: Tensor): void {
    if (this.#runs++ === 0) this.dims = a.dims
    if (a.size !== b.size) this.dims = null
    const [x, y] = [a.toFloat32(), b.toFloat32()]
    for (let i = 0; i < x.length; i++) {
      const e = Math.abs(x[i]! - y[i]!)
      this.#signal += x[i]! * x[i]!
      this.#noise += e * e
      this.#largest = Math.max(this.#largest, Math.abs(x[i]!))
      this.#error = Math.max(this.#error, e)
    }
  }

  result(): Pick<LayerDifference, 'sqnr' | 'maxAbsError' | 'maxRelError'> {
    const [noise, error] = [this.#noise, this.#error]
    const sqnr = noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(this.#signal / noise)
    return { sqnr, maxAbsError: error, maxRelError: error === 0 ? 0 : error / this.#largest }
  }
}
