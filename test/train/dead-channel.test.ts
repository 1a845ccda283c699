/**
 * A channel without weights has variance 0, and what onnxruntime merges by value shows there: the buffers of batch
 * statistics, merged with the zeros and ones of the backward part, made its gradient infinite and the others wrong.
 */
import assert from 'node:assert/strict'
import test from 'node:test'
import { parseOptions } from '../../src/base/options.ts'
import { Rng } from '../../src/base/rng.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { densenetBc } from '../../src/models/densenet-bc.ts'
import { NetworkBuilder } from '../../src/models/layers.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { hyperFeeds, optimizerDefaults } from '../../src/train/step/optimizers.ts'
import { buildStep } from '../../src/train/step/step-graph.ts'
import { StepRunner } from '../../src/train/step/step-runner.ts'

test('gradients with a dead channel are the same at every optimisation level', async () => {
  const shape = { depth: 10, growth: 2, classes: 4, size: 8, channels: 1 }
  const model = densenetBc.build(parseOptions(densenetBc.options, shape, 'densenet-bc'), new NetworkBuilder(new Rng(1)))
  const stem = model.graph.find('stem.weight')!
  const weights = stem.constant!.toFloat32().slice()
  stem.setConstant(Tensor.float32(stem.constant!.dims, weights.fill(0, 0, 9)))
  const options = { batch: 4, loss: 'ce' as const, alpha: 1, temperature: 1, optimizer: optimizerDefaults }
  const step = await buildStep(model, { ...options, batchStatistics: true, learnScales: false }, () => false)
  const rng = new Rng(2)
  const images = Tensor.float32(
    [4, 1, 8, 8],
    Float32Array.from({ length: 256 }, () => rng.normal(0, 1)),
  )
  const targets = Tensor.float32(
    [4, 4],
    Float32Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 1 : 0)),
  )
  const gradients = await Promise.all(
    (['disabled', 'all'] as const).map(async (optimization) => {
      const runner = await StepRunner.create(step, ortExecutor(), { optimization })
      runner.loadFrom(model)
      const found = await runner.gradients(images, targets, hyperFeeds(optimizerDefaults, 0.1, 0))
      await runner.dispose()
      return found
    }),
  )
  for (const [name, want] of gradients[0]!) {
    const got = gradients[1]!.get(name)!
    const size = Math.hypot(...want)
    assert.ok(Math.hypot(...want.map((w, i) => w - got[i]!)) <= 1e-4 * size + 1e-7, name)
  }
})
