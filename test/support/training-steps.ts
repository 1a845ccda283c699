/** Training steps of small networks of many kinds, for tests of what engines make of them. */
import { Rng } from '../../src/base/rng.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { applyPass } from '../../src/pass-manager/manager.ts'
import { insertFakeQuant } from '../../src/passes/insert-fake-quant.ts'
import type { LoadOptions } from '../../src/runtime/executor.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { hyperFeeds, optimizerDefaults } from '../../src/train/step/optimizers.ts'
import { buildStep } from '../../src/train/step/step-graph.ts'
import type { StepOptions } from '../../src/train/step/step-options.ts'
import { StepRunner } from '../../src/train/step/step-runner.ts'

export const noise = (rng: Rng, dims: readonly number[]): Tensor =>
  Tensor.float32(
    dims,
    Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => rng.normal()),
  )

export interface StepCase {
  readonly make: () => Model | Promise<Model>
  readonly batch?: number
  readonly options?: Partial<StepOptions>
}

/** Images of 3 x 16 x 16. */
export const small = (spec: object): Model => buildNetwork({ size: 16, classes: 7, ...spec } as never, { seed: 3 })

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

export const stepCases: Readonly<Record<string, StepCase>> = {
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
export async function runSteps(
  { make, batch = 4, options = {} }: StepCase,
  { native = false, threads = 1, recompute = 0 }: Pick<LoadOptions, 'native' | 'threads' | 'recompute'> = {},
) {
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
  const runner = await StepRunner.create(step, ortExecutor(), { threads, native, recompute })
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
