/**
 * What each layer alone costs at each width and sparsity, in the form in which it would ship: post-training pruning and quantisation
 * of that layer and no other, without training, and the distance of the outputs that it comes to. Measured once, kept in
 * the work folder.
 */
import { MncError } from '../base/errors.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers } from '../layers/choose-layers.ts'
import { ptq } from '../ptq/ptq.ts'
import type { PtqOptionsInput } from '../ptq/ptq-options.ts'
import type { Shard } from '../shards/shard.ts'
import { ptqDefaults } from './candidate.ts'
import type { Choice } from './knapsack.ts'
import { formBytes, formKey, type LayerForm } from './layer-forms.ts'
import type { Run } from './run.ts'
import { LAYER_FILES } from './work.ts'

/** Of one layer. */
export interface LayerTable {
  readonly name: string
  readonly weights: number
  /** By form (formKey). */
  readonly damage: Readonly<Record<string, number>>
}

/** Steps are fitted and judged on so many: enough to tell layers from each other. */
const SAMPLES = 128
/** Steps of quantising whose effect is on the whole network, or that tell little about one layer. */
const WITHOUT = ['equalize', 'smooth', 'search-ranges', 'correct-bias', 'refine']
const FILE = 'layers.json'
/** The files of a run and of the shares of its work. */
export const layersOfShare = ({ index, of }: Shard): string => `layers.${index}-of-${of}.json`

/** All layers with weights, and those that can be treated. */
export const everyLayer = ({ graph }: Model) => chooseLayers(graph, { ops: ['*'], only: undefined, exclude: undefined })

export interface LayerTrial {
  readonly name: string
  readonly form: LayerForm
  readonly key: string
}

const keyOf = (name: string, form: LayerForm): string => `${formKey(form)} ${name}`

/** Each layer in each form. */
export const layerTrials = (float: Model, forms: readonly LayerForm[]): readonly LayerTrial[] =>
  everyLayer(float).chosen.flatMap(({ name }) => forms.map((form) => ({ name, form, key: keyOf(name, form) })))

/** Layers that can be quantised at all; forms that fail are left out. */
export async function measureLayers(
  run: Run,
  forms: readonly LayerForm[],
  onProgress: (done: number, total: number) => void | Promise<void>,
): Promise<readonly LayerTable[]> {
  const trials = layerTrials(run.float, forms)
  const known = await measureTrials(run, trials, FILE, onProgress)
  return everyLayer(run.float).chosen.flatMap((l) => {
    const measured = forms.flatMap((form) => {
      const damage = known[keyOf(l.name, form)]
      return typeof damage === 'number' ? [[formKey(form), Math.max(0, damage)] as const] : []
    })
    return measured.length === 0 ? [] : [{ name: l.name, weights: l.tensor.size, damage: Object.fromEntries(measured) }]
  })
}

/** By key; null for a layer that cannot have this form. What is new is written to `file`. */
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

async function damageOf(run: Run, { name, form }: LayerTrial): Promise<number | null> {
  const { float, samples, signal, cache, seed } = run
  const defaults = ptqDefaults(run)
  const options: PtqOptionsInput = {
    ...{ ...defaults, limit: Math.min(SAMPLES, defaults.limit ?? SAMPLES), effort: 'fast', only: [name] },
    ...{ weightBits: form.bits, firstLayerBits: form.bits, sparsity: form.sparsity, without: WITHOUT },
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

export interface FormChoice extends Choice {
  readonly form: LayerForm
}

/** What each layer may be stored as; float costs no damage. */
export const choicesOf = (
  layers: readonly LayerTable[],
  forms: readonly LayerForm[],
): readonly (readonly FormChoice[])[] =>
  layers.map(({ weights, damage }) =>
    forms.flatMap((form) => {
      const own = form.bits === 0 ? 0 : damage[formKey(form)]
      return own === undefined ? [] : [{ form, cost: formBytes(weights, form), damage: own }]
    }),
  )
