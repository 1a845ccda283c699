/**
 * A network that runs at one batch only is evaluated, checked, calibrated, measured and trained on each sample, as the same
 * network with an open batch is; data sets are not multiples of the batch.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkModels } from '../../src/check/check.ts'
import { checkBatches } from '../../src/check/check-data.ts'
import { compareLayers } from '../../src/check/check-layers.ts'
import { calibrationData } from '../../src/data/calibration.ts'
import { evalBatches, imageTensor } from '../../src/data/eval-batches.ts'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { Dim } from '../../src/graph/types.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { scanSensitivity } from '../../src/sensitivity/sensitivity.ts'
import { updateBatchNorm } from '../../src/train/loop/bn-update.ts'
import { CLASSES, images, pixels, run, SIZE, tinyNet } from '../train/fixtures.ts'
import { imageClassifier } from './batch-graphs.ts'

/** Input's first dim and the batch that a Reshape bakes in, with what then works. */
const forms: readonly { first: Dim; baked?: number; batch: number }[] = [
  { first: 1, baked: 1, batch: 1 },
  { first: 'N', baked: 1, batch: 1 },
  { first: 4, baked: 4, batch: 4 },
  { first: null, baked: 4, batch: 4 },
  { first: 2, batch: 2 },
  { first: 8, batch: 8 },
]

const COUNT = 11
const make = ({ first, baked }: (typeof forms)[number]): Model => imageClassifier(first, SIZE, CLASSES, baked)
const free = (): Model => imageClassifier('N', SIZE, CLASSES)

/** The scores of each image, run one by one in the network with an open batch. */
async function oneByOne(model: Model): Promise<readonly Float32Array[]> {
  const session = await ortExecutor().load(model, { optimization: 'disabled' })
  const rows: Float32Array[] = []
  for await (const { images: image } of evalBatches(images(COUNT), pixels, 1)) {
    const out = await session.run({ x: imageTensor(pixels, 1, image) })
    rows.push(out.y!.toFloat32().slice())
  }
  await session.dispose()
  return rows
}

test('evaluation is that of each image alone', async () => {
  const rows = await oneByOne(free())
  const { labels } = images(COUNT)
  const right = rows.filter((r, i) => r.indexOf(Math.max(...r)) === labels[i]).length
  const losses = rows.map((r, i) => Math.log(r.reduce((s, x) => s + Math.exp(x), 0)) - r[labels[i]!]!)
  const loss = losses.reduce((a, b) => a + b) / COUNT
  for (const form of forms)
    for (const batch of [1, 5, 100]) {
      const got = await evaluate(make(form), images(COUNT), pixels, { batch })
      assert.equal(got.samples, COUNT)
      assert.equal(got.top1, right / COUNT, JSON.stringify(form))
      assert.ok(Math.abs(got.loss - loss) < 1e-5, `${got.loss}, ${loss}`)
    }
})

/** The model with one weight moved: each sample's error is another. */
function moved(model: Model): Model {
  const copy = cloneModel(model)
  const w = copy.graph.find('w')!
  const values = w.constant!.toFloat32().slice()
  values[5]! += 0.5
  w.setConstant(Tensor.float32(w.dims, values))
  return copy
}

test('a check compares each sample, whatever batch either model takes', async () => {
  const [want, got] = [await oneByOne(free()), await oneByOne(moved(free()))]
  const errors = want.map((r, i) => Math.max(...r.map((x, c) => Math.abs(x - got[i]![c]!))))
  const agree = want.filter((r, i) => r.indexOf(Math.max(...r)) === got[i]!.indexOf(Math.max(...got[i]!))).length
  const pairs: [Model, Model][] = forms.map((form) => [make(form), moved(make(form))])
  pairs.push(
    [free(), moved(make(forms[0]!))],
    [make(forms[2]!), moved(free())],
    [make(forms[0]!), moved(make(forms[3]!))],
  )
  for (const [reference, model] of pairs) {
    const batches = checkBatches(reference, images(COUNT), pixels, 5)
    const r = await checkModels(reference, model, { batches })
    assert.equal(r.samples, COUNT)
    assert.equal(r.byOptimisation.disabled.agreement, agree / COUNT)
    assert.ok(Math.abs(r.maxAbsError - Math.max(...errors)) < 1e-5, `${r.maxAbsError}`)
    const random = await checkModels(reference, model, { seed: 1 })
    assert.ok(random.samples >= 16 && random.maxAbsError > 0)
  }
})

test('layers are compared over all samples of the batch', async () => {
  const largest = async (reference: Model, model: Model): Promise<number> => {
    for await (const b of checkBatches(reference, images(COUNT), pixels, COUNT))
      return (await compareLayers(reference, model, b.feeds, b.count)).find((l) => l.name === 'y')!.maxAbsError
    return 0
  }
  const want = await largest(free(), moved(free()))
  for (const form of forms) {
    const got = await largest(make(form), moved(make(form)))
    assert.ok(Math.abs(got - want) < 1e-5, `${JSON.stringify(form)}: ${got}, ${want}`)
  }
})

/** The steps that calibration on the images gives the input of the one layer. */
async function stepsOf(model: Model, calibration: 'mse' | 'percentile'): Promise<readonly number[]> {
  const data = await calibrationData(model, images(COUNT), { ...pixels, inputSize: [SIZE, SIZE], batch: 5 })
  const options = { ops: ['MatMul'], firstLayer: 'quantize', lastLayer: 'quantize', calibration } as const
  await runPass(model, 'quantize', options, { calibration: data })
  return [...model.graph.nodes()]
    .filter((n) => n.op === 'QuantizeLinear' && !n.input(0).constant)
    .map((n) => n.input(1).constant!.item())
}

test('calibration counts each image once', async () => {
  for (const calibration of ['mse', 'percentile'] as const)
    for (const form of forms) {
      const [want, got] = [await stepsOf(free(), calibration), await stepsOf(make(form), calibration)]
      assert.ok(want.length > 0)
      assert.deepEqual(got, want, `${JSON.stringify(form)}, ${calibration}`)
    }
})

test('sensitivity measures each image', async () => {
  const scan = async (model: Model) => {
    const set = images(COUNT)
    const calibration = await calibrationData(model, set, { ...pixels, inputSize: [SIZE, SIZE] })
    const options = { metric: 'sqnr', ops: ['MatMul'], sparsity: [0.5], weightBits: [4], batch: 5 } as const
    return scanSensitivity(model, { data: { set, preprocess: pixels, calibration }, options })
  }
  const want = await scan(free())
  for (const form of forms) {
    const got = await scan(make(form))
    assert.equal(got.samples, COUNT)
    for (const [i, p] of want.points.entries())
      assert.ok(Math.abs(got.points[i]!.value! - p.value!) < 1e-3, JSON.stringify(got.points[i]))
  }
})

test('training steps are those of the batch asked for, in as many runs as it takes', async () => {
  const options = { batch: 8, maxSteps: 3, lr: 0.01, weightDecay: 0 }
  const want = await run(free(), options)
  for (const form of forms) {
    const got = await run(make(form), options)
    for (const [i, l] of want.losses.entries()) assert.ok(Math.abs(got.losses[i]! - l) < 1e-5, JSON.stringify(form))
    const [a, b] = [got.model, want.model].map((m) => m.graph.find('w')!.constant!.toFloat32())
    for (const [i, x] of b!.entries()) assert.ok(Math.abs(a![i]! - x) < 1e-6)
    assert.deepEqual(got.model.graph.inputs[0]!.type!.dims![0], form.first, 'the file keeps its input')
  }
})

/** tinyNet whose feature map goes through a Reshape with the batch baked in, before the second normalisation. */
function baked(batch: number | null): Model {
  const model = tinyNet()
  if (batch === null) return model
  const { graph } = model
  const relu = [...graph.nodes()].find((n) => n.op === 'Relu')!
  const b = graph.after(relu)
  const shaped = b.op('Reshape', [relu.output, b.ints([batch, 4, SIZE, SIZE])])
  for (const n of [...relu.output.uses]) if (n !== shaped.producer) n.setInput(0, shaped)
  return model
}

test('statistics of a batch are combined from the runs it takes', async () => {
  const statistics = async (model: Model): Promise<number[]> => {
    await updateBatchNorm(model, { data: images(24), preprocess: pixels, augment: 'none', workers: 0, batch: 8 })
    return ['stem.bn.running_mean', 'stem.bn.running_var', 'body.bn.running_mean', 'body.bn.running_var'].flatMap(
      (n) => [...model.graph.find(n)!.constant!.toFloat32()],
    )
  }
  const want = await statistics(baked(null))
  // behind a layer that each run normalises by its own statistics, those of the next layer depend on the runs
  for (const batch of [1, 2, 4, 8]) {
    const got = await statistics(baked(batch))
    for (const [i, x] of want.slice(0, batch === 8 ? 20 : 8).entries())
      assert.ok(Math.abs(got[i]! - x) < 1e-4 * Math.max(1, Math.abs(x)), `${batch}, ${i}: ${got[i]}, ${x}`)
  }
})

test('a step takes the batch that student and teacher both run at', async () => {
  const options = { batch: 8, maxSteps: 2, lr: 0.01, weightDecay: 0, loss: 'mse' } as const
  const teacher = (form: (typeof forms)[number]) => ({ teacher: { model: moved(make(form)), preprocess: pixels } })
  const want = await run(free(), options, { teacher: { model: moved(free()), preprocess: pixels } })
  for (const [student, master] of [
    [free(), forms[0]!],
    [free(), forms[3]!],
    [make(forms[3]!), forms[4]!],
    [make(forms[0]!), forms[1]!],
  ] as const) {
    const got = await run(student, options, teacher(master))
    for (const [i, l] of want.losses.entries()) assert.ok(l > 0 && Math.abs(got.losses[i]! - l) < 1e-5 * l + 1e-7)
    const random = await run(
      student,
      { ...options, limit: 16 },
      { ...teacher(master), data: 'random', preprocess: undefined },
    )
    assert.ok(random.losses.length === 2 && random.losses.every((l) => l > 0))
  }
  await assert.rejects(
    run(make(forms[0]!), options, teacher(forms[2]!)),
    /only at batch size 1 and the teacher only at 4/,
  )
})
