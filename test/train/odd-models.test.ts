/** Training steps of models that are legal but not as exporters usually write them. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { attachTeacher } from '../../src/passes/merge-teacher.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { updateBatchNorm } from '../../src/train/loop/bn-update.ts'
import { train } from '../../src/train/loop/trainer.ts'
import { hyperFeeds, optimizerDefaults } from '../../src/train/step/optimizers.ts'
import { buildStep } from '../../src/train/step/step-graph.ts'
import { StepRunner } from '../../src/train/step/step-runner.ts'
import { bytesOf, images, linearModel, pixels, run, SIZE, scratch, tinyNet, values } from './fixtures.ts'

const at = scratch()

test('values called like a step own inputs and outputs train as others do', async () => {
  const plain = await run(tinyNet(), { maxSteps: 4 })
  const names = ['weights', 'statistics', 'loss', 'gradient_norm', 'next_weights', 'targets', 'lr', 'momentum']
  const model = tinyNet()
  const taken = [...model.graph.values()].filter((v) => !v.isOutput && v.metadata.size === 0)
  names.forEach((name, i) => {
    model.graph.rename(taken[i * 2]!, name)
  })
  assert.deepEqual((await run(model, { maxSteps: 4 })).losses, plain.losses)
})

test('running statistics that a file shares are kept apart', async () => {
  const shared = tinyNet()
  const { graph } = shared
  const [first, second] = [...graph.nodes()].filter((n) => n.op === 'BatchNormalization')
  const narrow = [1, 2, 3, 4].map((i) =>
    graph.addInitializer('equal', Tensor.float32([4], Array(4).fill(i % 4 === 0 ? 1 : 0))),
  )
  // scale and variance are one tensor of ones, bias and mean one of zeros, as value-merging writers leave them
  const [ones, zeros] = [narrow[3]!, narrow[0]!]
  ;[ones, zeros, zeros, ones].forEach((v, i) => {
    first!.setInput(i + 1, v)
  })
  assert.ok(second)
  const { model } = await run(shared, { maxSteps: 20 })
  const norm = [...model.graph.nodes()].find((n) => n.op === 'BatchNormalization')!
  assert.equal(new Set(norm.inputs).size, 5, 'each input has a tensor of its own')
  const separate = await run(tinyNet(), { maxSteps: 20 })
  assert.deepEqual(values(model, norm.input(3).name), values(separate.model, 'stem.bn.running_mean'))
  await updateBatchNorm(shared, { data: images(60), preprocess: pixels, augment: 'none', workers: 0, batch: 6 })
  assert.deepEqual([...first!.input(1).constant!.toFloat32()], [1, 1, 1, 1])
})

test('a convolution that is an output too is compared as it is', async () => {
  const model = tinyNet()
  const conv = [...model.graph.nodes()].find((n) => n.op === 'Conv')!
  model.graph.addOutput(conv.output)
  const mean = model.graph.find('stem.bn.running_mean')!
  mean.setConstant(Tensor.float32([4], [5, 5, 5, 5]))
  const options = { batch: 6, loss: 'mse', alpha: 1, temperature: 1, optimizer: optimizerDefaults } as const
  const teacher = { model: cloneModel(model), batchStatistics: false }
  const step = await buildStep(model, { ...options, batchStatistics: false, learnScales: false, teacher }, () => false)
  const runner = await StepRunner.create(step, ortExecutor(), { threads: 1 })
  runner.loadFrom(model)
  const x = Tensor.float32(
    [6, 1, SIZE, SIZE],
    Float32Array.from({ length: 6 * SIZE * SIZE }, (_, i) => Math.sin(i)),
  )
  const { loss } = await runner.run(x, null, hyperFeeds(optimizerDefaults, 0, 0))
  assert.ok(loss < 1e-9, `a network is at distance ${loss} from itself`)
  await runner.dispose()
  const moving = await buildStep(model, { ...options, batchStatistics: true, learnScales: false, teacher }, () => false)
  const biased = [...moving.model.graph.nodes()].filter((n) => n.op === 'Conv' && n.inputs[2]?.name.startsWith('minus'))
  assert.equal(biased.length, 1, 'only the other convolution is centred')
})

test('scores that are not numbers are wrong', async () => {
  const model = linearModel()
  model.graph.find('weight')!.setConstant(Tensor.float32([3, 64], Array(192).fill(Number.NaN)))
  const { top1, top5 } = await evaluate(model, images(12), pixels)
  assert.deepEqual([top1, top5], [0, 0])
})

test('Softmax behind another shape is taken for what it is', async () => {
  const plain = linearModel()
  const shaped = linearModel()
  const { graph } = shaped
  const b = graph.append()
  const [logits] = graph.outputs as [Value]
  const high = b.op('Reshape', [logits, b.ints([0, 3, 1, 1])])
  const flat = b.op('Flatten', [b.op('Softmax', [high], { axis: 1 })])
  graph.removeOutput(logits)
  graph.addOutput(flat)
  const [want, have] = [await run(plain, { maxSteps: 5 }), await run(shaped, { maxSteps: 5 })]
  have.losses.forEach((l, i) => {
    assert.ok(Math.abs(l - want.losses[i]!) < 1e-6, `step ${i}: ${l}, ${want.losses[i]}`)
  })
  const [a, c] = [await evaluate(want.model, images(12), pixels), await evaluate(have.model, images(12), pixels)]
  assert.ok(Math.abs(a.loss - c.loss) < 1e-5)
})

function inHalf(model: Model, which: (name: string) => boolean = () => true): Model {
  const { graph } = model
  for (const v of graph.initializers())
    if (v.constant!.type === 'float32' && which(v.name))
      v.setConstant(Tensor.from('float16', v.constant!.dims, v.constant!.toFloat32()))
  for (const v of [...graph.inputs, ...graph.outputs]) v.setType({ ...v.type!, elem: 'float16' })
  for (const v of graph.values()) if (v.producer && !v.isOutput) v.setType(null)
  return model
}

test('a float16 network goes on bit by bit, and its statistics can be updated', async () => {
  const straight = await run(inHalf(tinyNet()), { maxSteps: 8 })
  const checkpoint = at('half.checkpoint.onnx')
  await run(inHalf(tinyNet()), { maxSteps: 4 }, { checkpoint, checkpointSteps: 4 })
  const resumed = await run(inHalf(tinyNet()), { maxSteps: 8 }, { checkpoint, resume: true })
  assert.equal(resumed.losses.length, 4)
  assert.deepEqual(bytesOf(resumed.model), bytesOf(straight.model))
  const model = inHalf(tinyNet())
  await updateBatchNorm(model, { data: images(60), preprocess: pixels, augment: 'none', workers: 0, batch: 6 })
  assert.equal(model.graph.find('stem.bn.running_mean')!.constant!.type, 'float16')
})

test('patience ends a resumed run where it ends a straight one', async () => {
  const options = { epochs: 6, patience: 1, valFraction: 0.5, lr: 0 }
  const checkpoint = at('patient.checkpoint.onnx')
  const straight = await run(tinyNet(), options, { checkpoint })
  const again = await run(tinyNet(), options, { checkpoint, resume: true })
  assert.ok(straight.summary.steps < 30, 'it was not patient for all of the run')
  assert.deepEqual([again.losses.length, again.summary.steps], [0, straight.summary.steps])
})

test('a teacher of other pixels is fed correctly in both layouts', async () => {
  for (const layout of ['NCHW', 'NHWC'] as const) {
    const dims = layout === 'NCHW' ? [1, 3, 2, 2] : [1, 2, 2, 3]
    const [student, teacher] = [passing(dims), passing(dims)]
    const adapter = { scale: [1, 2, 3], shift: [0.5, 0, -1], size: [4, 4], layout } as const
    student.graph.addOutput(attachTeacher(student, teacher, adapter)[0]!)
    const session = await ortExecutor().load(student)
    const x = Tensor.float32(dims, Array(12).fill(1))
    const out = await session.run({ x })
    const seen = out[session.outputNames[1]!]!
    assert.deepEqual(seen.dims, layout === 'NCHW' ? [1, 3, 4, 4] : [1, 4, 4, 3])
    const sums = [0, 0, 0]
    seen.view('float32').forEach((v, i) => {
      const channel = layout === 'NCHW' ? Math.floor(i / 16) : i % 3
      sums[channel] = sums[channel]! + v / 16
    })
    assert.deepEqual(sums, [1.5, 2, 2])
    await session.dispose()
  }
})

function passing(dims: readonly number[]): Model {
  const model = linearModel()
  const { graph } = model
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  for (const n of [...graph.nodesReversed()]) graph.remove(n)
  for (const v of [...graph.inputs]) graph.removeInput(v)
  const x = graph.addInput('x', { elem: 'float32', dims: dims.map((d, i) => (i === 0 ? d : null)) })
  graph.addOutput(graph.append().op('Neg', [graph.append().op('Neg', [x])], {}, { name: 'y' }))
  return model
}

test('a frozen front of half-precision weights stays where it was cut', async () => {
  const model = inHalf(tinyNet())
  const options = { batch: 6, lr: 0.05, augment: 'none', workers: 0, threads: 1, maxSteps: 3 } as const
  const outcomes = await Promise.all(
    [true, false].map(async (cacheFeatures) => {
      const copy = cloneModel(model)
      for (const v of copy.graph.initializers()) if (v.name.startsWith('stem')) v.metadata.set('mnc.frozen', 'true')
      for (const n of copy.graph.nodes()) if (/stem/.test(n.name)) n.metadata.set('mnc.frozen', 'true')
      await train(copy, { data: images(60), preprocess: pixels, options: { ...options, cacheFeatures } })
      return values(copy, 'body.conv.weight')
    }),
  )
  const [cached, anew] = outcomes as [Float32Array, Float32Array]
  assert.notDeepEqual(cached, values(model, 'body.conv.weight'))
  cached.forEach((v, i) => {
    assert.ok(Math.abs(v - anew[i]!) < 2e-3)
  })
})
