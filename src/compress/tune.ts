/**
 * Fine-tuning where quantising alone does not reach the goal, with the float model as teacher. It goes on from the point that
 * comes nearest, whose weights are pruned and rounded already so that the outputs stay; for fewer MACs channels are removed, with
 * training behind it, and the rest is quantised and trained. It is a recipe that is run in the point's folder: a run that
 * ended goes on from its checkpoint, and gives the same bytes.
 *
 * The steps are what the rest of the time holds by a measurement of a few; they are written down before the first one is taken, and a
 * run that goes on keeps to them.
 */
import { modelInfo } from '../analysis/model-info.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { isChannelNorm } from '../ops/facts.ts'
import { runPass } from '../passes/run-pass.ts'
import { recipeOf } from '../ptq/recipe-of.ts'
import { parseRecipe } from '../recipes/load.ts'
import { runRecipe } from '../recipes/run.ts'
import { timeSteps } from '../recipes/time-steps.ts'
import { sha256 } from '../recipes/work-folder.ts'
import { finish } from './candidate.ts'
import type { CompressEvent } from './events.ts'
import { leastShare } from './least-share.ts'
import type { Point } from './point.ts'
import { type RecipeJson, STAGE, trainedBehind } from './recipe-json.ts'
import type { Run } from './run.ts'

interface Round {
  readonly name: string
  readonly summary: string
  /** What else the point depends on. */
  readonly of: unknown
  /** Stages that train. */
  readonly stages: number
  /** Up to the quantised graph. */
  recipe(steps: readonly number[]): RecipeJson
}

/** The rest of the time measures steps, exports and judges. */
const TRAINING_SHARE = 0.85
/** A network with batch normalisation takes a rate that others do not. */
const RATES = {
  normalised: { optimizer: 'sgd', lr: 0.01 },
  bare: { optimizer: 'adamw', lr: 0.003, 'relative-lr': true, 'weight-decay': 0 },
} as const
/** Channels removed from each layer to be faster. */
const THINNER = 0.3
const MOST_CHANNELS = 0.9

/** A point trained in so many seconds, measuring and judging it included, from `nearest` on; null where nothing of the kind reaches the goal. */
export async function tunedPoint(
  run: Run,
  nearest: Point,
  seconds: number,
  tell: (event: CompressEvent) => void | Promise<void>,
): Promise<Point | null> {
  const kind = run.asked.goal?.kind
  const round = kind === 'macs' || kind === 'latency' ? await thinner(run) : await behind(run, nearest)
  if (!round) return null
  const { name, summary } = round
  const key = sha256(JSON.stringify([run.identity, run.target.name, run.limit, run.o.time, summary, round.of]))
  const known = await run.work.point(name, key)
  if (known) return known
  const start = performance.now()
  const folder = await run.work.folderFor(name)
  const recipe = round.recipe(await stepsFor(run, round, seconds, key))
  await runRecipe(await parseRecipe(recipe), {
    ...{ workdir: folder, signal: run.signal, cache: run.cache },
    onEvent: (event) => void tell({ kind: 'run', point: name, event }),
  })
  return finish(run, { name, summary, key, recipe, start })
}

async function behind(run: Run, { name, summary, key }: Point): Promise<Round> {
  const { work } = run
  const recipe = await work.recipe(name)
  const normalised = hasNorms(run.float)
  return {
    ...{ name: `${name}-tuned`, summary: `${summary}, fine-tuned`, of: key, stages: 1 },
    recipe: ([steps]) => trainedBehind(recipe, { train: training(run, steps!), normalised }),
  }
}

async function thinner(run: Run): Promise<Round | null> {
  const { asked } = run
  const removed = asked.goal!.kind === 'macs' ? await channelShare(run, asked.goal!.most) : THINNER
  if (removed === null) return null
  const prune = { prune: { pattern: 'channel', scope: 'layer', sparsity: removed } }
  const widths = eightBits(run)
  const before: readonly RecipeJson[] = [prune, { 'remove-channels': {} }]
  const recipe = (steps: readonly number[]): RecipeJson => {
    const { stages: floats, ...head } = recipeOf({ passes: [], train: null }, run.recipeFacts)
    const [first] = Array.isArray(floats) ? floats : []
    const stages = [...before, { quantize: widths }].map((pass, i, all) => ({
      ...{ name: nameAt(i, all.length), from: nameAt(i - 1, all.length), teacher: STAGE.float, eval: false },
      ...{ passes: [pass], train: training(run, steps[i]!) },
    }))
    return { ...head, stages: [first, ...stages] }
  }
  return {
    ...{ name: 'thinner', summary: `${Math.round(removed * 100)} % of the channels removed, 8 bits, fine-tuned` },
    ...{ of: [before, widths], stages: before.length + 1, recipe },
  }
}

const nameAt = (i: number, of: number): string =>
  i < 0 ? STAGE.float : i === of - 1 ? STAGE.quantised : `pruned-${i + 1}`

function eightBits({ o: { batch }, limit }: Run): RecipeJson {
  return { ops: ['*'], 'weight-bits': 8, 'activation-bits': 8, 'first-layer': 'quantize', limit, batch }
}

/** Share of the channels to remove from each layer for so many MACs; null where it cannot be done. */
async function channelShare({ float }: Run, most: number): Promise<number | null> {
  const macsAt = async (sparsity: number): Promise<number> => {
    const model = cloneModel(float)
    await runPass(model, 'prune', { pattern: 'channel', scope: 'layer', sparsity })
    await runPass(model, 'remove-channels', {})
    return (await modelInfo(model, { bytes: 0 })).macs ?? Number.POSITIVE_INFINITY
  }
  return leastShare(MOST_CHANNELS, async (share) => (await macsAt(share)) <= most)
}

/** The same number for each stage before, and twice as many for the quantised network. */
async function stepsFor(run: Run, { stages, recipe }: Round, seconds: number, key: string): Promise<readonly number[]> {
  const file = 'tuning.json'
  const plan = await run.work.readJson(file)
  const old = typeof plan === 'object' && plan !== null ? Reflect.get(plan, key) : null
  if (Array.isArray(old) && old.length === stages && old.every(Number.isSafeInteger)) return old
  const timed = await timeSteps(await parseRecipe(recipe(new Array<number>(stages).fill(8))))
  // what the point before it trained comes first
  const each = timed.slice(-stages)
  const weights = each.map((_, i) => (i === stages - 1 ? 2 : 1))
  const whole = weights.reduce((a, b) => a + b, 0)
  const training = seconds * TRAINING_SHARE
  const steps = each.map((s, i) => Math.max(1, Math.floor((training * weights[i]!) / whole / Math.max(s, 1e-6))))
  await run.work.writeJson(file, { ...(typeof plan === 'object' ? plan : {}), [key]: steps })
  return steps
}

const hasNorms = ({ graph }: Model): boolean => [...graph.nodes()].some(isChannelNorm)

function training({ float, samples, o }: Run, steps: number): RecipeJson {
  const images = samples.training === 'random' ? null : samples.fitted
  const batch = Math.min(2 * o.batch, images ?? Number.POSITIVE_INFINITY)
  const epochs = images === null ? steps : steps / Math.max(1, Math.floor(images / batch))
  return {
    ...{
      epochs: Number(Math.max(epochs, 1e-6).toPrecision(12)),
      'max-steps': steps,
      batch,
      ...(hasNorms(float) ? RATES.normalised : RATES.bare),
    },
    ...(images !== null && { limit: images }),
    ...{ augment: samples.preprocess === undefined ? 'none' : 'standard', workers: o.workers, threads: o.threads },
    ...(o.allowNonfinite && { 'allow-nonfinite': true }),
  }
}
