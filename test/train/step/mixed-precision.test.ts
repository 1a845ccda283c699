/** float16 inside a training step: what is narrow, how close it stays, and that an overflow costs one step only. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Rng } from '../../../src/base/rng.ts'
import { cloneModel } from '../../../src/graph/clone.ts'
import { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { buildNetwork } from '../../../src/models/spec.ts'
import { runPass as pass } from '../../../src/passes/run-pass.ts'
import { openDevice } from '../../../src/runtime/devices/device.ts'
import { inferTypes } from '../../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { type TrainEvent, train } from '../../../src/train/loop/trainer.ts'
import { TrainingLog } from '../../../src/train/loop/training-log.ts'
import { LossScale } from '../../../src/train/step/loss-scale.ts'
import { optimizerDefaults } from '../../../src/train/step/optimizers.ts'
import { buildStep } from '../../../src/train/step/step-graph.ts'
import type { StepGraph } from '../../../src/train/step/step-options.ts'
import { StepRunner } from '../../../src/train/step/step-runner.ts'
import { bytesOf, CLASSES, images, pixels, run, SIZE, scratch, values } from '../fixtures.ts'

const at = scratch()

/** With shortcuts: onnxruntime's CPU provider computes some of their operators in float16, and no convolution. */
const smallNet = (seed = 0): Model =>
  buildNetwork({ family: 'resnet', depth: 8, size: SIZE, channels: 1, classes: CLASSES }, { seed })

function stepOf(model: Model): Promise<StepGraph> {
  const options = { batch: 4, loss: 'ce', alpha: 1, temperature: 1, tiles: 1, optimizer: optimizerDefaults } as const
  return buildStep(model, { ...options, batchStatistics: true, learnScales: false, precision: 'float16' }, () => false)
}

for (const family of ['resnet', 'densenet-bc'] as const)
  test(`layers and what lies between them are narrow, sums and state are not: ${family}`, async () => {
    const model = buildNetwork(family === 'resnet' ? { family, depth: 8 } : { family, depth: 10, growth: 8 })
    await pass(model, 'quantize', { activationBits: 0 })
    const { model: step, lossScaled } = await stepOf(model)
    assert.ok(lossScaled)
    await inferTypes(step)
    const counts = new Map<string, number>()
    for (const n of step.graph.nodes()) {
      const elem = n.output.type?.elem
      counts.set(`${n.op} ${elem}`, (counts.get(`${n.op} ${elem}`) ?? 0) + 1)
      // logarithms, roots, sums, normalisations, rounding to steps
      if (/^(Reduce|BatchNorm|LogSoftmax|Softmax|Sqrt|Div|Round|HardSigmoid)/.test(n.op))
        for (const v of n.inputs) assert.notEqual(v?.type?.elem, 'float16', `${n.op} reads '${v?.name}'`)
    }
    // products over positions: sums of thousands
    for (const op of ['MatMul', 'Gemm']) assert.ok((counts.get(`${op} float16`) ?? 0) <= (op === 'Gemm' ? 1 : 0), op)
    // the student's convolutions, and the gradients of all their inputs but the image
    const convs = [...model.graph.nodes()].filter((n) => n.op === 'Conv').length
    assert.equal(counts.get('Conv float32') ?? 0, 0)
    const backward = (counts.get('Conv float16') ?? 0) + (counts.get('ConvTranspose float16') ?? 0) - convs
    assert.equal(backward, convs - 1)
    assert.ok(counts.get('Relu float16'))
    for (const v of step.graph.outputs) assert.equal(v.type?.elem, 'float32', v.name)
    for (const v of step.graph.inputs) assert.equal(v.type?.elem, 'float32', v.name)
  })

test('losses and weights stay near those of float32', async () => {
  const some = { maxSteps: 20, batch: 12 }
  const [wide, narrow] = [await run(smallNet(), some), await run(smallNet(), { ...some, precision: 'float16' })]
  assert.notDeepEqual(wide.losses, narrow.losses)
  for (const [i, loss] of wide.losses.entries())
    assert.ok(Math.abs(narrow.losses[i]! - loss) < 0.02 * (1 + loss), `step ${i}: ${narrow.losses[i]} for ${loss}`)
  const [a, b] = [values(wide.model, 'stage1.block1.conv1.weight'), values(narrow.model, 'stage1.block1.conv1.weight')]
  const start = values(smallNet(), 'stage1.block1.conv1.weight')
  const norm = (f: (i: number) => number): number => Math.hypot(...Array.from(a, (_, i) => f(i)))
  const [moved, apart] = [norm((i) => a[i]! - start[i]!), norm((i) => a[i]! - b[i]!)]
  assert.ok(apart < 0.1 * moved, `${apart} apart after moving by ${moved}`)
  for (const e of narrow.events) if (e.kind === 'step') assert.equal(e.lossScale, 65536)
})

test('numbers that float16 does not hold stay wide: the mask of an attention', async () => {
  const [batch, length, width] = [4, 64, 16]
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const rng = new Rng(3)
  const draw = (...dims: number[]): Tensor =>
    Tensor.float32(
      dims,
      Float32Array.from({ length: dims.reduce((a, c) => a * c) }, () => rng.normal(0, 0.3)),
    )
  const x = graph.addInput('input', { elem: 'float32', dims: ['N', length, width] })
  const [q, k, v] = ['q', 'k', 'v'].map((name) => b.op('MatMul', [x, b.initializer(name, draw(width, width))]))
  const scores = b.op('MatMul', [q!, b.op('Transpose', [k!], { perm: [0, 2, 1] })])
  // no position is masked: 0 times the lowest number
  const hidden = b.op('Cast', [b.op('Less', [b.op('ReduceMax', [x, b.ints([2])]), b.scalar(-99)])], { to: 1 })
  const mask = b.op('Mul', [b.op('Transpose', [hidden], { perm: [0, 2, 1] }), b.scalar(-3.4028234663852886e38)])
  const mixed = b.op('MatMul', [b.op('Softmax', [b.op('Add', [scores, mask])], { axis: -1 }), v!])
  const type = { elem: 'float32', dims: ['N', CLASSES] } as const
  const mean = b.op('ReduceMean', [mixed, b.ints([1])], { keepdims: 0 })
  graph.addOutput(b.op('Gemm', [mean, b.initializer('fc', draw(width, CLASSES))], {}, { name: 'logits', type }))
  const losses = []
  for (const precision of ['float32', 'float16'] as const) {
    const options = { batch, loss: 'ce', alpha: 1, temperature: 1, tiles: 1, optimizer: optimizerDefaults } as const
    const more = { batchStatistics: true, learnScales: false, precision }
    const step = await buildStep(cloneModel(model), { ...options, ...more }, () => false)
    const runner = await StepRunner.create(step, ortExecutor(), { threads: 1 })
    runner.loadFrom(model)
    const images = new Rng(9)
    const data = Float32Array.from({ length: batch * length * width }, () => images.normal(0, 1))
    const targets = Float32Array.from({ length: batch * CLASSES }, (_, i) => (i % (CLASSES + 1) === 0 ? 1 : 0))
    const hyper = { lr: Tensor.scalar(0), ...(step.lossScaled && { loss_scale: Tensor.scalar(1024) }) }
    const feeds = [Tensor.float32([batch, length, width], data), Tensor.float32([batch, CLASSES], targets)] as const
    losses.push((await runner.run(...feeds, hyper)).loss)
    await runner.dispose()
  }
  assert.ok(Math.abs(losses[0]! - losses[1]!) < 1e-3, `${losses}`)
})

/** A student whose gradient overflows float16 at first: the teacher's outputs are far away. */
function farTeacher(): Model {
  const teacher = smallNet(1)
  for (const name of ['fc.weight', 'fc.bias']) {
    const v = teacher.graph.find(name)!
    v.setConstant(
      Tensor.float32(
        v.constant!.dims,
        v.constant!.toFloat32().map((x) => 400 * x),
      ),
    )
  }
  return teacher
}

const far = { loss: 'mse', precision: 'float16', maxSteps: 24, epochs: 3, lr: 0.02, optimizer: 'adamw' } as const

test('an overflow changes nothing, halves the scale, and training goes on', async () => {
  const teacher = { model: farTeacher(), preprocess: pixels }
  const { events, losses } = await run(smallNet(), far, { teacher })
  const steps = events.filter((e) => e.kind === 'step')
  const overflows = steps.findIndex((e) => Number.isFinite(e.gradientNorm))
  assert.ok(overflows >= 1, 'the first steps overflow')
  let scale = 65536
  for (const e of steps) {
    assert.equal(e.lossScale, scale)
    if (!Number.isFinite(e.gradientNorm)) scale /= 2
  }
  assert.ok(losses.every(Number.isFinite))
  const log = new TrainingLog(at('16.jsonl'))
  for (const e of events) await log.write(e)
  await log.close()
  const lines = readFileSync(at('16.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((l) => JSON.parse(l))
  const logged = lines.filter((l) => 'step' in l)
  assert.deepEqual(
    logged.map((l) => [l.lossScale, l.skipped ?? false]),
    steps.map((e) => [e.lossScale, !Number.isFinite(e.gradientNorm)]),
  )
  const only = await run(smallNet(), { ...far, maxSteps: overflows }, { teacher })
  assert.ok(bytesOf(only.model).equals(bytesOf((await run(smallNet(), { ...far, maxSteps: 1 }, { teacher })).model)))
  const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b) / list.length
  assert.ok(mean(losses.slice(-8)) < 0.8 * mean(losses.slice(0, 8)))
})

for (const loss of ['kl', 'reverse-kl'] as const)
  test(`a teacher's distribution is learned as in float32, its entropy reported: ${loss}`, async () => {
    const teacher = { model: smallNet(1), preprocess: pixels }
    const both = [await run(smallNet(), { maxSteps: 3, loss, precision: 'float16' }, { teacher })]
    both.push(await run(smallNet(), { maxSteps: 3, loss }, { teacher }))
    const [half, full] = both.map(({ losses, events }) => {
      const [step] = events.filter((e) => e.kind === 'step')
      return [...losses, step!.teacherEntropy!]
    })
    half!.forEach((x, i) => {
      assert.ok(Math.abs(x - full![i]!) < 0.02 * Math.abs(full![i]!), `${half} against ${full}`)
    })
  })

test('24 steps are 5 and 19, the scale included', async () => {
  const teacher = { model: farTeacher(), preprocess: pixels }
  const options = { batch: 6, augment: 'none', workers: 0, threads: 1, ...far } as const
  const inputs = { data: images(60), preprocess: pixels, teacher, options }
  const [straight, halted] = [smallNet(), smallNet()]
  await train(straight, inputs)
  const controller = new AbortController()
  const stop = (e: TrainEvent): void => {
    if (e.kind === 'step' && e.step === 4) controller.abort()
  }
  const checkpoint = at('16.checkpoint.onnx')
  const stopped = train(cloneModel(halted), { ...inputs, checkpoint, signal: controller.signal }, stop)
  await assert.rejects(stopped, { code: 'interrupted' })
  await train(halted, { ...inputs, checkpoint, resume: true })
  assert.ok(bytesOf(straight).equals(bytesOf(halted)))
})

test('the scale: halved by an overflow, doubled after 2,000 steps without, until no scale helps', () => {
  const scale = new LossScale({ scale: 2 ** 10, since: 1998, skipped: 0 })
  scale.passed()
  assert.deepEqual(scale.state, { scale: 2 ** 10, since: 1999, skipped: 0 })
  scale.passed()
  assert.deepEqual(scale.state, { scale: 2 ** 11, since: 0, skipped: 0 })
  scale.passed()
  assert.ok(scale.overflowed())
  assert.deepEqual(scale.state, { scale: 2 ** 10, since: 0, skipped: 1 })
  for (let i = 0; i < 18; i++) assert.ok(scale.overflowed())
  assert.ok(!scale.overflowed())
})

test('a device without float16 is refused', async () => {
  const executor = await openDevice('tfjs:cpu')
  await assert.rejects(run(smallNet(), { precision: 'float16', maxSteps: 1 }, { executor }), {
    code: 'bad-usage',
    message: /TensorFlow\.js .* does not compute in float16/,
  })
})
