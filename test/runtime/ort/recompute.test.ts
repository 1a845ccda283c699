/** Activations that are computed again: the same bits in less memory, which is known before. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Rng } from '../../../src/base/rng.ts'
import { Graph, type Value } from '../../../src/graph/graph.ts'
import { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { recomputable } from '../../../src/lowerings/recompute.ts'
import { WORKING_OPSET } from '../../../src/ops/raise-opset.ts'
import { lastRuns } from '../../../src/runtime/kernel-trace.ts'
import { executionOrder } from '../../../src/runtime/ort/execution-order.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { recomputeFirst } from '../../../src/runtime/ort/step-memory.ts'
import { noKernels } from '../../support/native.ts'
import { peakOf } from '../../support/peak-memory.ts'
import { runSteps, stepCases } from '../../support/training-steps.ts'

const ALL = 1e6
/** Cases of steps, with how many activations are computed again. */
const tried: readonly (readonly [string, number])[] = [
  ...['mobile net with h-swish', 'mobile net with ReLU6', 'shared statistics', 'quantised'].map(
    (c) => [c, ALL] as const,
  ),
  ['resnet', 2],
]
const forms = [
  { native: false, name: 'in standard operators', skip: false },
  { native: true, name: 'with native kernels', skip: noKernels },
]

for (const { native, name, skip } of forms)
  test(`losses and weights have the same bits, ${name}`, { skip }, async () => {
    for (const [what, recompute] of tried) {
      // maps that are large enough to be worth it
      const large = { ...stepCases[what]!, batch: 16 }
      const [kept, again] = [await runSteps(large, { native }), await runSteps(large, { native, recompute })]
      assert.deepEqual(again.losses, kept.losses, `${what}, ${recompute}`)
      assert.deepEqual(again.state, kept.state, `${what}, ${recompute}`)
    }
  })

/** A random graph of sums, products and activations, in which a node's place says nothing of who reads it. */
function randomModel(rng: Rng): Model {
  const model = new Model(new Graph('random'), WORKING_OPSET)
  const { graph } = model
  const type = { elem: 'float32', dims: [4, 4] } as const
  const values: Value[] = [graph.addInput('x', type)]
  const pick = (): Value => values[rng.integer(values.length)]!
  for (let i = 0; i < 40; i++) {
    const op = ['Add', 'Mul', 'Relu', 'Sigmoid', 'MatMul', 'Max'][rng.integer(6)]!
    const count = op === 'Relu' || op === 'Sigmoid' ? 1 : op === 'Max' ? 3 : 2
    values.push(graph.append().op(op, Array.from({ length: count }, pick), {}, { type }))
  }
  for (const v of values) if (!v.isUsed) graph.addOutput(v)
  return model
}

test('the engine executes a graph in the order that is expected of it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-order-'))
  try {
    for (let seed = 0; seed < 12; seed++) {
      const model = randomModel(new Rng(seed))
      const options = { profilePrefix: join(folder, `run${seed}`), optimization: 'disabled', threads: 1 } as const
      const session = await ortExecutor().load(model, options)
      await session.run({ x: Tensor.float32([4, 4], Array(16).fill(0.1)) })
      const trace = readFileSync(session.endProfiling()!, 'utf8')
      await session.dispose()
      const executed = lastRuns(trace, 1).kernels.map((k) => k.node)
      const expected = executionOrder(model.graph).map((n) => n.name)
      assert.deepEqual(executed, expected, `seed ${seed}`)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('what is read again much later is made again from what is kept, in chains too', () => {
  const model = new Model(new Graph('chain'), WORKING_OPSET)
  const { graph } = model
  const type = { elem: 'float32', dims: [256, 1024] } as const
  const x = graph.addInput('x', type)
  const w = graph.addInput('w', { elem: 'float32', dims: [1024, 1024] })
  const b = graph.append()
  const op = (name: string, inputs: Value[], as = name.toLowerCase()): Value =>
    b.op(name, inputs, {}, { name: as, type })
  const layer = op('MatMul', [x, w], 'layer')
  const first = op('Relu', [layer], 'first')
  const second = op('Mul', [first, first], 'second')
  const joined = b.op('Concat', [first, second], { axis: 1 }, { name: 'joined', type: { ...type, dims: [256, 2048] } })
  const view = b.op('Reshape', [second, b.ints([512, 512])], {}, { name: 'view', type: { ...type, dims: [512, 512] } })
  let middle = b.op('ReduceMean', [joined, b.ints([1])], {}, { name: 'middle', type: { ...type, dims: [256, 1] } })
  for (let i = 0; i < 30; i++)
    middle = b.op('Sin', [middle], {}, { name: `middle${i}`, type: { ...type, dims: [256, 1] } })
  const late = op('Mul', [first, middle], 'late')
  const later = op('Add', [op('Add', [late, second]), layer], 'later')
  for (const v of [later, b.op('MatMul', [joined, w], {}, { name: 'unused' })]) graph.addOutput(v)
  graph.addOutput(b.op('ReduceSum', [view], {}, { name: 'viewed' }))
  const found = recomputable(executionOrder(graph)).map((r) => r.value.name)
  assert.ok(found.includes('first') && !found.includes('layer'), found.join())
  recomputeFirst(model, ALL)
  const madeFrom = (v: Value): string[] => [v.name, ...v.producer!.inputs.map((i) => i!.name)]
  const again = [...graph.values()].filter((v) => v.name.includes('.again'))
  assert.ok(again.length > 0)
  for (const v of again) {
    // from the layer's result, which is kept, not from another node's activation
    const [, ...inputs] = madeFrom(v)
    assert.ok(
      inputs.every((name) => name.includes('.again') || name === 'layer' || name.startsWith('const')),
      madeFrom(v).join(' '),
    )
  }
  const order = executionOrder(graph).map((n) => n.name)
  const at = (name: string): number => order.indexOf(name)
  for (const v of again) for (const n of v.uses) assert.ok(at(n.name) - at(v.producer!.name) < 5, `${v.name} is early`)
})

const script = `
  import { buildNetwork } from './src/models/spec.ts'
  import { ortExecutor } from './src/runtime/ort/ort.ts'
  import { buildStep } from './src/train/step/step-graph.ts'
  import { optimizerDefaults, hyperFeeds } from './src/train/step/optimizers.ts'
  import { StepRunner } from './src/train/step/step-runner.ts'
  import { Tensor } from './src/graph/tensor.ts'
  const [spec, batch, all, native] = JSON.parse(process.argv.at(-1))
  const engine = ortExecutor()
  async function measured(spec, batch) {
    const model = buildNetwork(spec, { seed: 1 })
    const options = { batch, loss: 'ce', alpha: 1, temperature: 1, optimizer: optimizerDefaults }
    const step = await buildStep(model, { ...options, batchStatistics: true, learnScales: false, native }, () => false)
    const memory = await engine.stepMemory(step.model, { native })
    const recompute = all ? memory.activations : 0
    const expected = memory.bytes(recompute)
    const before = process.memoryUsage().rss
    const runner = await StepRunner.create(step, engine, { threads: 1, native, recompute })
    runner.loadFrom(model)
    const images = Tensor.float32(step.inputDims, new Float32Array(step.inputDims.reduce((a, b) => a * b)).fill(0.5))
    const targets = Tensor.float32([batch, step.classes], new Float32Array(batch * step.classes).fill(1 / step.classes))
    for (let i = 0; i < 2; i++) {
      await runner.run(images, targets, hyperFeeds(optimizerDefaults, 0.01, i))
      runner.commit()
    }
    return { expected, taken: process.memoryUsage().rss - before }
  }
  // code that is loaded and compiled on the way is no memory of the step
  await measured({ ...spec, ...(spec.family === 'resnet' ? { depth: 8, width: 4 } : { depth: 10, growth: 4 }) }, 2)
  console.log(JSON.stringify(await measured(spec, batch)))
`

const skipped = !existsSync('/proc/self/status') && 'the system does not tell'
test('a step takes what is expected', { skip: skipped }, () => {
  for (const { native, spec, batch } of [
    { native: noKernels === false, spec: { family: 'resnet', depth: 14 }, batch: 64 },
    { native: false, spec: { family: 'densenet-bc', depth: 22, growth: 12 }, batch: 32 },
  ]) {
    const [kept, again] = [false, true].map((all) => {
      const { output } = peakOf(script, JSON.stringify([spec, batch, all, native]))
      const found = JSON.parse(output) as { expected: number; taken: number }
      const { expected, taken } = found
      const what = `${spec.family}: ${Math.round(taken / 1e6)} MB, not ${Math.round(expected / 1e6)}`
      assert.ok(taken < 1.05 * expected && taken > 0.6 * expected, what)
      return found
    }) as [{ expected: number; taken: number }, { expected: number; taken: number }]
    const [saved, promised] = [kept.taken - again.taken, kept.expected - again.expected]
    assert.ok(promised > 0 && saved > promised / 2, `${spec.family}: ${saved} saved, not ${promised}`)
  }
})
