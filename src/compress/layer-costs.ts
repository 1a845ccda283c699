/**
 * What each layer alone costs at each width, in the form in which it would ship: post-training quantisation of that layer
 * and no other, without training, and the distance of the outputs that it comes to. Measured once, kept in the work folder.
 *
 * Bytes of n weights at b bits are those without a code: b bits each up to 4, a mask bit and b bits of each that is not zero up
 * to 7 (taken as all), a byte at 8, four without quantising. Words of a prefix code take less, by a share that is known only
 * when the layer's integers are.
 */
import { MncError } from '../base/errors.ts'
import { inLanes } from '../base/lanes.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers } from '../layers/choose-layers.ts'
import { ptq } from '../ptq/ptq.ts'
import type { PtqOptionsInput } from '../ptq/ptq-options.ts'
import { ptqDefaults } from './candidate.ts'
import type { Choice } from './knapsack.ts'
import type { Run } from './run.ts'

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

export const widthBytes = (weights: number, bits: number): number => {
  if (bits === 0) return 4 * weights
  if (bits <= 4) return Math.ceil((weights * bits) / 8)
  return Math.min(weights, Math.ceil((weights * (bits + 1)) / 8))
}

/** All layers with weights, and those that can be treated. */
export const everyLayer = ({ graph }: Model) => chooseLayers(graph, { ops: ['*'], only: undefined, exclude: undefined })

/** Layers that can be quantised at all; widths that fail are left out. */
export async function measureLayers(
  run: Run,
  widths: readonly number[],
  onProgress: (done: number, total: number) => void | Promise<void>,
): Promise<readonly LayerTable[]> {
  const { work, float, samples, signal, cache, seed } = run
  const layers = everyLayer(float).chosen
  const known = await knownOf(run)
  const todo = layers.flatMap((l) => widths.map((bits) => ({ name: l.name, bits, key: `${bits} ${l.name}` })))
  let done = todo.filter((t) => t.key in known).length
  await onProgress(done, todo.length)
  const missing = todo.filter((t) => !(t.key in known))
  await inLanes(missing, run.o.jobs, async ({ name, bits, key }) => {
    const defaults = ptqDefaults(run)
    const options: PtqOptionsInput = {
      ...{ ...defaults, limit: Math.min(SAMPLES, defaults.limit ?? SAMPLES), effort: 'fast', only: [name] },
      ...{ weightBits: bits, firstLayerBits: bits, without: WITHOUT },
    }
    known[key] = await ptq(float, {
      ...{ data: samples.training, preprocess: samples.preprocess, options, seed, signal, cache },
    }).then(
      ({ distance }) => (Number.isNaN(distance) ? null : distance),
      (error: unknown) => {
        if (error instanceof MncError && error.blame === 'model') return null
        throw error
      },
    )
    await work.writeJson(FILE, { identity: run.identity, limit: run.o.limit, known })
    await onProgress(++done, todo.length)
  })
  return layers.flatMap((l) => {
    const measured = widths.flatMap((bits) => {
      const damage = known[`${bits} ${l.name}`]
      return typeof damage === 'number' ? [[bits, Math.max(0, damage)] as const] : []
    })
    return measured.length === 0 ? [] : [{ name: l.name, weights: l.tensor.size, damage: Object.fromEntries(measured) }]
  })
}

/** null for a layer that cannot be quantised to this width. */
async function knownOf({ work, identity, o }: Run): Promise<Record<string, number | null>> {
  const json = await work.readJson(FILE)
  if (typeof json !== 'object' || json === null) return {}
  const { known } = json as { known?: unknown }
  const isOurs = Reflect.get(json, 'identity') === identity && Reflect.get(json, 'limit') === o.limit
  return isOurs && typeof known === 'object' && known !== null ? { ...(known as Record<string, number | null>) } : {}
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
