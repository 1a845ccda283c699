/** Where a step's time goes: every kernel has a kind of work and, where it has one, a layer; and what waits for memory. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { cloneModel } from '../../../src/graph/clone.ts'
import { Graph } from '../../../src/graph/graph.ts'
import { originIn } from '../../../src/graph/hints.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { elementCount } from '../../../src/graph/types.ts'
import { runPass as pass } from '../../../src/passes/run-pass.ts'
import { lastRuns } from '../../../src/runtime/kernel-trace.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { profileOfStep, type StepProfile } from '../../../src/train/loop/step-profile.ts'
import { type TrainEvent, train } from '../../../src/train/loop/trainer.ts'
import { hyperFeeds, optimizerDefaults } from '../../../src/train/step/optimizers.ts'
import { buildStep } from '../../../src/train/step/step-graph.ts'
import { StepRunner } from '../../../src/train/step/step-runner.ts'
import { stepCases } from '../../support/training-steps.ts'
import { bytesOf, images, pixels, scratch, tinyNet } from '../fixtures.ts'

const at = scratch()
const options = { batch: 8, maxSteps: 4, lr: 0.05, augment: 'none', workers: 0, threads: 1 } as const
const inputs = { data: images(64), preprocess: pixels } as const

test('a quantised student with a teacher: kinds and layers add up, and the weights are those of a run without profile', async () => {
  const student = tinyNet()
  // the engine writes names into its profile as they are
  for (const n of student.graph.nodes()) if (n.name === 'stem.conv') n.rename('a "stem" \\ of it')
  await pass(student, 'prune', { sparsity: 0.5 })
  await pass(student, 'quantize', { activationBits: 0 })
  const plain = cloneModel(student)
  const run = { ...inputs, options, teacher: { model: tinyNet(3) } }
  const found: StepProfile[] = []
  const watch = (e: TrainEvent): void => {
    if (e.kind === 'profile') found.push(e.profile)
  }
  await train(student, { ...run, profile: at('trace.json') }, watch)
  await train(plain, run, watch)
  assert.equal(found.length, 1)
  assert.ok(bytesOf(student).equals(bytesOf(plain)))
  const [{ steps, ms, kinds, layers }] = found as [StepProfile]
  assert.equal(steps, 4)
  const named = kinds.map((k) => k.kind)
  assert.deepEqual(named, [
    'forward',
    'input gradient',
    'weight gradient',
    'quantisers',
    'teacher',
    'loss',
    'update',
    'other',
  ])
  const near = (a: number, b: number): void => assert.ok(Math.abs(a - b) < 1e-6 * ms, `${a} ${b}`)
  for (const parts of [kinds, layers])
    near(
      parts.reduce((sum, { ms }) => sum + ms, 0),
      ms,
    )
  for (const l of layers)
    near(
      Object.values(l.kinds).reduce((a, b) => a + b, 0),
      l.ms,
    )
  assert.ok(kinds.at(-1)!.kind === 'other' && kinds.at(-1)!.ms < 0.2 * ms, 'only changes of layout have no origin')
  const own = layers.filter((l) => l.kinds['weight gradient'] !== undefined).map((l) => l.layer)
  assert.deepEqual(own.sort(), ['a _stem_ _ of it', 'body.conv', 'fc'])
})

test('with quantised activations, layers are what convolutions compute and quantisers what rounds', async () => {
  const model = await stepCases.quantised!.make()
  const optimizer = optimizerDefaults
  const wanted = { batch: 8, loss: 'ce', alpha: 1, temperature: 1, optimizer, batchStatistics: true } as const
  const step = await buildStep(model, { ...wanted, learnScales: true, origins: true }, () => false)
  const runner = await StepRunner.create(step, ortExecutor(), { threads: 1, profilePrefix: at('engine') })
  runner.loadFrom(model)
  const [classes, input] = [step.classes!, step.inputDims]
  const images = Tensor.float32(input, new Float32Array(elementCount(input)).fill(0.5))
  const targets = Tensor.float32([8, classes], new Float32Array(8 * classes).fill(1 / classes))
  await runner.run(images, targets, hyperFeeds(optimizer, 0.01, 0))
  const { kernels } = lastRuns(readFileSync(runner.endProfiling()!, 'utf8'), 1)
  await runner.dispose()
  const kindsOf = (op: string): Set<string | undefined> =>
    new Set(kernels.filter((k) => k.op === op && !k.node.endsWith('_nchwc')).map((k) => originIn(k.node)?.kind))
  assert.deepEqual([...kindsOf('Round')], ['quantisers'])
  assert.ok(!kindsOf('Conv').has('quantisers') && kindsOf('Conv').has('input gradient'), [...kindsOf('Conv')].join())
})

interface Event {
  readonly op: string
  readonly us: number
  readonly inputs: readonly (readonly number[])[]
  readonly output: readonly number[]
}

const traceOf = (kernels: readonly Event[]): string =>
  JSON.stringify([
    { cat: 'Session', name: 'model_run', ts: 0, dur: 1000 },
    ...kernels.map(({ op, us, inputs, output }, i) => ({
      ...{ cat: 'Node', name: `forward of conv1 | ${op}_${i}_kernel_time`, dur: us, ts: 1 + i },
      args: {
        ...{ op_name: op, input_type_shape: inputs.map((dims) => ({ float: dims })) },
        output_type_shape: [{ float: output }],
      },
    })),
  ])

for (const [name, waits, op, inputs, output] of [
  [
    'a 3x3 convolution',
    false,
    'Conv',
    [
      [8, 64, 16, 16],
      [64, 64, 3, 3],
    ],
    [8, 64, 16, 16],
  ],
  [
    'one of each channel',
    true,
    'Conv',
    [
      [8, 64, 16, 16],
      [64, 1, 3, 3],
    ],
    [8, 64, 16, 16],
  ],
  [
    'its input gradient',
    false,
    'ConvTranspose',
    [
      [8, 64, 16, 16],
      [64, 64, 3, 3],
    ],
    [8, 64, 16, 16],
  ],
  [
    'an addition',
    true,
    'Add',
    [
      [8, 64, 16, 16],
      [8, 64, 16, 16],
    ],
    [8, 64, 16, 16],
  ],
  [
    'a product of matrices',
    false,
    'MatMul',
    [
      [256, 512],
      [512, 128],
    ],
    [256, 128],
  ],
  [
    'transposed',
    false,
    'FusedMatMul',
    [
      [512, 256],
      [128, 512],
    ],
    [256, 128],
  ],
  [
    'many products',
    false,
    'MatMul',
    [
      [4, 256, 512],
      [4, 512, 128],
    ],
    [4, 256, 128],
  ],
  [
    'a matrix and a vector',
    true,
    'MatMul',
    [
      [512, 512],
      [512, 1],
    ],
    [512, 1],
  ],
  [
    'thin products',
    true,
    'MatMul',
    [
      [64, 256, 4],
      [64, 4, 256],
    ],
    [64, 256, 256],
  ],
] as const)
  test(`${name} ${waits ? 'waits' : 'does not wait'} for memory`, () => {
    const { memoryBound, kinds, layers } = profileOfStep(traceOf([{ op, us: 10, inputs, output }]), new Graph())
    assert.equal(memoryBound, waits ? 1 : 0)
    assert.deepEqual(kinds, [{ kind: 'forward', ms: 0.01, share: 1, memoryBound }])
    assert.deepEqual(layers, [{ layer: 'conv1', ms: 0.01, share: 1, kinds: { forward: 0.01 } }])
  })

test('what the engine adds is other work of no layer', () => {
  const trace = traceOf([{ op: 'ReorderOutput', us: 5, inputs: [[1, 8, 2, 2]], output: [1, 8, 2, 2] }])
  const { kinds, layers } = profileOfStep(trace.replace('forward of conv1 | ', ''), new Graph())
  assert.deepEqual([kinds.map((k) => k.kind), layers.map((l) => l.layer)], [['other'], ['']])
})
