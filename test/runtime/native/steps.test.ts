/** Training steps with native kernels against the same steps in standard operators. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../../src/base/rng.ts'
import { cloneModel } from '../../../src/graph/clone.ts'
import type { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { useNativeKernels } from '../../../src/lowerings/native/index.ts'
import { ACTIVATION_GRADIENT, STEP_DOMAIN } from '../../../src/lowerings/native/operators.ts'
import { buildNetwork } from '../../../src/models/spec.ts'
import { applyPass } from '../../../src/pass-manager/manager.ts'
import { insertFakeQuant } from '../../../src/passes/insert-fake-quant.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { hyperFeeds, optimizerDefaults } from '../../../src/train/step/optimizers.ts'
import { buildStep } from '../../../src/train/step/step-graph.ts'
import type { StepOptions } from '../../../src/train/step/step-options.ts'
import { StepRunner } from '../../../src/train/step/step-runner.ts'
import { noKernels } from '../../support/native.ts'

const skip = noKernels

const noise = (rng: Rng, dims: readonly number[]): Tensor =>
  Tensor.float32(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => rng.normal()),
  )

interface Case {
  readonly make: () => Model | Promise<Model>
  readonly batch?: number
  readonly options?: Partial<StepOptions>
}

/** Images of 3 x 16 x 16. */
const small = (spec: object): Model => buildNetwork({ size: 16, classes: 7, ...spec } as never, { seed: 3 })

const quantised = async (): Promise<Model> => {
  const model = small({ family: 'resnet', depth: 8 })
  const data = {
    async *batches() {
      yield { [model.graph.inputs[0]!.name]: noise(new Rng(2), [8, 3, 16, 16]) }
    },
  }
  await applyPass(model, insertFakeQuant, {}, { calibration: data })
  return model
}

const cases: Readonly<Record<string, Case>> = {
  resnet: { make: () => small({ family: 'resnet', depth: 8 }) },
  'resnet, batch of 1': { make: () => small({ family: 'resnet', depth: 8, shortcut: 'B' }), batch: 1 },
  'mobile net with h-swish': { make: () => small({ family: 'mobilenet-v3-small' }), batch: 4 },
  'blocks that channels do not fill': { make: () => small({ family: 'shufflenet-v2' }), batch: 3 },
  'mobile net with ReLU6': { make: () => small({ family: 'mobilenet-v2' }), batch: 3 },
  'shared statistics': { make: () => small({ family: 'densenet-bc', depth: 10, growth: 5 }), batch: 4 },
  'accumulated over two runs': {
    make: () => small({ family: 'resnet', depth: 8 }),
    options: { accumulate: 2, optimizer: { ...optimizerDefaults, optimizer: 'adamw' } },
  },
  quantised: { make: quantised },
  'running statistics': { make: () => small({ family: 'resnet', depth: 8 }), options: { batchStatistics: false } },
}

/** Losses and the state after some steps. */
async function train({ make, batch = 4, options = {} }: Case, native: boolean, threads = 1) {
  const model = await make()
  const optimizer = options.optimizer ?? optimizerDefaults
  const step = await buildStep(
    cloneModel(model),
    {
      ...{ batch, loss: 'ce', alpha: 1, temperature: 1, optimizer, batchStatistics: true, learnScales: false, native },
      ...options,
    },
    () => false,
  )
  const runner = await StepRunner.create(step, ortExecutor(), { threads, native })
  runner.loadFrom(model)
  const rng = new Rng(11)
  const losses: number[] = []
  for (let i = 0; i < 3; i++) {
    const feeds = Array.from({ length: options.accumulate ?? 1 }, () => {
      const targets = new Float32Array(batch * step.classes!)
      for (let k = 0; k < batch; k++) targets[k * step.classes! + rng.integer(step.classes!)] = 1
      return { images: noise(rng, step.inputDims), targets: Tensor.float32([batch, step.classes!], targets) }
    })
    const { loss } = await runner.step(feeds, hyperFeeds(optimizer, 0.002, i))
    runner.commit()
    losses.push(loss)
  }
  const state = runner.everything().map((v) => v.slice())
  const used = runner.native
  await runner.dispose()
  return { losses, state, used }
}

type Form = 'native' | 'standard' | 'plain'

/** Loss and flat gradient at the start. `plain`: in standard operators on the plain layout. */
async function gradient({ make, batch = 4, options = {} }: Case, form: Form) {
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

for (const [name, one] of Object.entries(cases))
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
    const [native, standard] = [await train(cases[name]!, true), await train(cases[name]!, false)]
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
  for (const threads of [1, 2, 4, 1]) runs.push((await train(cases['resnet, batch of 1']!, true, threads)).state)
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
