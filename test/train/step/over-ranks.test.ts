/** Steps of several ranks that normalise by the statistics of all their batches, against one step over all of them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../../src/base/rng.ts'
import type { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { NetworkBuilder } from '../../../src/models/layers.ts'
import { buildNetwork, type NetworkSpec } from '../../../src/models/spec.ts'
import { runPass } from '../../../src/passes/run-pass.ts'
import { inferTypes } from '../../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { cutAtExchanges } from '../../../src/runtime/ort/segments.ts'
import { hyperFeeds, optimizerDefaults } from '../../../src/train/step/optimizers.ts'
import { buildStep } from '../../../src/train/step/step-graph.ts'
import type { StepGraph, StepOptions } from '../../../src/train/step/step-options.ts'
import { StepRunner } from '../../../src/train/step/step-runner.ts'
import { prepareTeacher } from '../../../src/train/step/teacher.ts'

const RANKS = 2
/** Of a rank. */
const BATCH = 4
const CLASSES = 10

const common = { loss: 'ce', alpha: 1, temperature: 1, optimizer: optimizerDefaults, learnScales: false } as const

type Own = Partial<StepOptions>
const stepOf = (model: Model, batch: number, own: Own = {}): Promise<StepGraph> =>
  buildStep(model, { ...common, tiles: 1, batchStatistics: true, batch, ...own }, () => false)

/** Ranks that are in one process: each waits for all others, who then have the same means. */
function meeting(ranks: number): {
  readonly exchange: (values: Float64Array) => Promise<void>
  readonly count: () => number
} {
  let here: Float64Array[] = []
  let go: (() => void)[] = []
  let count = 0
  return {
    count: () => count,
    exchange: (values) =>
      new Promise((done) => {
        here.push(values)
        go.push(done)
        if (here.length < ranks) return
        const means = values.map((_, i) => here.reduce((sum, v) => sum + v[i]!, 0) / ranks)
        for (const v of here) v.set(means)
        const all = go
        count++
        here = []
        go = []
        for (const done of all) done()
      }),
  }
}

interface Data {
  readonly images: Float32Array
  readonly targets: Float32Array
}

/** Of all ranks; `at`: about what. */
function dataOf(size: number, at = 0, spread = 1): Data {
  const images = Float32Array.from({ length: RANKS * BATCH * 3 * size * size }, (_, i) => {
    const sample = Math.floor(i / (3 * size * size))
    return at + spread * (((i * 7919) % 101) / 50 - 1 + sample / 5)
  })
  const targets = new Float32Array(RANKS * BATCH * CLASSES)
  for (let i = 0; i < RANKS * BATCH; i++) targets[i * CLASSES + ((3 * i) % CLASSES)] = 1
  return { images, targets }
}

const part = (all: Float32Array, i: number, of: number): Float32Array =>
  all.subarray((i * all.length) / of, ((i + 1) * all.length) / of)

/** Gradients of the batch's part `i` of `of`. */
async function gradientsOf(
  model: Model,
  step: StepGraph,
  { images, targets }: Data,
  [i, of]: readonly [number, number],
  exchange?: (values: Float64Array) => Promise<void>,
): Promise<Map<string, Float32Array>> {
  const runner = await StepRunner.create(step, ortExecutor(), { threads: 1, ...(exchange && { exchange }) })
  runner.loadFrom(model)
  const batch = (RANKS * BATCH) / of
  const x = Tensor.float32([batch, ...step.inputDims.slice(1)], part(images, i, of))
  const hyper = { ...hyperFeeds(optimizerDefaults, 0, 0), ...(step.lossScaled && { loss_scale: Tensor.scalar(1) }) }
  const found = await runner.gradients(x, Tensor.float32([batch, CLASSES], part(targets, i, of)), hyper)
  await runner.dispose()
  return found
}

const norm = (values: ArrayLike<number>): number => Math.sqrt(Array.from(values).reduce((sum, v) => sum + v * v, 0))

/** Distance of the ranks' mean gradients from those of the whole batch, the largest of all parameters. */
async function distance(model: Model, data: Data, whole: Own = {}, own: Own = whole) {
  const one = await gradientsOf(model, await stepOf(model, RANKS * BATCH, whole), data, [0, 1])
  const { exchange, count } = meeting(RANKS)
  const step = await stepOf(model, BATCH, { ...own, ranks: RANKS })
  const ranks = await Promise.all([0, 1].map((i) => gradientsOf(model, step, data, [i, RANKS], exchange)))
  let most = 0
  // of a parameter that nothing depends on (a bias before a normalisation) there is only rounding
  const least = 1e-4 * Math.max(...[...one.values()].map(norm))
  for (const [name, g] of one) {
    const mean = g.map((_, i) => ranks.reduce((sum, r) => sum + r.get(name)![i]! / RANKS, 0))
    most = Math.max(most, norm(g.map((v, i) => v - mean[i]!)) / (norm(g) + least))
  }
  return { most, exchanges: count(), step }
}

const networks: { name: string; spec: NetworkSpec; levels: number }[] = [
  // seven normalisations one after the other (those of shortcuts beside them); the first has no exchange for its input's gradient
  { name: 'ResNet', spec: { family: 'resnet', depth: 8, width: 4, size: 8 }, levels: 7 },
  { name: 'DenseNet', spec: { family: 'densenet-bc', depth: 10, growth: 4, size: 8 }, levels: 9 },
]

for (const { name, spec, levels } of networks)
  test(`${name}: gradients of two ranks are those of one batch; two exchanges a normalisation`, async () => {
    const model = buildNetwork(spec, { seed: 5 })
    const { most, exchanges } = await distance(model, dataOf(8))
    assert.ok(most < 1e-4, `${most}`)
    assert.equal(exchanges, 2 * levels)
    // each rank by its own statistics is another computation
    const own = await gradientsOf(model, await stepOf(model, BATCH), dataOf(8), [0, RANKS])
    const one = await gradientsOf(model, await stepOf(model, RANKS * BATCH), dataOf(8), [0, 1])
    const [a, b] = [own, one].map((g) => [...g.values()].flatMap((v) => [...v]))
    assert.ok(norm(a!.map((v, i) => v - b![i]!)) > 0.1 * norm(b!))
  })

test('quantisers, masks, tiles of a rank and a teacher that normalises by the batch, too', async () => {
  const model = buildNetwork({ family: 'resnet', depth: 8, width: 4, size: 8 }, { seed: 1 })
  await runPass(model, 'prune', { sparsity: 0.5 })
  await runPass(model, 'quantize', { weightBits: 4, activationBits: 0 })
  const teacher = {
    model: await prepareTeacher(buildNetwork({ family: 'resnet', depth: 8, width: 6, size: 8 }, { seed: 2 }), true),
    batchStatistics: true,
  }
  const { most } = await distance(model, dataOf(8), { teacher, loss: 'kl', alpha: 0.5 })
  assert.ok(most < 1e-4, `${most}`)
})

test('tiles of a rank', async () => {
  const size = 272
  const net = new NetworkBuilder(new Rng(6))
  const x = net.conv(net.input({ channels: 3, size }), 'stem.conv', 8, { kernel: 3 })
  const y = net.batchNorm(
    net.conv(net.relu(net.batchNorm(x, 'stem.bn'), 'stem.relu'), 'conv', 4, { kernel: 3, stride: 4 }),
    'bn',
  )
  const model = net.output(net.linear(net.globalAveragePool(net.relu(y, 'relu'), 'pool'), 'fc', CLASSES, 'logits'))
  const tiled = await distance(model, dataOf(size), {}, { tiles: 2 })
  assert.ok(
    [...tiled.step.model.graph.values()].some((v) => v.name.includes('.tile')),
    'nothing was tiled',
  )
  // a mask may flip
  assert.ok(tiled.most < 0.02, `${tiled.most}`)
})

test('float16: statistics are exchanged as float64', async () => {
  const model = buildNetwork({ family: 'resnet', depth: 8, width: 16, size: 8 }, { seed: 3 })
  const { most, step } = await distance(model, dataOf(8), {}, { precision: 'float16' })
  assert.ok(step.lossScaled)
  assert.ok(most > 1e-5 && most < 0.05, `${most}`)
})

test('numbers far from zero that vary little keep their variance', async () => {
  const model = buildNetwork({ family: 'resnet', depth: 8, width: 4, size: 8 }, { seed: 5 })
  // the normalisation reads the images themselves
  const { graph } = model
  const conv = [...graph.nodes()].find((n) => n.is('Conv'))!
  const b = graph.before(conv)
  const vector = (name: string, value: number) => b.initializer(name, Tensor.float32([3], [value, value, value]))
  const inputs = [conv.input(0), vector('gain', 1), vector('shift', 0), vector('mean', 0), vector('variance', 1)]
  conv.setInput(0, b.op('BatchNormalization', inputs, { epsilon: { kind: 'float', value: 1e-12 } }))
  const { most } = await distance(model, dataOf(8, 300, 0.05))
  // as far as float32 holds such images; of squares of the means in float32 nothing would be left
  assert.ok(most < 0.1, `${most}`)
})

test('a segment takes over from earlier ones no more than it has to: what is sooner kept than made moves there', async () => {
  const model = buildNetwork({ family: 'resnet', depth: 8, width: 4, size: 8 }, { seed: 5 })
  const step = (await stepOf(model, BATCH, { ranks: RANKS })).model
  await inferTypes(step)
  const segments = cutAtExchanges(step)
  const passed = segments.flatMap((s) => [...s.passed.keys()])
  const count = (isSuch: (op: string) => boolean): number => passed.filter((v) => isSuch(v.producer!.op)).length
  // of ReLU its result; not the mask, which follows from it
  assert.equal(
    count((op) => op === 'HardSigmoid'),
    0,
  )
  assert.equal(new Set(passed).size, passed.length)
  const nodes = segments.reduce((n, s) => n + s.model.graph.nodeCount + s.exchanges.length, 0)
  assert.equal(nodes, step.graph.nodeCount)
})
