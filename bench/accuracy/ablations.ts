/**
 * Does each default earn its place? ResNet-20 (91.73 % on CIFAR-10) goes to 75 % zeros and W4A4 in a short distillation
 * from ResNet-56, with one thing changed at a time from `base`, whose options are all written out here. Everything else
 * stays the same: the same seeds, images and steps, one thread. Finished runs are kept in the work folder and not
 * repeated.
 *
 *   node --import tsx bench/accuracy/ablations.ts [--steps 1600] [--lr 0.003] [--seeds 2] [--only moving-mask,learn]
 *
 * Writes bench/results/ablations.json: of each variant its options, and top-1 on the test images by seed before
 * training, after it, and after bn-update.
 */
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { writeFileAtomic } from '../../src/base/files.ts'
import { parseRecipe } from '../../src/recipes/load.ts'
import { runRecipe } from '../../src/recipes/run.ts'

const { values: given } = parseArgs({
  options: {
    steps: { type: 'string', default: '1600' },
    lr: { type: 'string', default: '0.003' },
    seeds: { type: 'string', default: '2' },
    only: { type: 'string' },
    workdir: { type: 'string', default: 'build/ablations' },
    limit: { type: 'string' },
    out: { type: 'string', default: 'bench/results/ablations.json' },
  },
})
const steps = Number(given.steps)
const lr = Number(given.lr)
const limit = given.limit === undefined ? {} : { limit: Number(given.limit) }

type Options = Readonly<Record<string, unknown>>
interface Variant {
  readonly question: string
  readonly prune?: Options
  readonly quantize?: Options
  readonly train?: Options
}

/** `base` in the options that variants change; kl and temperature 4 suit this teacher. */
const base = { loss: 'kl', temperature: 4, 'mask-update-until': 0, scales: 'refit' }
const moving = (share: number): Options => ({ 'mask-update-every': 50, 'mask-update-until': Math.floor(steps * share) })
const published = { loss: 'reverse-kl', temperature: 1 }

const variants: Readonly<Record<string, Variant>> = {
  base: { question: 'global threshold, fixed mask, ALS steps refitted, mse calibration, kl at temperature 4' },
  layer: { question: 'one threshold for each layer', prune: { scope: 'layer' } },
  'moving-mask': { question: 'the mask moves for two thirds of the steps', train: moving(2 / 3) },
  'moving-early': { question: 'the mask moves for a quarter of the steps', train: moving(1 / 4) },
  gradual: {
    question: 'sparsity grows to 75 % by a cubic schedule',
    train: { ...moving(2 / 3), 'mask-schedule': 'cubic' },
  },
  learn: { question: 'steps of weights and activations are learned', train: { scales: 'learn' } },
  keep: { question: 'steps stay as the pass fitted them', train: { scales: 'keep' } },
  'max-calibration': { question: 'activation steps that clip nothing', quantize: { calibration: 'max' } },
  'reverse-kl': { question: 'KL(student || teacher)', train: { loss: 'reverse-kl' } },
  t2: { question: 'temperature 2', train: { temperature: 2 } },
  'reverse-kl-t1': { question: 'KL(student || teacher), temperature 1', train: published },
  ce: { question: 'cross entropy, no teacher', train: { loss: 'ce' } },
  'reverse-kl-t1-learn': { question: 'the same, and learned steps', train: { ...published, scales: 'learn' } },
  published: {
    question: 'as published: moving mask, refitted steps, KL(student || teacher) at temperature 1',
    train: { ...published, ...moving(2 / 3) },
  },
  defaults: {
    question: 'what mnc train does: fixed mask, learned steps, KL(student || teacher) at temperature 4',
    train: { loss: 'reverse-kl', scales: 'learn' },
  },
}

function recipeOf(name: string, { prune, quantize, train }: Omit<Variant, 'question'>, seed: number): unknown {
  return {
    name: `${name}-${seed}`,
    data: 'cifar10:.data/cifar-10',
    seed,
    defaults: { eval: { ...limit, threads: 1 }, train: { threads: 1 } },
    stages: [
      {
        ...{ name: 'dense', from: '.data/zoo/akamaster_resnet20_bn_op13.onnx', eval: false },
        pixels: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
      },
      {
        ...{ name: 'cut', from: 'dense' },
        passes: [{ prune: { sparsity: 0.75, ...prune } }, { quantize: { ...quantize } }],
      },
      { name: 'cut-bn', from: 'cut', 'bn-update': { augment: 'standard', limit: 10_000 } },
      {
        ...{ name: 'trained', from: 'cut', teacher: '.data/zoo/akamaster_resnet56_bn_op10.onnx' },
        train: {
          ...{ 'max-steps': steps, epochs: steps / Math.floor(50_000 / 64), lr },
          ...{ ...base, ...train },
        },
      },
      { name: 'trained-bn', from: 'trained', 'bn-update': { augment: 'standard', limit: 10_000 } },
    ],
  }
}

const names = given.only?.split(',') ?? Object.keys(variants)
const bySeed = new Map<string, { seconds: number; stages: Record<string, number[]> }>()
const head = {
  what: 'ResNet-20 on CIFAR-10, 75 % zeros and W4A4, short distillation from ResNet-56; one thing changed at a time from base',
  ...{ steps, batch: 64, lr, cpu: cpus()[0]?.model, cores: cpus().length },
}

function summary(name: string): unknown {
  const mean = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0) / xs.length
  const spread = (xs: readonly number[]) => Math.max(...xs) - Math.min(...xs)
  const { seconds, stages } = bySeed.get(name)!
  const top1 = Object.entries(stages).map(([stage, xs]) => [stage, { mean: mean(xs), spread: spread(xs), bySeed: xs }])
  return { ...variants[name], seconds: Math.round(seconds), top1: Object.fromEntries(top1) }
}

for (let seed = 0; seed < Number(given.seeds); seed++) {
  for (const name of names) {
    const { question, ...changes } = variants[name]!
    const recipe = await parseRecipe(recipeOf(name, changes, seed))
    const { stages } = await runRecipe(recipe, { workdir: `${given.workdir}/${steps}-${lr}/${recipe.name}` })
    const result = bySeed.get(name) ?? { seconds: 0, stages: {} }
    for (const { stage, metrics, seconds } of stages) {
      result.seconds += seconds
      if (metrics.eval) result.stages[stage] = [...(result.stages[stage] ?? []), metrics.eval.top1]
    }
    bySeed.set(name, result)
    console.log(name, seed, stages.map((s) => `${s.stage} ${s.metrics.eval?.top1 ?? '-'}`).join('  '))
    const done = Object.fromEntries([...bySeed.keys()].map((n) => [n, summary(n)]))
    await writeFileAtomic(given.out, `${JSON.stringify({ ...head, variants: done }, null, 2)}\n`)
  }
}
