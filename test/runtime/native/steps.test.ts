/** Training steps with native kernels against the same steps in standard operators. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../../src/base/rng.ts'
import { cloneModel } from '../../../src/graph/clone.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { useNativeKernels } from '../../../src/lowerings/native/index.ts'
import { ACTIVATION_GRADIENT, STEP_DOMAIN } from '../../../src/lowerings/native/operators.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { hyperFeeds, optimizerDefaults } from '../../../src/train/step/optimizers.ts'
import { buildStep } from '../../../src/train/step/step-graph.ts'
import { StepRunner } from '../../../src/train/step/step-runner.ts'
import { noKernels } from '../../support/native.ts'
import { noise, runSteps, type StepCase, small, stepCases } from '../../support/training-steps.ts'

const skip = noKernels

type Form = 'native' | 'standard' | 'plain'

/** Loss and flat gradient at the start. `plain`: in standard operators on the plain layout. */
async function gradient({ make, batch = 4, options = {} }: StepCase, form: Form) {
  const model = await make()
  const native = form === 'native'
  const wanted = { batch, loss: 'ce', alpha: 1, temperature: 1, optimizer: optimizerDefaults, tiles: 1 } as const
  const own = { ...wanted, batchStatistics: true, learnScales: false, ...options }
  const step = await buildStep(cloneModel(model), own, () => false)
  const engine = ortExecutor()
  const load: typeof engine.load = (m, o) => engine.load(m, { ...o, step: form !== 'plain' })
  const runner = await StepRunner.create(step, { ...engine, load }, { threads: 1, native })
  assert.equal(runner.native !== null, native)
  runner.loadFrom(model)
  const rng = new Rng(11)
  const targets = new Float32Array(batch * step.classes!)
  for (let k = 0; k < batch; k++) targets[k * step.classes! + rng.integer(step.classes!)] = 1
  const fed = [noise(rng, step.inputDims), Tensor.float32([batch, step.classes!], targets)] as const
  const hyper = hyperFeeds(own.optimizer, 0.01, 0)
  const flat = [...(await runner.gradients(...fed, hyper)).values()].flatMap((v) => [...v])
  const { loss } = options.accumulate ? { loss: 0 } : await runner.run(...fed, hyper)
  await runner.dispose()
  return { loss, flat }
}

/** Root of the squared distance over that of the second one. */
function distance(a: readonly number[], b: readonly number[]): number {
  const squares = (of: (i: number) => number): number => b.reduce((sum, _, i) => sum + of(i) ** 2, 0)
  return Math.sqrt(squares((i) => a[i]! - b[i]!) / squares((i) => b[i]!))
}

for (const [name, one] of Object.entries(stepCases))
  test(`a step, ${name}: as near to the plain form as that in standard operators`, { skip }, async () => {
    const [native, standard, plain] = [
      await gradient(one, 'native'),
      await gradient(one, 'standard'),
      await gradient(one, 'plain'),
    ]
    assert.ok(
      Math.abs(native.loss - plain.loss) < 1e-5 * Math.max(1, plain.loss),
      `loss ${native.loss}, not ${plain.loss}`,
    )
    const [own, other] = [distance(native.flat, plain.flat), distance(standard.flat, plain.flat)]
    assert.ok(own < Math.max(1e-5, 2 * other), `gradient off by ${own}; in standard operators by ${other}`)
  })

test('several steps, accumulated or not: losses and state as in standard operators', { skip }, async () => {
  for (const name of ['resnet', 'accumulated over two runs']) {
    const [native, standard] = [await runSteps(stepCases[name]!, { native: true }), await runSteps(stepCases[name]!)]
    assert.ok(native.used !== null && standard.used === null)
    native.losses.forEach((loss, i) => {
      assert.ok(Math.abs(loss - standard.losses[i]!) < 1e-4, `${native.losses}, not ${standard.losses}`)
    })
    native.state.forEach((v, k) => {
      const off = distance([...v], [...standard.state[k]!])
      assert.ok(off < 1e-3, `${name}: vector ${k} is off by ${off}`)
    })
  }
})

test('a step has the same bytes whatever the number of threads, and each time', { skip }, async () => {
  const runs = []
  for (const threads of [1, 2, 4, 1])
    runs.push((await runSteps(stepCases['resnet, batch of 1']!, { native: true, threads })).state)
  for (const state of runs.slice(1)) assert.deepEqual(state, runs[0])
})

test('every normalisation is one node, and one more in the backward pass, with its activation', async () => {
  const optimizer = optimizerDefaults
  const options = { batch: 2, loss: 'ce', alpha: 1, temperature: 1, optimizer, batchStatistics: true } as const
  for (const family of ['mobilenet-v3-small', 'mobilenet-v2']) {
    const step = await buildStep(small({ family }), { ...options, learnScales: false, native: true }, () => false)
    const norms = [...step.model.graph.nodes()].filter(
      (n) => n.is('BatchNormalization') && n.int('training_mode', 0) === 1,
    )
    useNativeKernels(step.model)
    const left = [...step.model.graph.nodes()]
    const native = left.filter((n) => n.domain === STEP_DOMAIN)
    assert.equal(native.filter((n) => n.op !== ACTIVATION_GRADIENT).length, 2 * norms.length, family)
    assert.ok(!left.some((n) => n.is('BatchNormalization')))
    // what a projection gives is not activated
    assert.ok(native.filter((n) => n.int('activation', 0) > 0).length > norms.length, family)
  }
})
