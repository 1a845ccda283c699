/** A training step in the engine's blocked layout against the same step in the plain layout. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { useBlockedLayout } from '../../src/lowerings/blocked/index.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { applyPass } from '../../src/pass-manager/manager.ts'
import { insertFakeQuant } from '../../src/passes/insert-fake-quant.ts'
import { findBlock } from '../../src/runtime/ort/find-block.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { hyperInputsOf, optimizerDefaults } from '../../src/train/step/optimizers.ts'
import { buildStep } from '../../src/train/step/step-graph.ts'
import type { StepGraph } from '../../src/train/step/step-options.ts'

const BATCH = 4

function network(shortcut: 'A' | 'B'): Model {
  return buildNetwork({ family: 'resnet', depth: 8, size: 16, shortcut }, { seed: 3 })
}

function noise(dims: readonly number[]): Tensor {
  const rng = new Rng(11)
  return Tensor.float32(
    dims,
    Float32Array.from({ length: dims.reduce((p, d) => p * d, 1) }, () => rng.normal()),
  )
}

/** Calibration batches of noise. */
const images = (model: Model) => ({
  async *batches() {
    yield { [model.graph.inputs[0]!.name]: noise([8, 3, 16, 16]) }
  },
})

async function stepOf(model: Model, learnScales = false): Promise<StepGraph> {
  const options = { batch: BATCH, loss: 'ce', alpha: 1, temperature: 1, optimizer: optimizerDefaults } as const
  return buildStep(model, { ...options, batchStatistics: true, learnScales }, () => false)
}

async function outputs(step: StepGraph, source: Model, blocked: boolean): Promise<Record<string, Tensor>> {
  const packed = (layout: StepGraph['weights']): Tensor =>
    Tensor.float32(
      [layout.size],
      layout.pack((n) => source.graph.find(n)!.constant!.toNumbers()),
    )
  const oneHot = new Float32Array(BATCH * step.classes!)
  for (let i = 0; i < BATCH; i++) oneHot[i * step.classes! + ((3 * i) % step.classes!)] = 1
  const feeds: Record<string, Tensor> = {
    [step.inputName]: noise(step.inputDims),
    targets: Tensor.float32([BATCH, step.classes!], oneHot),
    weights: packed(step.weights),
    statistics: packed(step.statistics),
  }
  for (const slot of step.slots) feeds[slot] = Tensor.float32([step.weights.size], new Float32Array(step.weights.size))
  for (const name of hyperInputsOf(optimizerDefaults.optimizer)) feeds[name] = Tensor.scalar(0.1, 'float32')
  const session = await ortExecutor().load(step.model, { step: blocked })
  const out = await session.run(feeds)
  await session.dispose()
  return out
}

/** Of the whole gradient's norm: a shift that the next normalisation subtracts again has a gradient of rounding errors only. */
const NOISE = 1e-5

/** The largest distance between a parameter's two gradients, by its norm: a mask may flip, a layout may not. */
function distance(step: StepGraph, a: Tensor, b: Tensor): number {
  const norm = (v: Float32Array): number => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0))
  const parts = step.weights.entries.map((e) => {
    const [x, y] = [step.weights.slice(a.view('float32'), e), step.weights.slice(b.view('float32'), e)]
    return norm(x.map((v, i) => v - y[i]!)) / (norm(x) + NOISE * norm(a.view('float32')))
  })
  return Math.max(...parts)
}

for (const shortcut of ['A', 'B'] as const)
  for (const quantised of [false, true])
    test(`gradients in the blocked layout: ResNet-8, shortcut ${shortcut}${quantised ? ', W4A4' : ''}`, async (t) => {
      const block = await findBlock((m) => ortExecutor().load(m))
      if (block === 0) return t.skip('this processor has no blocked kernels')
      const model = network(shortcut)
      if (quantised) await applyPass(model, insertFakeQuant, {}, { calibration: images(model) })
      const step = await stepOf(model, quantised)
      const [plain, blocked] = [await outputs(step, model, false), await outputs(step, model, true)]
      assert.ok(Math.abs(plain.loss!.view('float32')[0]! - blocked.loss!.view('float32')[0]!) < 1e-4)
      assert.ok(distance(step, plain.gradient!, blocked.gradient!) < 0.02)
      const [p, q] = [plain.next_statistics!.view('float32'), blocked.next_statistics!.view('float32')]
      p.forEach((v, i) => {
        assert.ok(Math.abs(v - q[i]!) < 1e-4 * (1 + Math.abs(v)))
      })
      const copy = cloneModel(step.model)
      useBlockedLayout(copy, block)
      const left = [...copy.graph.nodes()].filter((n) => n.op === 'BatchNormalization')
      assert.equal(left.length, 0, 'every normalisation has its blocked form')
    })

for (const family of ['mobilenet-v3-small', 'shufflenet-v2'])
  test(`gradients in the blocked layout: ${family}`, async (t) => {
    const block = await findBlock((m) => ortExecutor().load(m))
    if (block === 0) return t.skip('this processor has no blocked kernels')
    const model = buildNetwork({ family, size: 16, reduction: 4 }, { seed: 3 })
    const step = await stepOf(model)
    const [plain, blocked] = [await outputs(step, model, false), await outputs(step, model, true)]
    assert.ok(Math.abs(plain.loss!.view('float32')[0]! - blocked.loss!.view('float32')[0]!) < 1e-4)
    assert.ok(distance(step, plain.gradient!, blocked.gradient!) < 0.02)
    const copy = cloneModel(step.model)
    useBlockedLayout(copy, block)
    const grouped = [...copy.graph.nodes()].filter((n) => n.domain === '' && n.int('group', 1) > 1)
    assert.deepEqual(
      grouped.map((n) => n.id),
      [],
      'every convolution of channels has its blocked form',
    )
  })
