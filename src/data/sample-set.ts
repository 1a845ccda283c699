/**
 * A data set of either kind, pictures (dataset.ts) or arrays by name (array-set.ts), as what runs models sees it: batches of
 * feeds with what is known about them.
 */
import { usageError } from '../base/errors.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { type BatchPlan, batchPlan, type PlanOptions } from '../samples/batch-plan.ts'
import { inputDims } from '../samples/input-shapes.ts'
import { ArraySet, type SampleSet } from './array-set.ts'
import { type Binding, bind, convert } from './bind.ts'
import { inModelOrder } from './class-order.ts'
import type { Dataset } from './dataset.ts'
import { evalBatches, imageTensor } from './eval-batches.ts'
import { imagePlan } from './image-plan.ts'
import { imageInput, type Preprocess, type PreprocessOverrides, preprocessOf } from './preprocess.ts'

/** Feeds of some samples, with their labels and targets. */
export interface SampleBatch {
  /** By input. */
  readonly feeds: Readonly<Record<string, Tensor>>
  /** Class of each sample; null where there are none. */
  readonly labels: Int32Array | null
  /** By output, what it should be. */
  readonly targets: Readonly<Record<string, Tensor>>
  readonly count: number
}

/** How pixels become the model's input; undefined for arrays, which are inputs as they are. */
export async function pixelsOf(
  model: Model,
  set: SampleSet,
  overrides: PreprocessOverrides = {},
  warn: (message: string) => void = () => {},
): Promise<Preprocess | undefined> {
  if (!(set instanceof ArraySet)) return preprocessOf(model, set, overrides, warn)
  const given = Object.entries(overrides).find(([, value]) => value !== undefined)
  if (given)
    throw usageError(`${set.name} holds arrays, which are inputs as they are: there are no pixels to preprocess`)
  return undefined
}

/** The pixels' preprocessing, which a caller has to give. */
function required(preprocess: Preprocess | undefined, set: Dataset): Preprocess {
  if (preprocess) return preprocess
  throw usageError(`${set.name} holds images, which need their preprocessing`, 'see preprocessOf')
}

/** Every sample once, in the set's order. */
export async function* sampleBatches(
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
  batch: number,
): AsyncGenerator<SampleBatch, void, undefined> {
  if (set instanceof ArraySet) {
    yield* arrayBatches(model, set, batch)
    return
  }
  const pixels = required(preprocess, set)
  const { name } = imageInput(model)
  const elem = model.graph.find(name)?.type?.elem
  const own = inModelOrder(model, set)
  for await (const { images, labels, count } of evalBatches(own, pixels, batch))
    yield {
      ...{ feeds: { [name]: imageTensor(pixels, count, images, elem) }, targets: {}, count },
      labels: set.isLabelled ? labels : null,
    }
}

function* arrayBatches(model: Model, set: ArraySet, size: number): Generator<SampleBatch, void, undefined> {
  const own = inModelOrder(model, set)
  const binding = bind(model, own)
  const { labels } = own
  const batch = binding.wholeRuns ? 1 : size
  for (let start = 0; start < own.size; start += batch) {
    const count = Math.min(batch, own.size - start)
    const indices = Uint32Array.from({ length: count }, (_, i) => start + i)
    yield {
      ...{ feeds: feedsAt(own, binding, indices), count },
      labels: own.isLabelled ? labels.subarray(start, start + count) : null,
      targets: targetsAt(own, binding, indices),
    }
  }
}

/** What outputs should be for the named samples, [samples, ...]. */
export const targetsAt = (set: ArraySet, { targets }: Binding, indices: ArrayLike<number>): Record<string, Tensor> =>
  Object.fromEntries([...targets].map(([name, column]) => [name, set.read(column, indices)]))

/** Inputs of the named samples. */
export function feedsAt(
  set: ArraySet,
  { feeds, wholeRuns }: Binding,
  indices: ArrayLike<number>,
): Record<string, Tensor> {
  const made = [...feeds].map(([name, { column, elem, dims }]) => {
    const rows = set.read(column, indices)
    return [name, convert(rows, elem, wholeRuns ? dims : [indices.length, ...dims])]
  })
  return Object.fromEntries(made)
}

/** How the model takes the set's samples. `batch`: wanted in one run. */
export async function samplePlan(
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
  batch: number,
  options: Pick<PlanOptions, 'reopen'> = {},
): Promise<BatchPlan> {
  if (!(set instanceof ArraySet)) return imagePlan(model, required(preprocess, set), batch, options)
  const binding = bind(model, set)
  const known = inputDims(model)
  const whole = [...binding.feeds].map(([name, { dims }]) => [name, { dims, axes: [] }] as const)
  if (binding.wholeRuns)
    return { batch: 1, isFixed: true, inputs: new Map(whole), outputs: wholeOutputs(model), sizes: {} }
  const dims = [...binding.feeds].map(([name, feed]) => [name, [known[name]?.[0] ?? null, ...feed.dims]])
  const plan = await batchPlan(model, batch, { ...options, dims: Object.fromEntries(dims) })
  for (const [name, { axes }] of plan.inputs)
    if (axes.length > 0 && axes.join() !== '0')
      throw usageError(
        `input '${name}' takes samples along axis ${axes.join(' and ')}; arrays hold them along the first`,
      )
  return plan
}

const wholeOutputs = (model: Model): BatchPlan['outputs'] =>
  new Map(model.graph.outputs.map((v) => [v.name, 'whole' as const]))
