/** A step in tiles of the batch against the same step over the whole batch. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { buildNetwork, type NetworkSpec } from '../../../src/models/spec.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { hyperFeeds, optimizerDefaults } from '../../../src/train/step/optimizers.ts'
import { buildStep } from '../../../src/train/step/step-graph.ts'
import { StepRunner } from '../../../src/train/step/step-runner.ts'

const BATCH = 8

async function gradients(model: Model, size: number, tiles: number) {
  const options = { batch: BATCH, loss: 'ce', alpha: 1, temperature: 1, optimizer: optimizerDefaults } as const
  const step = await buildStep(model, { ...options, batchStatistics: true, learnScales: false, tiles }, () => false)
  const runner = await StepRunner.create(step, ortExecutor(), { threads: 1 })
  runner.loadFrom(model)
  const images = Float32Array.from({ length: BATCH * 3 * size * size }, (_, i) => ((i * 7919) % 101) / 50 - 1)
  const targets = new Float32Array(BATCH * 10)
  for (let i = 0; i < BATCH; i++) targets[i * 10 + ((3 * i) % 10)] = 1
  const [x, y] = [Tensor.float32([BATCH, 3, size, size], images), Tensor.float32([BATCH, 10], targets)]
  const found = await runner.gradients(x, y, hyperFeeds(optimizerDefaults, 0, 0))
  await runner.dispose()
  const tiled = [...step.model.graph.values()].filter((v) => v.name.includes('.tile')).length
  return { found, tiled }
}

const networks: { name: string; size: number; spec: NetworkSpec; change?: (m: Model) => Model }[] = [
  // the large activations end where a transition begins
  { name: 'DenseNet', size: 128, spec: { family: 'densenet-bc', depth: 10, growth: 8, size: 128 } },
  { name: 'ResNet', size: 128, spec: { family: 'resnet', depth: 8, width: 24, size: 128 } },
  {
    name: 'ResNet with a fixed batch at its end',
    ...{ size: 128, spec: { family: 'resnet', depth: 8, width: 24, size: 128 }, change: flattenForThisBatch },
  },
]

/** Behind the part with large activations, as exporters write it whose batch was fixed. */
function flattenForThisBatch(model: Model): Model {
  const { graph } = model
  const flatten = [...graph.nodes()].find((n) => n.is('Flatten'))!
  const b = graph.before(flatten)
  graph.replaceUses(flatten.output, b.op('Reshape', [flatten.input(0), b.ints([BATCH, -1])]))
  graph.remove(flatten)
  return model
}

for (const { name, size, spec, change } of networks)
  test(`${name} in four tiles has the gradients of the whole batch`, async () => {
    const model = (change ?? ((m: Model) => m))(buildNetwork(spec, { seed: 5 }))
    const [whole, tiles] = [await gradients(model, size, 1), await gradients(model, size, 4)]
    assert.equal(whole.tiled, 0)
    assert.ok(tiles.tiled > 0, 'nothing was tiled')
    for (const [parameter, g] of whole.found) {
      const other = tiles.found.get(parameter)!
      const distance = Math.hypot(...g.map((v, i) => v - other[i]!)) / (Math.hypot(...g) + 1e-6)
      // a mask may flip, a tile may not
      assert.ok(distance < 0.02, `${parameter}: ${distance}`)
    }
  })
