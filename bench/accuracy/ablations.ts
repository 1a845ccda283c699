/**
 * Does each default earn its place? ResNet-20 (91.73 % on CIFAR-10) goes to 75 % zeros and W4A4 in a short distillation
 * from ResNet-56, once with the defaults and once for each way to leave one of them. Everything else stays the same:
 * the same seeds, images and steps, one thread. Finished runs are kept in the work folder and not done again.
 *
 *   node --import tsx bench/accuracy/ablations.ts [--steps 800] [--lr 0.003] [--seeds 2] [--only fixed-mask,lsq]
 *
 * Writes bench/results/ablations.json: of each variant its options, and top-1 on the test images by seed before
 * training, after it, and after bn-update.
 */
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { writeFileAtomic } from '../../src/files.ts'
import { parseRecipe } from '../../src/recipes/load.ts'
import { runRecipe } from '../../src/recipes/run.ts'

const { values: given } = parseArgs({
  options: {
    steps: { type: 'string', default: '800' },
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

const variants: Readonly<Record<string, Variant>> = {
  defaults: { question: 'the defaults: global threshold, moving mask, ALS steps, reverse-kl' },
  layer: { question: 'one threshold for each layer', prune: { scope: 'layer' } },
  'fixed-mask': { question: 'the mask stays as the pass made it', train: { 'mask-update-every': 0 } },
  gradual: { question: 'sparsity grows to 75 % by a cubic schedule', train: { 'mask-schedule': 'cubic' } },
  lsq: { question: 'steps of weights and activations are learned', train: { 'learn-scales': true } },
  'fixed-scales': { question: 'weight steps stay as the pass fitted them', train: { 'refit-scales': false } },
  kl: { question: 'KL(teacher || student)', train: { loss: 'kl' } },
  'kl-t4': { question: 'KL(teacher || student), temperature 4', train: { loss: 'kl', temperature: 4 } },
  ce: { question: 'cross entropy, no teacher', train: { loss: 'ce' } },
  'max-calibration': { question: 'activation steps that clip nothing', quantize: { calibration: 'max' } },
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
          ...{ 'mask-update-until': Math.floor((steps * 2) / 3), ...train },
        },
      },
      { name: 'trained-bn', from: 'trained', 'bn-update': { augment: 'standard', limit: 10_000 } },
    ],
  }
}

const names = given.only?.split(',') ?? Object.keys(variants)
const bySeed = new Map<string, { seconds: number; stages: Record<string, number[]> }>()
const head = {
  what: 'ResNet-20 on CIFAR-10, 75 % zeros and W4A4, short distillation from ResNet-56; one default left at a time',
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
