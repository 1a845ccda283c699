/** Runs as a whole: the same bytes however they are interrupted, the best epoch, and what stops a run. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import test from 'node:test'
import type { MncError } from '../../src/base/errors.ts'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { Dataset } from '../../src/data/dataset.ts'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { type TrainEvent, type TrainRun, train, trainSteps } from '../../src/train/loop/trainer.ts'
import { bytesOf, CLASSES, images, linearModel, losses, pixels, run, scratch, tinyNet, values } from './fixtures.ts'

const at = scratch()
const options = { batch: 6, lr: 0.05, augment: 'none', workers: 0, threads: 1 } as const
const inputs = { data: images(60), preprocess: pixels } as const

test('same seed, same bytes, whatever the number of workers; another seed, other bytes', async () => {
  const some = { maxSteps: 3, augment: 'standard' }
  const [a, b] = [await run(tinyNet(), some), await run(tinyNet(), { ...some, workers: 2 })]
  assert.deepEqual(a.losses, b.losses)
  assert.ok(bytesOf(a.model).equals(bytesOf(b.model)))
  const c = await run(tinyNet(), some, { seed: 1 })
  assert.ok(!bytesOf(a.model).equals(bytesOf(c.model)))
})

/** Aborts after `steps` steps, then goes on from the checkpoint with a fresh copy. */
async function interruptedAndResumed(model: Model, run: TrainRun, steps: number): Promise<Model> {
  const controller = new AbortController()
  const stop = (e: TrainEvent) => {
    if (e.kind === 'step' && e.step === steps - 1) controller.abort()
  }
  const halted = train(cloneModel(model), { ...run, signal: controller.signal }, stop)
  await assert.rejects(halted, { code: 'interrupted', blame: 'interrupt', message: new RegExp(`after ${steps} steps`) })
  const copy = cloneModel(model)
  const events: TrainEvent[] = []
  await train(copy, { ...run, resume: true }, (e) => void events.push(e))
  assert.equal(losses(events).length, 24 - steps)
  return copy
}

test('24 steps are 13 and 11: sgd with moving masks, fitted scales, an average of weights and a held-out part', async () => {
  const model = tinyNet()
  await pass(model, 'prune', { sparsity: 0.5 })
  await pass(model, 'quantize', { activationBits: 0 })
  const moving = { maskUpdateEvery: 5, maskUpdateUntil: 99, scales: 'refit' } as const
  const own = { ...options, ...moving, epochs: 3, ema: 0.9, valFraction: 0.2, augment: 'standard' }
  const straight = cloneModel(model)
  await train(straight, { ...inputs, options: own })
  const resumed = await interruptedAndResumed(
    model,
    { ...inputs, options: own, checkpoint: at('a.checkpoint.onnx') },
    13,
  )
  assert.ok(bytesOf(straight).equals(bytesOf(resumed)))
})

test('24 steps are 16 and 8 where the run is stopped at the end of an epoch: adamw, accumulation', async () => {
  const model = linearModel()
  const own = { ...options, batch: 3, accumulate: 2, epochs: 3, optimizer: 'adamw', valFraction: 0.2 } as const
  const straight = cloneModel(model)
  await train(straight, { ...inputs, options: own })
  const resumed = await interruptedAndResumed(model, { ...inputs, options: own, checkpoint: at('b.onnx') }, 16)
  assert.ok(bytesOf(straight).equals(bytesOf(resumed)))
})

test('a checkpoint is a model that runs, and is refused by another run', async () => {
  const path = at('c.checkpoint.onnx')
  await run(linearModel(), { maxSteps: 2 }, { checkpoint: path })
  const checkpoint = await readModel(path)
  const { samples } = await evaluate(checkpoint, images(12), pixels)
  assert.equal(samples, 12)
  const resume = (more: object, rest: object = {}) =>
    run(linearModel(), { maxSteps: 4, ...more }, { checkpoint: path, resume: true, ...rest })
  await assert.rejects(resume({ lr: 0.1 }), { blame: 'user', message: /another run: lr was 0\.05, now 0\.1/ })
  await assert.rejects(resume({}, { identity: 'x' }), { message: /another run: the files of the model/ })
  const other = run(tinyNet(), { maxSteps: 4 }, { checkpoint: path, resume: true })
  await assert.rejects(other, { message: /another run: the model has different weights/ })
  const foreign = images(60, CLASSES, 6)
  await assert.rejects(resume({}, { data: foreign }), {
    message: /another run: the images or their labels are different/,
  })
  const { images: same, labels, name, split, classes, channels, height, width } = inputs.data
  const swapped = labels.with(0, (labels[0]! + 1) % CLASSES)
  const relabelled = new Dataset({ images: same, labels: swapped, name, split, classes, channels, height, width })
  await assert.rejects(resume({}, { data: relabelled }), { message: /the images or their labels are different/ })
  await assert.rejects(resume({}, { preprocess: { ...pixels, mean: [0.1] } }), { message: /another run: pixels was/ })
  assert.equal((await resume({})).losses.length, 2)
})

test("resuming needs the best epoch's model: one that is missing or another's is found before the first step", async () => {
  const own = { ...options, epochs: 4, valFraction: 0.2 }
  const checkpoint = at('kept.checkpoint.onnx')
  const best = at('kept.best.onnx')
  const controller = new AbortController()
  let firstBest: Buffer | null = null
  const stop = (e: TrainEvent): void => {
    if (e.kind === 'checkpoint' && e.step === 8) firstBest = readFileSync(best)
    if (e.kind === 'step' && e.step === 17) controller.abort()
  }
  const run: TrainRun = { ...inputs, options: own, checkpoint }
  await assert.rejects(train(tinyNet(), { ...run, signal: controller.signal }, stop), { blame: 'interrupt' })
  const whole = readFileSync(best)
  const position = readFileSync(checkpoint)
  const resume = async (): Promise<Model> => {
    const model = tinyNet()
    await train(model, { ...run, resume: true })
    return model
  }
  const foreign = tinyNet()
  for (const v of foreign.graph.initializers()) v.setConstant(v.constant!.mapFloats('float32', (x) => void x.fill(1)))
  rmSync(best)
  await assert.rejects(resume(), { code: 'bad-usage', message: /kept\.best\.onnx.*is missing/ })
  await writeModel(foreign, best)
  await assert.rejects(resume(), { code: 'bad-usage', message: /kept\.best\.onnx.*is not the model of epoch/ })
  assert.ok(readFileSync(checkpoint).equals(position), 'the checkpoint stays')
  writeFileSync(best, whole)
  const straight = tinyNet()
  await train(straight, { ...inputs, options: own })
  assert.ok(bytesOf(await resume()).equals(bytesOf(straight)))
  assert.ok(firstBest)
})

test('the epoch that does best on the held-out part is kept, and patience ends the run', async () => {
  const path = at('best.checkpoint.onnx')
  // learns at once, then a rate far too high spoils it
  const own = {
    epochs: 8,
    valFraction: 0.3,
    patience: 2,
    schedule: 'linear',
    lr: 0.02,
    warmupSteps: 14,
    warmupFrom: 0.02,
  }
  const { model, events, summary } = await run(linearModel(), { ...own, schedule: 'constant' }, { checkpoint: path })
  const scores = events.flatMap((e) => (e.kind === 'epoch' ? [e.valTop1!] : []))
  const best = scores.indexOf(Math.max(...scores))
  assert.equal(summary.bestEpoch, best)
  assert.equal(summary.valTop1, scores[best])
  assert.equal(scores.length, Math.min(8, best + 3), 'two epochs without a better one')
  assert.equal(summary.steps, scores.length * 7)
  const { validation } = images(60).splitValidation(0.3, 0)
  assert.equal((await evaluate(model, validation, pixels)).top1, scores[best])
  assert.ok(existsSync(at('best.best.onnx')) && existsSync(path))
  const kept = await readModel(at('best.best.onnx'))
  assert.deepEqual(values(kept, 'weight'), values(model, 'weight'))
})

test('a loss that is not finite stops the run, names step and tensor, and keeps the last good checkpoint', async () => {
  const path = at('nan.checkpoint.onnx')
  const failed = await run(
    tinyNet(),
    { maxSteps: 9, lr: 1e30, schedule: 'constant', warmupSteps: 4 },
    {
      ...{ checkpoint: path, checkpointSteps: 1 },
    },
  ).then(
    () => assert.fail('the run went through'),
    (e: MncError) => e,
  )
  assert.equal(failed.code, 'diverged')
  assert.match(failed.message, /^step \d: .*(NaN|Infinity|not finite).*the last checkpoint .* is good$/)
  const kept = await readModel(path)
  for (const v of kept.graph.initializers())
    if (v.constant!.type === 'float32') assert.ok(v.constant!.toFloat32().every(Number.isFinite), v.name)

  const poisoned = linearModel()
  values(poisoned, 'weight')[3] = Number.NaN
  await assert.rejects(run(poisoned, { maxSteps: 1, allowNonfinite: true }), {
    message: /step 0: the loss is NaN; the first tensor.*'weights'/,
  })
  const overflow = linearModel()
  values(overflow, 'weight').fill(3e38)
  await assert.rejects(run(overflow, { maxSteps: 1 }), { message: /the first tensor that is not finite is 'logits/ })
})

test('what cannot be trained is reported before anything is computed', async () => {
  const refuse = (o: object, message: RegExp, rest: Partial<TrainRun> = {}, model = linearModel()) =>
    assert.rejects(run(model, o, rest), { message })
  await refuse({}, /3 classes, but noise has 5/, { data: images(60, 5) })
  await refuse({ loss: 'kl' }, /compares with a teacher/)
  await refuse({ batch: 61 }, /larger than noise/)
  await refuse({ lrFactor: { 'no.such*': 2 } }, /matches no initializer/)
  await refuse({}, /no labels for cross entropy/, { data: 'random' })
  await refuse({ loss: 'mse' }, /returns \[6, 3\] but the teacher \[6, 4\]/, {
    teacher: { model: linearModel(0, 4), preprocess: pixels },
  })
  const frozen = linearModel()
  await pass(frozen, 'freeze', { ops: ['Gemm'] })
  await refuse({}, /no trainable/, {}, frozen)
})

test('the average of weights is what swa_utils computes, and is what comes out', async () => {
  const model = linearModel()
  const decay = 0.8
  const trace: Float32Array[] = []
  const copy = cloneModel(model)
  for (let n = 1; n <= 4; n++) trace.push(values((await run(model, { maxSteps: n })).model, 'weight'))
  const average = Array.from(trace[0]!)
  for (const now of trace.slice(1))
    average.forEach((a, i) => {
      average[i] = decay * a + (1 - decay) * now[i]!
    })
  await train(copy, { ...inputs, options: { ...options, maxSteps: 4, ema: decay } })
  values(copy, 'weight').forEach((x, i) => void assert.ok(Math.abs(x - average[i]!) < 1e-6))
})

test('learning-rate factors by name: 0 stands still, 2 moves twice as far', async () => {
  const model = linearModel()
  const moved = async (lrFactor?: Record<string, number>) => {
    const { model: trained } = await run(model, { maxSteps: 1, weightDecay: 0, ...(lrFactor && { lrFactor }) })
    return (name: string) => values(trained, name).map((v, i) => v - values(model, name)[i]!)
  }
  const [plain, factored] = [await moved(), await moved({ bias: 0, 'w*': 2 })]
  assert.ok(factored('bias').every((d) => d === 0))
  plain('weight').forEach((d, i) => void assert.ok(Math.abs(2 * d - factored('weight')[i]!) < 1e-6))
})

test('weight decay can leave biases and normalisations out', async () => {
  const o = { maxSteps: 1, lr: 0.1, weightDecay: 0.9 }
  const still = { lossless: (await run(linearModel(), { ...o, weightDecay: 0 })).model }
  const part = (await run(linearModel(), { ...o, decayAll: false })).model
  const whole = (await run(linearModel(), o)).model
  assert.deepEqual(values(part, 'bias'), values(still.lossless, 'bias'))
  assert.notDeepEqual(values(whole, 'bias'), values(still.lossless, 'bias'))
  assert.deepEqual(values(part, 'weight'), values(whole, 'weight'))
})

test('a step graph reports accuracy, and leaving the loop leaves the weights of the last step', async () => {
  const model = linearModel()
  const own = { ...inputs, options: { ...options, maxSteps: 9, schedule: 'constant' } } as const
  let seen = 0
  for await (const event of trainSteps(model, own)) {
    if (event.kind !== 'step') continue
    assert.ok(event.top1! >= 0 && event.top1! <= 1 && Number.isInteger(Math.round(event.top1! * 6)))
    if (++seen === 3) break
  }
  const straight = await run(linearModel(), { maxSteps: 3, schedule: 'constant' })
  assert.deepEqual(values(model, 'weight'), values(straight.model, 'weight'))
})

/** Two outputs of different rank; no classifier. */
function twoHeads(seed: number): Model {
  const model = linearModel(seed)
  const { graph } = model
  const b = graph.append()
  const pooled = b.op('AveragePool', [graph.inputs[0]!], { kernel_shape: [2, 2], strides: [2, 2] })
  const kernel = b.initializer('map.weight', Tensor.float32([2, 1, 1, 1], [0.5 + seed, -0.3 * seed]))
  graph.addOutput(b.op('Conv', [pooled, kernel], {}, { name: 'map', type: { elem: 'float32', dims: ['N', 2, 4, 4] } }))
  return model
}

test('any model learns all outputs of a teacher, without labels, from random inputs', async () => {
  for (const loss of ['mse', 'l1'] as const) {
    const rates = loss === 'mse' ? { lr: 0.1, momentum: 0 } : ({ lr: 0.03, optimizer: 'adamw' } as const)
    const own = { loss, ...rates, epochs: 60, limit: 6, weightDecay: 0, lrFactor: { 'map.*': 4 } }
    const teacher = { model: twoHeads(3) }
    const {
      model,
      losses: curve,
      events,
    } = await run(twoHeads(1), own, { data: 'random', preprocess: undefined, teacher })
    assert.equal(curve.length, 60)
    assert.ok(curve.at(-1)! < curve[0]! / 3, `${loss}: ${curve[0]} to ${curve.at(-1)}`)
    assert.ok(events.every((e) => e.kind !== 'step' || e.top1 === null))
    const before = Math.abs(values(twoHeads(1), 'map.weight')[0]! - 3.5)
    assert.ok(Math.abs(values(model, 'map.weight')[0]! - 3.5) < before / 2, 'the second output is learned too')
  }
})

test('a teacher that reads other pixels and sizes sees its own, in both kinds of statistics', async () => {
  const student = tinyNet(1)
  const teacher = tinyNet(2)
  const own = { loss: 'kl', maxSteps: 1 } as const
  const loss = async (rest: Partial<TrainRun>, o: object = own) => (await run(student, o, rest)).losses[0]!
  const plain = await loss({ teacher: { model: teacher, preprocess: pixels } })
  // half the scale and twice the numbers are the same pixels
  const scaled = { ...pixels, scale: 127.5, mean: [1], std: [0.5] }
  assert.ok(Math.abs((await loss({ teacher: { model: teacher, preprocess: scaled } })) - plain) < 1e-5)
  const shifted = { ...pixels, mean: [0.2] }
  assert.ok(Math.abs((await loss({ teacher: { model: teacher, preprocess: shifted } })) - plain) > 1e-4)
  const published = await loss({ teacher: { model: teacher, preprocess: pixels } }, { ...own, teacherBn: 'batch' })
  assert.ok(Math.abs(published - plain) > 1e-4)
  assert.equal(CLASSES, 3)
})

test('running statistics move once for each batch, accumulated or not', async () => {
  const still = { lr: 0, batch: 4, augment: 'none' } as const
  const { model: accumulated } = await run(tinyNet(), { ...still, accumulate: 3, maxSteps: 1 })
  const { model: single } = await run(tinyNet(), { ...still, maxSteps: 3 })
  const start = tinyNet()
  const statistics = Array.from(start.graph.initializers(), (v) => v.name).filter((name) => name.includes('running'))
  assert.equal(statistics.length, 4)
  for (const name of statistics) {
    const [a, b, before] = [accumulated, single, start].map((m) => m.graph.find(name)!.constant!.toFloat32())
    b!.forEach((want, i) => {
      assert.notEqual(want, before![i])
      assert.ok(Math.abs(a![i]! - want) < 1e-6 * Math.max(1, Math.abs(want)), `${name}[${i}]: ${a![i]} for ${want}`)
    })
  }
})
