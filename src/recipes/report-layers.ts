/** How far the outputs of each layer are from the baseline's, on samples of the recipe's data, or on random inputs where there are none. */
import { MncError } from '../base/errors.ts'
import { checkBatches } from '../check/check-data.ts'
import { compareLayers, type LayerDifference } from '../check/check-layers.ts'
import { readModel } from '../codec/codec.ts'
import { openDataset } from '../data/open.ts'
import { RANDOM } from '../data/random-options.ts'
import { pixelsOf } from '../data/sample-set.ts'
import type { Model } from '../graph/model.ts'
import { weightSlots } from '../ops/index.ts'
import { randomInputs } from '../samples/random-inputs.ts'

const SAMPLES = 32

export interface LayerErrors {
  readonly against: string
  /** What the inputs are, for people. */
  readonly on: string
  readonly layers: readonly LayerDifference[]
}

interface Compared {
  /** Stage and file. */
  readonly baseline: readonly [stage: string, file: string]
  readonly file: string
  /** Reference of the stage's data; undefined or null where it has none. */
  readonly data: unknown
  readonly log: (message: string) => void
}

/** null where the two have no layer in common, or do not run on the same inputs. */
export async function layerErrors({ baseline, file, data, log }: Compared): Promise<LayerErrors | null> {
  const [against, path] = baseline
  try {
    const [reference, model] = [await readModel(path), await readModel(file)]
    const { on, feeds, count } = await inputsOf(reference, data, log)
    const weighted = new Set(
      [...reference.graph.nodes()].filter((n) => weightSlots(n).length > 0).map((n) => n.outputs[0]?.name),
    )
    const layers = (await compareLayers(reference, model, feeds, count)).filter((l) => weighted.has(l.name))
    return layers.length === 0 ? null : { against, on, layers }
  } catch (error) {
    if (!(error instanceof MncError) || error.blame === 'interrupt') throw error
    log(`layers are not compared with ${against}: ${error.describe()}`)
    return null
  }
}

async function inputsOf(reference: Model, data: unknown, log: (message: string) => void) {
  const sampled = typeof data === 'string' && data !== RANDOM ? await samplesOf(reference, data, log) : null
  if (sampled) return sampled
  const { feeds, batch } = await randomInputs(reference, SAMPLES)
  return { on: `${batch} random inputs`, feeds: feeds(0), count: batch }
}

/** null where the data is gone, or read with options that are not known here. */
async function samplesOf(reference: Model, data: string, log: (message: string) => void) {
  try {
    const set = (await openDataset(data, 'test', {})).take(SAMPLES)
    const pixels = await pixelsOf(reference, set)
    for await (const { feeds, count } of checkBatches(reference, set, pixels, SAMPLES))
      return { on: `${count} samples of ${set.name}`, feeds, count }
  } catch (error) {
    if (!(error instanceof MncError) || error.blame === 'interrupt') throw error
    log(`layers are compared on random inputs: ${error.describe()}`)
  }
  return null
}
