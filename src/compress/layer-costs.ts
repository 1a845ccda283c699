/**
 * What each layer alone costs at each width and sparsity, in the form in which it would ship: post-training pruning and quantisation
 * of that layer and no other, without training, and the distance of the outputs that it comes to. Measured once, kept in
 * the work folder.
 */
import { modelInfo } from '../analysis/model-info.ts'
import { MncError } from '../base/errors.ts'
import { writePreprocess } from '../data/preprocess.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers } from '../layers/choose-layers.ts'
import { Judge } from '../ptq/judge.ts'
import { ptq } from '../ptq/ptq.ts'
import type { PtqOptionsInput } from '../ptq/ptq-options.ts'
import { JUDGES, samplesOf } from '../ptq/samples.ts'
import type { Shard } from '../shards/shard.ts'
import { ptqDefaults } from './candidate.ts'
import type { Choice } from './knapsack.ts'
import { formBytes, formKey, type LayerForm } from './layer-forms.ts'
import type { Run } from './run.ts'
import { LAYER_FILES, LAYERS_WITHIN } from './work.ts'

/** Of one layer. */
export interface LayerTable {
  readonly name: string
  readonly weights: number
  /** By form (formKey). */
  readonly damage: Readonly<Record<string, number>>
}

/** Steps are fitted on three quarters of so many. */
const SAMPLES = 128
/** Samples that a layer's form is judged by, and the multiply-accumulates that they may take. */
const JUDGED = { most: 256, least: 32, macs: 1.2e10 }
/** Steps of quantising whose effect is on the whole network, or that tell little about one layer. */
const WITHOUT = ['equalize', 'smooth', 'search-ranges', 'correct-bias', 'refine']
const FILE = 'layers.json'
/** Forms that are measured however long it takes. */
const FEWEST = 3
/** Outputs as near as that are equal. */
const LEAST = 1e-12
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

export interface Measured {
  /** Those that can be quantised at all; forms that fail are left out. */
  readonly layers: readonly LayerTable[]
  /** What there was time for. */
  readonly forms: readonly LayerForm[]
}

/** Form after form, for about `seconds` and at least a few of them. How many were enough is kept, for a run that goes on. */
export async function measureLayers(
  run: Run,
  forms: readonly LayerForm[],
  seconds: number,
  onProgress: (done: number, total: number) => void | Promise<void>,
): Promise<Measured> {
  const end = performance.now() + 1000 * seconds
  const within = await run.work.readJson(LAYERS_WITHIN)
  const isKnown = typeof within === 'object' && within !== null && Reflect.get(within, 'seconds') === seconds
  let used = isKnown ? Number(Reflect.get(within, 'forms')) : forms.length
  const count = layerTrials(run.float, forms.slice(0, 1)).length
  const trials = forms.slice(0, used).flatMap((form) => layerTrials(run.float, [form]))
  const known = await measureTrials(run, trials, FILE, onProgress, (next) => {
    const isOver = next >= FEWEST * count && next % count === 0 && performance.now() > end
    if (isOver) used = next / count
    return isOver
  })
  if (used < forms.length) await run.work.writeJson(LAYERS_WITHIN, { seconds, forms: used })
  const taken = forms.slice(0, used)
  const layers = everyLayer(run.float).chosen.flatMap((l) => {
    const measured = taken.flatMap((form) => {
      const damage = known[keyOf(l.name, form)]
      return typeof damage === 'number' ? [[formKey(form), Math.max(0, damage)] as const] : []
    })
    return measured.length === 0 ? [] : [{ name: l.name, weights: l.tensor.size, damage: Object.fromEntries(measured) }]
  })
  return { layers, forms: taken }
}

/** By key; null for a layer that cannot have this form. What is new is written to `file`. Ends where `isOver` before the trial of that index. */
export async function measureTrials(
  run: Run,
  trials: readonly LayerTrial[],
  file: string,
  onProgress: (done: number, total: number) => void | Promise<void>,
  isOver: (next: number) => boolean = () => false,
): Promise<Readonly<Record<string, number | null>>> {
  const known = await knownOf(run)
  let done = trials.filter((t) => t.key in known).length
  await onProgress(done, trials.length)
  const judge = done < trials.length ? await judgeFor(run) : null
  for (const [i, trial] of trials.entries()) {
    if (trial.key in known) continue
    if (isOver(i)) break
    known[trial.key] = await damageOf(run, judge!, trial)
    await run.work.writeJson(file, { identity: run.identity, limit: run.limit, known })
    await onProgress(++done, trials.length)
  }
  return known
}

/** What `ptq` measures its steps by, on more samples. */
async function judgeFor({ float, samples: { training, preprocess }, o }: Run): Promise<Judge> {
  const model = cloneModel(float)
  if (preprocess) writePreprocess(model, preprocess)
  const macs = (await modelInfo(model, { bytes: 0 })).macs ?? 0
  const judged = Math.max(JUDGED.least, Math.min(JUDGED.most, Math.floor(JUDGED.macs / Math.max(1, macs))))
  return Judge.of(model, await samplesOf(training, JUDGES * judged).judges(model, o.batch), o.threads)
}

async function damageOf(run: Run, judge: Judge, { name, form }: LayerTrial): Promise<number | null> {
  const { float, samples, signal, cache, seed } = run
  const defaults = ptqDefaults(run)
  const options: PtqOptionsInput = {
    ...{ ...defaults, limit: Math.min(SAMPLES, defaults.limit ?? SAMPLES), effort: 'fast', only: [name] },
    ...{ weightBits: form.bits, firstLayerBits: form.bits, sparsity: form.sparsity, without: WITHOUT },
  }
  return ptq(float, {
    ...{ data: samples.training, preprocess: samples.preprocess, options, seed, signal, cache },
  }).then(
    async ({ model }) => {
      const { distance } = await judge.judge(model)
      return Number.isNaN(distance) ? null : distance
    },
    (error: unknown) => {
      if (error instanceof MncError && error.blame === 'model') return null
      throw error
    },
  )
}

/** What this run and those that shared its work have measured. */
async function knownOf({ work, identity, limit }: Run): Promise<Record<string, number | null>> {
  const all: Record<string, number | null> = {}
  for (const file of await work.named(LAYER_FILES)) {
    const json = await work.readJson(file)
    if (typeof json !== 'object' || json === null) continue
    const { known } = json as { known?: unknown }
    const isOurs = Reflect.get(json, 'identity') === identity && Reflect.get(json, 'limit') === limit
    if (isOurs && typeof known === 'object') Object.assign(all, known)
  }
  return all
}

export interface FormChoice extends Choice {
  readonly form: LayerForm
}

/**
 * What each layer may be stored as; float costs no damage. Where a form of more bits or fewer zeros was measured to cost more
 * than one of less, which is chance, both count as their geometric mean (isotonic regression).
 */
export const choicesOf = (
  layers: readonly LayerTable[],
  forms: readonly LayerForm[],
): readonly (readonly FormChoice[])[] =>
  layers.map(({ weights, damage }) => {
    const even = evened(forms, damage)
    return forms.flatMap((form) => {
      const own = form.bits === 0 ? 0 : even.get(form)
      return own === undefined ? [] : [{ form, cost: formBytes(weights, form), damage: own }]
    })
  })

function evened(forms: readonly LayerForm[], damage: LayerTable['damage']): ReadonlyMap<LayerForm, number> {
  const measured = forms.filter((f) => f.bits > 0 && damage[formKey(f)] !== undefined)
  const chain = (own: readonly LayerForm[]): readonly (readonly [LayerForm, number])[] => {
    const rising = isotonic(own.map((f) => Math.log(Math.max(damage[formKey(f)]!, LEAST))))
    return own.map((f, i) => [f, Math.exp(rising[i]!)])
  }
  const dense = measured.filter((f) => f.sparsity === 0).sort((a, b) => b.bits - a.bits)
  const widths = new Set(measured.filter((f) => f.sparsity > 0).map((f) => f.bits))
  const sparse = [...widths].flatMap((bits) =>
    chain(measured.filter((f) => f.bits === bits).sort((a, b) => a.sparsity - b.sparsity)),
  )
  return new Map([...sparse, ...chain(dense)])
}

/** The rising sequence with the least squared distance: neighbours that fall are pooled. */
function isotonic(values: readonly number[]): readonly number[] {
  const pools: { mean: number; count: number }[] = []
  for (const mean of values) {
    let last = { mean, count: 1 }
    for (let before = pools.at(-1); before && before.mean > last.mean; before = pools.at(-1)) {
      pools.pop()
      const count = before.count + last.count
      last = { mean: (before.mean * before.count + last.mean * last.count) / count, count }
    }
    pools.push(last)
  }
  return pools.flatMap(({ mean, count }) => new Array<number>(count).fill(mean))
}
