/**
 * Inputs where there are no data: batches of random numbers, moved by gradient descent until what they make of the network's
 * normalisations has the means and deviations that these remember from training (ZeroQ, Cai et al. 2020, arXiv:2001.00281;
 * the loss in input-step.ts). They are second best: they have the statistics of the data channel by channel, and nothing
 * else of them.
 *
 *   x <- x - Adam(dL/dx),  a cosine schedule, from a standard normal distribution
 *
 * Inputs that are no floats stay random. Does not apply to networks without normalisations that remember (BatchNormalization,
 * in the graph or folded by fold-bn), nor to inputs whose samples do not lie along the first axis.
 */
import { modelError } from '../../base/errors.ts'
import { type LongRun, stopIfAborted } from '../../base/long-run.ts'
import { ArraySet, type Column } from '../../data/array-set.ts'
import { memoryRows } from '../../data/rows.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { rememberedIn } from '../../layers/remembered.ts'
import { inlineFunctions } from '../../passes/inline-functions.ts'
import { Adam } from '../../passes/reconstruct/adam.ts'
import { trainable } from '../../passes/reconstruct/reconstruction.ts'
import { randomInputs } from '../../samples/random-inputs.ts'
import { inputStep, LOSS } from './input-step.ts'
import { SYNTHETIC } from './synthetic-options.ts'

/** How many inputs are made, and how. */
export interface SyntheticOptions extends LongRun {
  /** How many; a whole number of batches is made. */
  readonly samples: number
  /** Made at once: their statistics are those of the normalisations. */
  readonly batch?: number
  /** For each batch. */
  readonly steps?: number
  readonly seed?: number
  /** Of the set, as the history of a model that trains on it has it: the file that they are to be kept in. */
  readonly name?: string
}

/** At the start of the cosine; inputs have a deviation of about 1. */
const RATE = 0.1

/** Called behind each batch: how far its statistics were at the start, and are. */
export type Told = (message: string) => void

/** A model error where the network remembers nothing. */
export async function syntheticInputs(
  model: Model,
  { samples, batch: asked = 64, steps = 100, seed = 0, name = SYNTHETIC, signal, onProgress }: SyntheticOptions,
  tell: Told = () => {},
): Promise<ArraySet> {
  const inlined = cloneModel(model)
  inlineFunctions(inlined)
  const copy = trainable(inlined)
  const remembered = rememberedIn(copy)
  if (remembered.length === 0)
    throw modelError('no-statistics', 'the network has no BatchNormalization that remembers its data', {
      next: 'give --data: a few hundred samples without labels, or random',
    })
  const { feeds, batch, dims, plan } = await randomInputs(model, Math.min(asked, samples))
  for (const [name, { axes }] of plan.inputs)
    if (axes.join() !== '0')
      throw modelError('no-batch', `input '${name}' does not hold samples along its first axis`, {
        next: 'give --data',
      })
  for (const v of copy.graph.fed) v.setType({ elem: v.type!.elem, dims: dims[v.name]! })
  const { session, gradients } = await inputStep(copy, remembered)
  const made: Readonly<Record<string, Tensor>>[] = []
  const count = Math.ceil(samples / batch)
  try {
    for (let i = 0; i < count; i++) {
      const start = feeds(seed, i)
      const moved = [...gradients.keys()].map((name) => ({
        ...{ name, gradient: gradients.get(name)!, values: start[name]!.toFloat32().slice() },
        adam: new Adam(start[name]!.size),
      }))
      const now = (): Record<string, Tensor> => ({
        ...start,
        ...Object.fromEntries(moved.map((m) => [m.name, Tensor.float32(dims[m.name]!, m.values)])),
      })
      const read = (all: Record<string, Tensor>) =>
        Object.fromEntries(Object.entries(all).filter(([name]) => session.inputNames.includes(name)))
      const losses: number[] = []
      for (let k = 0; k < steps; k++) {
        stopIfAborted(signal, 'interrupted while inputs were made')
        onProgress?.(i * steps + k, count * steps)
        const out = await session.run(read(now()))
        losses.push(out[LOSS]!.toNumbers()[0]!)
        const rate = RATE * 0.5 * (1 + Math.cos((Math.PI * k) / steps))
        for (const m of moved) m.adam.step(m.values, out[m.gradient]!.toFloat32(), rate)
      }
      const [first, last] = [losses[0]!, losses.at(-1)!].map((x) => x.toPrecision(3))
      tell(`batch ${i + 1} of ${count} of synthetic inputs: statistics off by ${first}, then ${last}`)
      made.push(now())
    }
  } finally {
    await session.dispose()
  }
  const columns = model.graph.fed.map((v): Column => {
    const elem = v.type!.elem
    const parts = made.map((batch) => Tensor.from(elem, dims[v.name]!, batch[v.name]!.toNumbers()).bytes)
    const own = dims[v.name]!.slice(1)
    const bytes = new Uint8Array(Buffer.concat(parts))
    const rows = memoryRows(bytes, bytes.length / (count * batch))
    return { name: v.name, elem, dims: own, rows, file: `${SYNTHETIC} inputs` }
  })
  return ArraySet.of({ name, split: 'train', columns }).take(samples)
}
