/**
 * What each layer alone costs at each width, in the form in which it would ship: post-training quantisation of that layer
 * and no other, without training, and the distance of the outputs that it comes to. Measured once, kept in the work folder.
 *
 * Bytes of n weights at b bits are those without a code: b bits each up to 4, a mask bit and b bits of each that is not zero up
 * to 7 (taken as all), a byte at 8, four without quantising. Words of a prefix code take less, by a share that is known only
 * when the layer's integers are.
 */
import { MncError } from '../base/errors.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers } from '../layers/choose-layers.ts'
import { ptq } from '../ptq/ptq.ts'
import type { PtqOptionsInput } from '../ptq/ptq-options.ts'
import type { Shard } from '../shards/shard.ts'
import { ptqDefaults } from './candidate.ts'
import type { Choice } from './knapsack.ts'
import type { Run } from './run.ts'
import { LAYER_FILES } from './work.ts'

/** Of one layer; by width, 0 for float. */
export interface LayerTable {
  readonly name: string
  readonly weights: number
  readonly damage: Readonly<Record<number, number>>
}

/** Steps are fitted and judged on so many: enough to tell layers from each other. */
const SAMPLES = 128
/** Steps of quantising whose effect is on the whole network, not on one layer. */
const WITHOUT = ['equalize', 'correct-bias', 'refine']
const FILE = 'layers.json'
/** The files of a run and of the shares of its work. */
export const layersOfShare = ({ index, of }: Shard): string => `layers.${index}-of-${of}.json`

export const widthBytes = (weights: number, bits: number): number => {
  if (bits === 0) return 4 * weights
  if (bits <= 4) return Math.ceil((weights * bits) / 8)
  return Math.min(weights, Math.ceil((weights * (bits + 1)) / 8))
}

/** All layers with weights, and those that can be treated. */
export const everyLayer = ({ graph }: Model) => chooseLayers(graph, { ops: ['*'], only: undefined, exclude: undefined })

export interface LayerTrial {
  readonly name: string
  readonly bits: number
  readonly key: string
}

/** Each layer at each width. */
export const layerTrials = (float: Model, widths: readonly number[]): readonly LayerTrial[] =>
  everyLayer(float).chosen.flatMap(({ name }) => widths.map((bits) => ({ name, bits, key: `${bits} ${name}` })))

/** Layers that can be quantised at all; widths that fail are left out. */
export async function measureLayers(
  run: Run,
  widths: readonly number[],
  onProgress: (done: number, total: number) => void | Promise<void>,
): Promise<readonly LayerTable[]> {
  const trials = layerTrials(run.float, widths)
  const known = await measureTrials(run, trials, FILE, onProgress)
  return everyLayer(run.float).chosen.flatMap((l) => {
    const measured = widths.flatMap((bits) => {
      const damage = known[`${bits} ${l.name}`]
      return typeof damage === 'number' ? [[bits, Math.max(0, damage)] as const] : []
    })
    return measured.length === 0 ? [] : [{ name: l.name, weights: l.tensor.size, damage: Object.fromEntries(measured) }]
  })
}

/** By key; null for a layer that cannot be quantised to this width. What is new is written to `file`. */
export async function measureTrials(
  run: Run,
  trials: readonly LayerTrial[],
  file: string,
  onProgress: (done: number, total: number) => void | Promise<void>,
): Promise<Readonly<Record<string, number | null>>> {
  const known = await knownOf(run)
  let done = trials.filter((t) => t.key in known).length
  await onProgress(done, trials.length)
  for (const trial of trials) {
    if (trial.key in known) continue
    known[trial.key] = await damageOf(run, trial)
    await run.work.writeJson(file, { identity: run.identity, limit: run.o.limit, known })
    await onProgress(++done, trials.length)
  }
  return known
}

async function damageOf(run: Run, { name, bits }: LayerTrial): Promise<number | null> {
  const { float, samples, signal, cache, seed } = run
  const defaults = ptqDefaults(run)
  const options: PtqOptionsInput = {
    ...{ ...defaults, limit: Math.min(SAMPLES, defaults.limit ?? SAMPLES), effort: 'fast', only: [name] },
    ...{ weightBits: bits, firstLayerBits: bits, without: WITHOUT },
  }
  return ptq(float, {
    ...{ data: samples.training, preprocess: samples.preprocess, options, seed, signal, cache },
  }).then(
    ({ distance }) => (Number.isNaN(distance) ? null : distance),
    (error: unknown) => {
      if (error instanceof MncError && error.blame === 'model') return null
      throw error
    },
  )
}

/** What this run and those that shared its work have measured. */
async function knownOf({ work, identity, o }: Run): Promise<Record<string, number | null>> {
  const all: Record<string, number | null> = {}
  for (const file of await work.named(LAYER_FILES)) {
    const json = await work.readJson(file)
    if (typeof json !== 'object' || json === null) continue
    const { known } = json as { known?: unknown }
    const isOurs = Reflect.get(json, 'identity') === identity && Reflect.get(json, 'limit') === o.limit
    if (isOurs && typeof known === 'object') Object.assign(all, known)
  }
  return all
}

export interface WidthChoice extends Choice {
  readonly bits: number
}

/** What each layer may be stored as: `widths` of it, 0 for float, which costs no damage. */
export const choicesOf = (
  layers: readonly LayerTable[],
  widths: readonly number[],
): readonly (readonly WidthChoice[])[] =>
  layers.map(({ weights, damage }) =>
    widths.flatMap((bits) => {
      const own = bits === 0 ? 0 : damage[bits]
      return own === undefined ? [] : [{ bits, cost: widthBytes(weights, bits), damage: own }]
    }),
  )
