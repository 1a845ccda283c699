/** Training on TensorFlow.js: the same losses as onnxruntime's, and nothing left over on the device. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { buildNetwork, type NetworkSpec } from '../../src/models/spec.ts'
import { openDevice } from '../../src/runtime/devices/device.ts'
import type { Executor } from '../../src/runtime/executor.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { openBackend } from '../../src/runtime/tfjs/backends.ts'
import { train } from '../../src/train/loop/trainer.ts'
import { hyperFeeds, optimizerDefaults } from '../../src/train/step/optimizers.ts'
import { buildStep } from '../../src/train/step/step-graph.ts'
import { StepRunner } from '../../src/train/step/step-runner.ts'
import { images, pixels, run, tinyNet } from '../train/fixtures.ts'

const STEPS = 20

/** Losses of STEPS steps on a few random images, and the weights after them. */
async function curve(model: Model, executor: Executor): Promise<{ losses: number[]; weights: Float32Array }> {
  const batch = 4
  const options = {
    ...{ batch, loss: 'ce' as const, alpha: 1, temperature: 1, optimizer: optimizerDefaults, tiles: 1 },
    ...{ batchStatistics: true, learnScales: false },
  }
  const step = await buildStep(model, options, () => false)
  const runner = await StepRunner.create(step, executor, { threads: 1 })
  assert.deepEqual(runner.fallbacks, [])
  runner.loadFrom(model)
  const rng = new Rng(3)
  const dims = [batch, ...step.inputDims.slice(1)]
  const x = Tensor.float32(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => rng.normal(0, 1)),
  )
  const targets = new Float32Array(batch * step.classes!)
  for (let i = 0; i < batch; i++) targets[i * step.classes! + rng.integer(step.classes!)] = 1
  const losses: number[] = []
  for (let i = 0; i < STEPS; i++) {
    const y = Tensor.float32([batch, step.classes!], targets)
    losses.push((await runner.run(x, y, hyperFeeds(optimizerDefaults, 0.02, i))).loss)
    runner.commit()
  }
  await runner.download()
  const weights = runner.vector('weights').slice()
  await runner.dispose()
  return { losses, weights }
}

const networks: Readonly<Record<string, NetworkSpec>> = {
  LeNet: { family: 'lenet', size: 16 },
  ResNet: { family: 'resnet', depth: 8, width: 4, size: 8, classes: 5 },
  DenseNet: { family: 'densenet-bc', depth: 10, growth: 4, size: 8, classes: 5 },
}

for (const [name, spec] of Object.entries(networks))
  for (const device of name === 'LeNet' ? ['tfjs:cpu', 'tfjs:wasm'] : ['tfjs:wasm'])
    test(`${name}: ${STEPS} losses on ${device} are onnxruntime's`, async () => {
      const model = buildNetwork(spec)
      const want = await curve(model, ortExecutor())
      const have = await curve(model, await openDevice(device))
      assert.ok(want.losses.at(-1)! < want.losses[0]! / 2, 'it learns')
      for (const [i, loss] of want.losses.entries()) assert.ok(Math.abs(have.losses[i]! - loss) < 1e-4, `step ${i}`)
      for (const [i, w] of want.weights.entries()) assert.ok(Math.abs(have.weights[i]! - w) < 1e-4, `weight ${i}`)
    })

test('nothing is left over: as many tensors and bytes in step 1000 as in the first, none afterwards', async () => {
  const { tf } = await openBackend('wasm')
  const executor = await openDevice('tfjs:wasm')
  const before = tf.memory()
  const seen: string[] = []
  const own = { batch: 2, epochs: 100, maxSteps: 1000, lr: 0.01, augment: 'none', workers: 0 }
  await train(tinyNet(), { data: images(60), preprocess: pixels, options: own, executor }, (e) => {
    const { numTensors, numBytes } = tf.memory()
    if (e.kind === 'step' && e.step % 333 === 0) seen.push(`${numTensors} tensors, ${numBytes} bytes`)
  })
  assert.equal(seen.length, 4)
  assert.equal(new Set(seen).size, 1, seen.join('; '))
  assert.deepEqual([tf.memory().numTensors, tf.memory().numBytes], [before.numTensors, before.numBytes])
})

test('the trainer, with validation, weight average and BatchNormalization, on the device', async () => {
  const executor = await openDevice('tfjs:wasm')
  const options = {
    epochs: 1,
    batch: 3,
    accumulate: 2,
    ema: 0.9,
    valFraction: 0.2,
    optimizer: 'adamw' as const,
    lr: 0.01,
    clipNorm: 1,
  }
  const [have, want] = [await run(tinyNet(), options, { executor }), await run(tinyNet(), options)]
  for (const [i, loss] of want.losses.entries()) assert.ok(Math.abs(have.losses[i]! - loss) < 1e-4, `step ${i}`)
  const [a, b] = [
    await evaluate(have.model, images(40), pixels, { executor }),
    await evaluate(want.model, images(40), pixels),
  ]
  assert.ok(Math.abs(a.loss - b.loss) < 1e-4)
  const start = have.events[0]
  assert.ok(start?.kind === 'start' && start.device.startsWith('TensorFlow.js 4.22.0 (wasm)'))
})
