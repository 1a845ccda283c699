/**
 * Fine-tuning where quantising alone does not reach the goal: the network is pruned where the goal needs it, a little and then all of it,
 * quantised and trained, each stage with the float model as teacher. A round is a recipe that is run in the point's folder:
 * a run that ended goes on from its checkpoint, and gives the same bytes.
 *
 * The steps of a round are what its share of the time holds by a measurement of a few steps; the plan is written down before
 * the first one is taken, and a run that goes on keeps to it.
 */
import { modelInfo } from '../analysis/model-info.ts'
import { cloneModel } from '../graph/clone.ts'
import { firstLayers } from '../layers/edge-layers.ts'
import { isChannelNorm } from '../ops/facts.ts'
import { runPass } from '../passes/run-pass.ts'
import { recipeOf } from '../ptq/recipe-of.ts'
import { parseRecipe } from '../recipes/load.ts'
import { runRecipe } from '../recipes/run.ts'
import { timeSteps } from '../recipes/time-steps.ts'
import { sha256 } from '../recipes/work-folder.ts'
import { finish, ptqDefaults } from './candidate.ts'
import type { CompressEvent } from './events.ts'
import { parseTime } from './goal.ts'
import { everyLayer } from './layer-costs.ts'
import type { Point } from './point.ts'
import { type RecipeJson, STAGE } from './recipe-json.ts'
import type { Run } from './run.ts'
import { bytesAt } from './split.ts'

type Json = Readonly<Record<string, unknown>>

interface Round {
  readonly name: string
  readonly summary: string
  /** Of the time for fine-tuning. */
  readonly share: number
  /** Passes of each stage before the quantised one; each is followed by training. */
  readonly before: readonly (readonly Json[])[]
  /** Of `quantize`. */
  readonly widths: Json
}

/** The rest of the time measures steps, exports and judges. */
const TRAINING_SHARE = 0.85
/** A network with batch normalisation takes a rate that others do not. */
const RATES = {
  normalised: { optimizer: 'sgd', lr: 0.01 },
  bare: { optimizer: 'adamw', lr: 0.003, 'relative-lr': true, 'weight-decay': 0 },
} as const
/** What a stage adds to the history that the file keeps. */
const STAGE_BYTES = 300
/** Of weights, with which a file is as small as pruning can make it before accuracy goes. */
const MOST_SPARSITY = 0.9

/** Points as they are made, from the mildest round on. */
export async function* tunedPoints(
  run: Run,
  made: readonly Point[],
  tell: (event: CompressEvent) => void | Promise<void>,
): AsyncGenerator<Point, void, undefined> {
  const seconds = parseTime(run.o.time!)
  for (const round of await roundsFor(run, made)) {
    const key = sha256(JSON.stringify([run.identity, run.target.name, run.o.limit, round]))
    const known = await run.work.point(round.name, key)
    if (known) {
      yield known
      continue
    }
    const start = performance.now()
    const folder = await run.work.folderFor(round.name)
    const steps = await stepsFor(run, round, seconds * round.share * TRAINING_SHARE)
    const recipe = recipeFor(run, round, steps)
    await runRecipe(await parseRecipe(recipe), {
      ...{ workdir: folder, signal: run.signal, cache: run.cache },
      onEvent: (event) => void tell({ kind: 'run', point: round.name, event }),
    })
    const { name, summary } = round
    yield await finish(run, { name, summary, key, recipe, start })
  }
}

/** What the goal needs: fewer bits where those do, then fewer weights; fewer channels for fewer MACs. */
async function roundsFor(run: Run, made: readonly Point[]): Promise<readonly Round[]> {
  const { asked, target } = run
  const { goal } = asked
  const round = (name: string, summary: string, share: number, rest: Pick<Round, 'before' | 'widths'>): Round => ({
    ...{ name, summary: `${summary}, fine-tuned`, share, ...rest },
  })
  if (goal?.kind === 'macs' || goal?.kind === 'latency') {
    const removed = goal.kind === 'macs' ? await channelShare(run, goal.most) : 0.3
    if (removed === null) return []
    const prune = { prune: { pattern: 'channel', scope: 'layer', sparsity: removed } }
    const before = [[prune], [{ 'remove-channels': {} }]]
    return [
      round('thinner', `${percent(removed)} of the channels removed, 8 bits`, 1, {
        before,
        widths: uniform(run, 8, 8),
      }),
    ]
  }
  if (goal?.kind === 'score')
    return [0.5, 0.75, MOST_SPARSITY].map((s, i, all) =>
      round(`pruned-${i + 1}`, `${percent(s)} zeros, 4-bit weights and activations`, 1 / all.length, {
        ...{ before: pruning(s), widths: uniform(run, 4, 4) },
      }),
    )
  if (goal?.kind === 'bytes') {
    const sparsity = await sparsityFor(run, made, goal.most)
    const four = round('tuned-4', '4-bit weights, 8-bit activations', sparsity === 0 ? 1 : 0.5, {
      ...{ before: [], widths: uniform(run, 4, 8) },
    })
    if (sparsity === 0) return [four]
    if (sparsity === null) return []
    return [
      round('pruned', `${percent(sparsity)} zeros, 4-bit weights, 8-bit activations`, 1, {
        ...{ before: pruning(sparsity), widths: uniform(run, 4, 8) },
      }),
    ]
  }
  const [weights, bits] = target.aim === 'bytes' ? ['4-bit weights', 4] : ['8-bit weights', 8]
  return [
    round(`tuned-${bits}`, `${weights}, 8-bit activations`, 1, { before: [], widths: uniform(run, Number(bits), 8) }),
  ]
}

const percent = (x: number): string => `${Math.round(x * 100)} %`

/** A little, then all of it. */
const pruning = (sparsity: number): Round['before'] =>
  [sparsity / 2, sparsity].map((s) => [{ prune: { ops: ['*'], sparsity: Number(s.toFixed(4)) } }])

/** First layers keep 8 bits. */
function uniform({ float, o, samples }: Run, weights: number, activations: number): Json {
  const { all, chosen } = everyLayer(float)
  const first = [...firstLayers(all)].filter((l) => chosen.includes(l)).map((l) => [l.name, 8] as const)
  const { limit = o.limit, batch = o.batch } = ptqDefaults({ o, samples })
  return {
    ...{ ops: ['*'], 'weight-bits': weights, 'activation-bits': activations, 'first-layer': 'quantize', limit, batch },
    ...(weights < 8 && { 'layer-weight-bits': Object.fromEntries(first) }),
    ...(activations < 8 && { 'layer-activation-bits': Object.fromEntries(first) }),
  }
}

/** Share of the channels to remove from each layer for so many MACs; null where it cannot be done. */
async function channelShare({ float }: Run, most: number): Promise<number | null> {
  let [low, high] = [0, 0.9]
  const macsAt = async (sparsity: number): Promise<number> => {
    const model = cloneModel(float)
    await runPass(model, 'prune', { pattern: 'channel', scope: 'layer', sparsity })
    await runPass(model, 'remove-channels', {})
    return (await modelInfo(model, { bytes: 0 })).macs ?? Number.POSITIVE_INFINITY
  }
  if ((await macsAt(high)) > most) return null
  for (let i = 0; i < 7; i++) {
    const middle = (low + high) / 2
    if ((await macsAt(middle)) > most) low = middle
    else high = middle
  }
  return Number(high.toFixed(4))
}

/** Zeros with which 4-bit weights take so many bytes: 0 where 4 bits alone do, null where MOST_SPARSITY does not. */
async function sparsityFor(run: Run, made: readonly Point[], most: number): Promise<number | null> {
  const base = made[0]
  const { all, chosen } = everyLayer(run.float)
  const first = new Set([...firstLayers(all)].map((l) => l.name))
  const fours = Object.fromEntries(chosen.map((l) => [l.name, first.has(l.name) ? 8 : 4]))
  const eights = Object.fromEntries(chosen.map((l) => [l.name, 8]))
  const rest = base ? base.bytes - (await bytesAt(run, eights)) : 0
  const at = async (sparsity: number): Promise<number> =>
    rest + (await bytesAt(run, fours, sparsity)) + STAGE_BYTES * (sparsity === 0 ? 1 : 3)
  if ((await at(0)) <= most) return 0
  if ((await at(MOST_SPARSITY)) > most) return null
  let [low, high] = [0, MOST_SPARSITY]
  for (let i = 0; i < 7; i++) {
    const middle = (low + high) / 2
    if ((await at(middle)) > most) low = middle
    else high = middle
  }
  return Number(high.toFixed(4))
}

/** Steps of each training: the same number for each stage before, and twice as many for the quantised network. */
async function stepsFor(run: Run, round: Round, seconds: number): Promise<readonly number[]> {
  const stages = round.before.length + 1
  const file = 'tuning.json'
  const plan = await run.work.readJson(file)
  const id = sha256(JSON.stringify([run.identity, run.o.time, round]))
  const old = typeof plan === 'object' && plan !== null ? Reflect.get(plan, id) : null
  if (Array.isArray(old) && old.length === stages && old.every(Number.isSafeInteger)) return old
  const trial = await parseRecipe(recipeFor(run, round, new Array<number>(stages).fill(8)))
  const each = await timeSteps(trial)
  const weights = each.map((_, i) => (i === stages - 1 ? 2 : 1))
  const whole = weights.reduce((a, b) => a + b, 0)
  const steps = each.map((s, i) => Math.max(1, Math.floor((seconds * weights[i]!) / whole / Math.max(s, 1e-6))))
  await run.work.writeJson(file, { ...(typeof plan === 'object' ? plan : {}), [id]: steps })
  return steps
}

/** The recipe of a round up to the quantised graph. */
function recipeFor(run: Run, { before, widths }: Round, steps: readonly number[]): RecipeJson {
  const { stages: floats, ...head } = recipeOf({ passes: [], train: null }, run.recipeFacts)
  const [float] = Array.isArray(floats) ? floats : []
  const pruned = before.map((passes, i) => ({
    ...{ name: `pruned-${i + 1}`, from: i === 0 ? STAGE.float : `pruned-${i}`, teacher: STAGE.float, eval: false },
    ...{ passes, train: training(run, steps[i]!) },
  }))
  const quantised = {
    ...{ name: STAGE.quantised, from: pruned.at(-1)?.name ?? STAGE.float, teacher: STAGE.float, eval: false },
    ...{ passes: [{ quantize: widths }], train: training(run, steps.at(-1)!) },
  }
  return { ...head, stages: [float, ...pruned, quantised] }
}

function training({ float, samples, o }: Run, steps: number): Json {
  const hasNorms = [...float.graph.nodes()].some(isChannelNorm)
  const images = samples.training === 'random' ? null : samples.fitted
  const batch = Math.min(2 * o.batch, images ?? Number.POSITIVE_INFINITY)
  const epochs = images === null ? steps : steps / Math.max(1, Math.floor(images / batch))
  return {
    ...{
      epochs: Number(Math.max(epochs, 1e-6).toPrecision(12)),
      'max-steps': steps,
      batch,
      ...(hasNorms ? RATES.normalised : RATES.bare),
    },
    ...(images !== null && { limit: images }),
    ...{ augment: samples.preprocess === undefined ? 'none' : 'standard', workers: o.workers, threads: o.threads },
    ...(o.allowNonfinite && { 'allow-nonfinite': true }),
  }
}
