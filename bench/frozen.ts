/**
 * What freezing saves: images per second of training steps of DenseNet-BC-40-12 on 32x32 images, all of it trained; only the
 * fully connected layer, the frozen rest computed forward in each step; and only that layer on features that were kept.
 *
 *   node --import tsx bench/frozen.ts
 */
import { cpus } from 'node:os'
import { writeFileAtomic } from '../src/base/files.ts'
import { Rng } from '../src/base/rng.ts'
import { Dataset, sharedBytes } from '../src/data/dataset.ts'
import { cloneModel } from '../src/graph/clone.ts'
import type { Model } from '../src/graph/model.ts'
import { buildNetwork } from '../src/models/spec.ts'
import { runPass as pass } from '../src/passes/run-pass.ts'
import { trainSteps } from '../src/train/loop/trainer.ts'
import type { TrainOptionsInput } from '../src/train/train-options.ts'

const BATCH = 64
const ROUNDS = 3
const STEPS = 8

const rng = new Rng(0)
const images = sharedBytes(BATCH * 12 * 3 * 32 * 32)
for (let i = 0; i < images.length; i++) images[i] = rng.integer(256)
const labels = Int32Array.from({ length: BATCH * 12 }, (_, i) => i % 10)
const data = new Dataset({
  ...{ name: 'random pixels', split: 'train', classes: 10, channels: 3, height: 32, width: 32, images, labels },
})
const preprocess = {
  scale: 255,
  mean: [0.5, 0.5, 0.5],
  std: [0.25, 0.25, 0.25],
  size: [32, 32],
  layout: 'NCHW',
} as const

/** Seconds of each step after three of warm-up, and of everything before the first. */
async function time(model: Model, options: TrainOptionsInput): Promise<{ steps: number[]; start: number }> {
  const own = { batch: BATCH, maxSteps: STEPS, lr: 0.01, augment: 'none', ...options } as const
  const steps: number[] = []
  let start = 0
  const began = performance.now()
  for await (const e of trainSteps(cloneModel(model), { data, preprocess, options: own })) {
    if (e.kind === 'start') start = (performance.now() - began) / 1000
    if (e.kind === 'step' && e.step >= 3) steps.push(BATCH / e.imagesPerSecond)
  }
  return { steps, start }
}

const dense = buildNetwork({ family: 'densenet-bc', depth: 40, growth: 12, classes: 10 })
const frozen = cloneModel(dense)
await pass(frozen, 'freeze', { allBut: ['fc'] })
const sides = {
  'all trained': () => time(dense, {}),
  'fc trained': () => time(frozen, { cacheFeatures: false }),
  'fc trained on kept features': () => time(frozen, {}),
}
const taken: Record<string, { steps: number[]; start: number }[]> = {}
for (let round = 0; round < ROUNDS; round++)
  for (const [name, run] of Object.entries(sides)) taken[name] = [...(taken[name] ?? []), await run()]

const median = (xs: readonly number[]): number => [...xs].sort((a, b) => a - b)[xs.length >> 1]!
const results = Object.entries(taken).map(([name, runs]) => {
  const step = median(runs.flatMap((r) => r.steps))
  return { name, stepSeconds: step, imagesPerSecond: BATCH / step, startSeconds: median(runs.map((r) => r.start)) }
})
const [all] = results
const shown = results.map((r) => ({ ...r, speedup: all!.stepSeconds / r.stepSeconds }))
console.table(shown)
const head = {
  what: 'DenseNet-BC-40-12, batch 64, 32x32, SGD',
  images: data.size,
  cpu: cpus()[0]?.model,
  cores: cpus().length,
}
await writeFileAtomic('bench/results/frozen.json', `${JSON.stringify({ ...head, results: shown }, null, 2)}\n`)
