/** Training what is pruned, quantised or frozen. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { parseOptions } from '../../src/base/options.ts'
import { Rng } from '../../src/base/rng.ts'
import { readModel } from '../../src/codec/codec.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { type WeightLayer, weightLayers } from '../../src/layers/layers.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { fakeQuantize, fitWeightScales, quantizeValue } from '../../src/quant/quantizer.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { imageSource } from '../../src/train/loop/batch-source.ts'
import { cutFrozen } from '../../src/train/loop/frozen-features.ts'
import { type TrainRun, trainSteps } from '../../src/train/loop/trainer.ts'
import { separateScales } from '../../src/train/step/learned-scales.ts'
import { optimizerDefaults } from '../../src/train/step/optimizers.ts'
import { buildStep } from '../../src/train/step/step-graph.ts'
import type { StepOptions } from '../../src/train/step/step-options.ts'
import { StepRunner } from '../../src/train/step/step-runner.ts'
import { type TrainOptionsInput, trainOptions } from '../../src/train/train-options.ts'
import { CLASSES, images, linearModel, pixels, run, SIZE, scratch, tinyNet, values } from './fixtures.ts'

const file = scratch()

const BATCH = 4
const base: StepOptions = {
  ...{ batch: BATCH, loss: 'ce', alpha: 1, temperature: 1, optimizer: optimizerDefaults },
  ...{ batchStatistics: true, learnScales: false },
}

const feed = () => {
  const rng = new Rng(3)
  const draw = Float32Array.from({ length: BATCH * SIZE * SIZE }, () => rng.normal(0, 1))
  const targets = new Float32Array(BATCH * CLASSES)
  for (let i = 0; i < BATCH; i++) targets[i * CLASSES + (i % CLASSES)] = 1
  return { x: Tensor.float32([BATCH, 1, SIZE, SIZE], draw), targets: Tensor.float32([BATCH, CLASSES], targets) }
}

async function gradients(model: Model, options: Partial<StepOptions> = {}): Promise<Map<string, Float32Array>> {
  const runner = await StepRunner.create(await buildStep(model, { ...base, ...options }, () => false), ortExecutor())
  runner.loadFrom(model)
  const { x, targets } = feed()
  const all = await runner.gradients(x, targets, { lr: Tensor.scalar(0) })
  await runner.dispose()
  return new Map([...all].map(([k, v]) => [k, v.slice()]))
}

/** dL/dlogits^T x of the linear model with weights `w`: what a straight-through estimator hands to the latent ones. */
function denseGradient(w: Float32Array, bias: Float32Array, input?: Float32Array): Float32Array {
  const { x, targets } = feed()
  const [images, y] = [input ?? x.view('float32'), targets.view('float32')]
  const size = SIZE * SIZE
  const out = new Float32Array(w.length)
  for (let i = 0; i < BATCH; i++) {
    const image = images.subarray(i * size, (i + 1) * size)
    const s = Array.from(bias, (b, c) => image.reduce((a, v, k) => a + v * w[c * size + k]!, b))
    const sum = s.reduce((a, v) => a + Math.exp(v), 0)
    s.forEach((v, c) => {
      const d = (Math.exp(v) / sum - y[i * CLASSES + c]!) / BATCH
      for (let k = 0; k < size; k++) out[c * size + k]! += d * image[k]!
    })
  }
  return out
}

function assertNear(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-6): void {
  assert.equal(actual.length, expected.length)
  for (let i = 0; i < actual.length; i++)
    assert.ok(Math.abs(actual[i]! - expected[i]!) < tolerance, `${i}: ${actual[i]}, not ${expected[i]}`)
}

const zerosOf = (v: ArrayLike<number>): number => Array.from(v).filter((x) => x === 0).length

async function pruned(model: Model, options = {}): Promise<Model> {
  await pass(model, 'prune', { sparsity: 0.5, ops: ['Conv', 'Gemm'], scope: 'layer', ...options })
  return model
}

test('frozen parts get no gradient, no backward nodes, no new statistics', async () => {
  const whole = await buildStep(tinyNet(), base, () => false)
  const model = tinyNet()
  await pass(model, 'freeze', { allBut: ['fc'] })
  const step = await buildStep(model, base, () => false)
  assert.deepEqual(
    step.weights.entries.map((e) => e.name),
    ['fc.weight', 'fc.bias'],
  )
  assert.equal(step.statistics.size, 0)
  const nodes = step.model.graph.nodeCount - model.graph.nodeCount
  assert.ok(nodes < 40 && whole.model.graph.nodeCount > model.graph.nodeCount + 60, `${nodes} more nodes`)
  const { model: trained } = await run(model, { maxSteps: 3 })
  for (const v of model.graph.initializers()) {
    const same = trained.graph.find(v.name)!.constant!.equals(v.constant!)
    assert.equal(same, !v.name.startsWith('fc.'), v.name)
  }
})

test('behind a frozen front, steps on kept features are those on images', async () => {
  for (const [frozen, options] of [
    [{ allBut: ['fc'] }, { scales: 'refit' }],
    [{ names: ['stem.*'] }, { accumulate: 2 }],
  ] as const) {
    const model = await pruned(tinyNet(2))
    await pass(model, 'quantize', { ops: ['Conv', 'Gemm'], activationBits: 0 })
    await pass(model, 'freeze', frozen)
    const own = {
      epochs: 2,
      valFraction: 0.2,
      loss: 'kl',
      alpha: 0.5,
      maskUpdateEvery: 2,
      maskUpdateUntil: 99,
      ...options,
    } as const
    const teacher = { model: tinyNet(7), preprocess: pixels }
    const [kept, anew] = [true, false].map((cacheFeatures) => run(model, { ...own, cacheFeatures }, { teacher }))
    const [a, b] = [await kept!, await anew!]
    assertNear(a.losses, b.losses, 1e-5)
    for (const v of a.model.graph.initializers()) {
      const other = b.model.graph.find(v.name)!.constant!
      if (v.constant!.type === 'float32') assertNear(v.constant!.toFloat32(), other.toFloat32(), 1e-5)
      else assert.ok(v.constant!.equals(other), v.name)
    }
    assert.equal(a.summary.valTop1, b.summary.valTop1)
  }
})

test('features are kept only where every epoch would see the same', async () => {
  const model = tinyNet()
  await pass(model, 'freeze', { allBut: ['fc'] })
  const data = images(60)
  const sourceOptions = { batch: 6, parts: 1, seed: 0, augment: 'none', workers: 0 }
  const cut = async (options: TrainOptionsInput, m = model, rest: Partial<TrainRun> = {}) => {
    const o = parseOptions(trainOptions, { augment: 'none', batch: 6, ...options }, 'train')
    const fed = { images: data, preprocess: pixels, source: imageSource(data, pixels, sourceOptions), seed: 0 }
    return cutFrozen(m, { data, ...rest }, o, fed, () => false)
  }
  const done = await cut({})
  assert.deepEqual(
    [...done!.model.graph.nodes()].map((n) => n.op),
    ['Gemm'],
  )
  assert.equal(await cut({ augment: 'standard' }), null)
  assert.equal(await cut({ cacheFeatures: false }), null)
  assert.equal(await cut({}, tinyNet()), null, 'nothing is frozen')
  const teacher = { model: tinyNet(7), preprocess: pixels }
  assert.equal(await cut({ loss: 'kl', teacherBn: 'batch' }, model, { teacher }), null)
  assert.ok(await cut({ loss: 'kl' }, model, { teacher }))
})

test('a frozen front leaves the gradient of what is behind it as it was', async () => {
  const model = tinyNet()
  const all = await gradients(model, { batchStatistics: false })
  await pass(model, 'freeze', { names: ['stem.*'] })
  const rest = await gradients(model, { batchStatistics: false })
  assert.deepEqual([...rest.keys()].sort(), [...all.keys()].filter((k) => /^(body|fc)/.test(k)).sort())
  for (const [name, g] of rest) assertNear(g, all.get(name)!, 1e-6)
})

test('bn frozen: normalises by the running statistics, which stay, and trains scale and shift', async () => {
  const model = tinyNet()
  const { model: trained } = await run(model, { maxSteps: 3, bn: 'frozen' })
  assert.deepEqual(values(trained, 'stem.bn.running_mean'), values(model, 'stem.bn.running_mean'))
  assert.notDeepEqual(values(trained, 'stem.bn.weight'), values(model, 'stem.bn.weight'))
})

test('masked weights: the forward pass sees zeros, the latent weights a dense gradient', async () => {
  const model = await pruned(linearModel())
  const [w, mask] = [values(model, 'weight'), values(model, 'weight.mask')]
  assert.equal(zerosOf(mask), mask.length / 2)
  const g = (await gradients(model)).get('weight')!
  assertNear(
    g,
    denseGradient(
      w.map((v, i) => v * mask[i]!),
      values(model, 'bias'),
    ),
  )
  assert.equal(zerosOf(g), 0)
})

test('fake-quantised weights: gradient by straight-through, cut off where the quantiser saturates', async () => {
  const model = linearModel()
  await pass(model, 'quantize', { ops: ['Gemm'], activationBits: 0, weightBits: 3 })
  const [layer] = weightLayers(model.graph)
  const w = values(model, 'weight')
  const scales = layer!.quant!.scale.constant!.toFloat32()
  scales.forEach((s, c) => {
    scales[c] = s * 0.6 // more weights saturate
  })
  layer!.quant!.scale.setConstant(Tensor.float32([CLASSES], scales))
  const dense = denseGradient(fakeQuantize(w, [CLASSES, SIZE * SIZE], { axis: 0 }, scales, 3), values(model, 'bias'))
  let cut = 0
  const expected = dense.map((d, i) => {
    const x = w[i]! / scales[Math.floor(i / (SIZE * SIZE))]!
    if (x >= -4 && x <= 3) return d
    cut++
    return 0
  })
  assert.ok(cut > 10)
  assertNear((await gradients(model)).get('weight')!, expected)
})

for (const weightGroup of [undefined, 16] as const)
  test(`learned scales of weights: LSQ gradient by hand, per ${weightGroup ? 'group' : 'channel'}`, async () => {
    const model = linearModel()
    const groups = weightGroup === undefined ? {} : { weightGroup }
    await pass(model, 'quantize', { ops: ['Gemm'], activationBits: 0, weightBits: 3, ...groups })
    const scale = weightLayers(model.graph)[0]!.quant!.scale
    const [w, s, all] = [values(model, 'weight'), scale.constant!.toFloat32(), SIZE * SIZE]
    const layout = weightGroup ? { axis: 1, block: weightGroup } : { axis: 0 }
    const quantised = fakeQuantize(w, [CLASSES, all], layout, s, 3)
    const dense = denseGradient(quantised, values(model, 'bias'))
    const size = weightGroup ?? all
    const expected = s.map((step, c) => {
      let sum = 0
      for (let i = c * size; i < (c + 1) * size; i++) {
        const x = w[i]! / step
        sum += dense[i]! * (x > 3 ? 3 : x < -4 ? -4 : quantizeValue(w[i]!, step, -4, 3) - x)
      }
      return sum / Math.sqrt(size * 3)
    })
    const found = await gradients(model, { learnScales: true })
    assertNear(found.get(scale.name)!, expected)
    assert.ok(expected.some((g) => Math.abs(g) > 1e-4))
  })

test("integer weights are not trained by way of their activations' scales", async () => {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const [step, zero, zeroOfWeights] = [b.scalar(0.1), b.scalar(128, 'uint8'), b.scalar(0, 'int8')]
  const input = graph.addInput('input', { elem: 'float32', dims: ['N', 1, SIZE, SIZE] })
  const levels = b.op('QuantizeLinear', [input, step, zero])
  const x = b.op('Flatten', [b.op('DequantizeLinear', [levels, step, zero])], { axis: 1 })
  const ints = Array.from({ length: CLASSES * SIZE * SIZE }, (_, i) => (i % 15) - 7)
  const stored = b.initializer('w', Tensor.from('int8', [CLASSES, SIZE * SIZE], ints))
  const w = b.op('DequantizeLinear', [stored, b.scalar(0.01), zeroOfWeights])
  const type = { elem: 'float32', dims: ['N', CLASSES] } as const
  graph.addOutput(b.op('Gemm', [x, w], { transB: 1 }, { name: 'logits', type }))
  await assert.rejects(run(model, { maxSteps: 1 }), { code: 'nothing-to-train' })
})

test('a quantiser and a layer that no output depends on', async () => {
  const model = linearModel()
  const b = model.graph.append()
  b.op('Gemm', [
    b.op('Flatten', [model.graph.inputs[0]!]),
    b.initializer('dead', Tensor.from('float32', [64, 2], Array(128).fill(1))),
  ])
  const step = b.initializer('dead.step', Tensor.scalar(0.1))
  b.op('DequantizeLinear', [b.op('QuantizeLinear', [model.graph.inputs[0]!, step]), step])
  const [beside, alone] = [await run(model, { maxSteps: 2 }), await run(linearModel(), { maxSteps: 2 })]
  assert.deepEqual(beside.losses, alone.losses)
})

test('scales and zero points behind Identity are the same as without it', async () => {
  const model = linearModel()
  await pass(model, 'quantize', { ops: ['Gemm'], activationBits: 0, weightBits: 8 })
  const behind = cloneModel(model)
  for (const n of behind.graph.nodes())
    for (const i of [1, 2])
      if (n.op.endsWith('Linear')) n.setInput(i, behind.graph.before(n).op('Identity', [n.input(i)]))
  for (const scales of ['learn', 'refit', 'keep'] as const) {
    const options = { maxSteps: 6, scales, epochs: 0.5, weightDecay: 0.1 }
    const [a, b] = [await run(model, options), await run(behind, options)]
    assert.deepEqual(b.losses, a.losses)
    const [x, y] = [a, b].map(({ model: m }) => weightLayers(m.graph)[0]!.quant!.scale.constant!.toFloat32())
    assert.deepEqual(x, y)
  }
})

test('one update takes at most a tenth off a learned scale, even where gradients are accumulated', async () => {
  const model = linearModel()
  await pass(model, 'quantize', { ops: ['Gemm'], activationBits: 0 })
  const before = weightLayers(model.graph)[0]!.quant!.scale.constant!.toFloat32()
  for (const accumulate of [1, 2]) {
    const { model: after } = await run(model, { maxSteps: 1, lr: 1e4, accumulate })
    const scales = weightLayers(after.graph)[0]!.quant!.scale.constant!.toFloat32()
    const shares = Array.from(scales, (s, i) => s / before[i]!)
    for (const share of shares) assert.ok(share >= 0.9 - 1e-6, `${share}`)
    assert.ok(shares.some((share) => share < 0.9 + 1e-6))
    assert.ok(
      values(after, 'weight').some((w) => w < 0),
      'weights are not bounded',
    )
  }
})

for (const signedInputs of ['symmetric', 'zero-point'] as const)
  test(`learned scales of ${signedInputs} activations train, get no decay, and stay positive`, async () => {
    const model = linearModel()
    const { x } = feed()
    const calibration = {
      async *batches() {
        yield { input: x }
      },
    }
    const quantised = { ops: ['Gemm'], firstLayer: 'quantize', activationBits: 4, signedInputs } as const
    await pass(model, 'quantize', quantised, { calibration })
    const [layer] = weightLayers(model.graph)
    const { scale } = layer!.activationQuant!
    const [lo, hi] = levelsOf(layer!)
    const step = scale.constant!.item()
    const all = await gradients(model, { learnScales: true })
    const dims = [BATCH, CLASSES, SIZE * SIZE]
    const dx = inputGradient(model, dims)
    let expected = 0
    x.view('float32').forEach((v, i) => {
      const q = v / step
      expected += dx[i]! * (q > hi ? hi : q < lo ? lo : quantizeValue(v, step, lo, hi) - q)
    })
    assertNear(all.get(scale.name)!, [expected / Math.sqrt(SIZE * SIZE * hi)], 1e-6)

    const still = await run(model, {
      maxSteps: 1,
      weightDecay: 0.5,
      lr: 0.01,
      lrFactor: { '*.scale': 0 },
    })
    assert.equal(still.model.graph.find(scale.name)!.constant!.item(), step, 'no decay of steps')
    const wild = await run(model, { maxSteps: 6, lr: 50, clipNorm: 1, schedule: 'constant' })
    for (const l of [layer!.quant!.scale, scale])
      for (const s of values(wild.model, l.name)) assert.ok(s > 0 && Number.isFinite(s), `${l.name} ${s}`)
    assert.notEqual(wild.model.graph.find(scale.name)!.constant!.item(), step)
  })

/** Least and largest integer of a layer's activation quantiser, less the zero point. */
function levelsOf(layer: WeightLayer): [number, number] {
  const { lo, hi, zeroPoint } = layer.activationQuant!
  const z = zeroPoint!.constant!.toNumbers()[0]!
  return [lo - z, hi - z]
}

/** dL/d(quantised input) of the linear model with quantised weights. */
function inputGradient(model: Model, [batch, classes, size]: readonly number[]): Float64Array {
  const [layer] = weightLayers(model.graph)
  const w = fakeQuantize(
    values(model, 'weight'),
    [classes!, size!],
    { axis: 0 },
    layer!.quant!.scale.constant!.toFloat32(),
    4,
  )
  const step = layer!.activationQuant!.scale.constant!.item()
  const { x, targets } = feed()
  const q = x.view('float32').map((v) => quantizeValue(v, step, ...levelsOf(layer!)) * step)
  const bias = values(model, 'bias')
  const y = targets.view('float32')
  const dx = new Float64Array(q.length)
  for (let i = 0; i < batch!; i++) {
    const s = Array.from(bias, (b, c) => {
      let sum = b
      for (let k = 0; k < size!; k++) sum += q[i * size! + k]! * w[c * size! + k]!
      return sum
    })
    const total = s.reduce((a, v) => a + Math.exp(v), 0)
    s.forEach((v, c) => {
      const d = (Math.exp(v) / total - y[i * classes! + c]!) / batch!
      for (let k = 0; k < size!; k++) dx[i * size! + k]! += d * w[c * size! + k]!
    })
  }
  return dx
}

test('masks move by the rule in the graph while latent weights grow back, and then stay', async () => {
  const model = await pruned(tinyNet())
  const start = values(model, 'fc.weight.mask')
  const still = await run(model, { maxSteps: 8 })
  assert.deepEqual(values(still.model, 'fc.weight.mask'), start)
  const moved = await run(model, { maxSteps: 8, maskUpdateEvery: 2, maskUpdateUntil: 4, lr: 0.2, schedule: 'constant' })
  for (const l of weightLayers(moved.model.graph)) {
    const mask = l.mask!.constant!.toFloat32()
    assert.ok(Math.abs(zerosOf(mask) / mask.length - 0.5) < 0.1, l.name)
  }
  const differs = weightLayers(moved.model.graph).some(
    (l) => !l.mask!.constant!.equals(model.graph.find(l.mask!.name)!.constant!),
  )
  assert.ok(differs, 'some mask moved')
  const later = await run(model, { maxSteps: 5, maskUpdateEvery: 2, maskUpdateUntil: 4, lr: 0.2, schedule: 'constant' })
  for (const l of weightLayers(later.model.graph))
    assert.ok(l.mask!.constant!.equals(moved.model.graph.find(l.mask!.name)!.constant!), 'none moves after step 4')
})

test('gradual masks follow the cubic schedule to the full sparsity, by any pattern', async () => {
  const gradual = { maskSchedule: 'cubic', maskUpdateEvery: 2, maskUpdateUntil: 8, lr: 0.01 } as const
  const zeros = async (model: Model, checkpoint: string, steps: number): Promise<number> => {
    // the state in the middle of a run is what its checkpoint holds
    const stop = new AbortController()
    const options = { batch: 6, augment: 'none', workers: 0, threads: 1, epochs: 1, ...gradual } as const
    const events = trainSteps(cloneModel(model), {
      ...{ data: images(60), preprocess: pixels, options, checkpoint, signal: stop.signal },
    })
    await assert.rejects(async () => {
      for await (const e of events) if (e.kind === 'step' && e.step + 1 === steps) stop.abort()
    })
    const masks = weightLayers((await readModel(checkpoint)).graph).map((l) => l.mask!.constant!.toFloat32())
    const count = masks.reduce((n, m) => n + m.length, 0)
    return masks.reduce((n, m) => n + zerosOf(m), 0) / count
  }
  const unstructured = await pruned(linearModel(), { sparsity: 0.75 })
  for (const [steps, progress] of [
    [1, 0],
    [3, 1 - 0.75 ** 3],
    [5, 1 - 0.5 ** 3],
    [9, 1],
  ] as const) {
    const share = await zeros(unstructured, file(`gradual-${steps}.checkpoint.onnx`), steps)
    assert.ok(Math.abs(share - 0.75 * progress) < 0.005, `after ${steps} steps: ${share}`)
  }
  const grouped = await pruned(linearModel(), { sparsity: undefined, pattern: '2:4' })
  assert.equal(await zeros(grouped, file('grouped-3.checkpoint.onnx'), 3), 0.25)
  assert.equal(await zeros(grouped, file('grouped-9.checkpoint.onnx'), 9), 0.5)
  await assert.rejects(run(unstructured, { ...gradual, maxSteps: 8 }), /full sparsity at step 8.*8 steps/)
  await assert.rejects(run(unstructured, { ...gradual, maskUpdateUntil: 0 }), /needs masks that move/)
})

test('of a gradual run only epochs at the full sparsity count as the best', async () => {
  const model = await pruned(tinyNet(), { sparsity: 0.9 })
  const gradual = { maskSchedule: 'cubic', maskUpdateEvery: 1, maskUpdateUntil: 20 } as const
  const { model: trained, summary } = await run(model, { epochs: 3, valFraction: 0.2, ...gradual })
  assert.equal(summary.bestEpoch, 2)
  for (const l of weightLayers(trained.graph)) {
    const mask = l.mask!.constant!.toFloat32()
    assert.equal(zerosOf(mask), Math.round(0.9 * mask.length), l.name)
  }
})

test('weight scales are fitted anew each epoch to the masked weights', async () => {
  const model = await pruned(linearModel())
  await pass(model, 'quantize', { ops: ['Gemm'], activationBits: 0 })
  const atEpoch = await run(model, { maxSteps: 10, scales: 'refit' })
  const after = await run(model, { epochs: 2, maxSteps: 11, scales: 'refit', lr: 0.05, schedule: 'constant' })
  const again = await run(model, { epochs: 2, maxSteps: 10, scales: 'refit', lr: 0.05, schedule: 'constant' })
  const scale = weightLayers(model.graph)[0]!.quant!.scale.name
  assert.deepEqual(values(atEpoch.model, scale), values(model, scale), 'not within an epoch')
  const mask = values(again.model, 'weight.mask')
  const weights = values(again.model, 'weight').map((v, i) => v * mask[i]!)
  assert.deepEqual(values(after.model, scale), fitWeightScales(weights, [CLASSES, SIZE * SIZE], { axis: 0 }, 4, 'als'))
  const byMax = await pruned(linearModel())
  await pass(byMax, 'quantize', { ops: ['Gemm'], activationBits: 0, weightScale: 'max' })
  const refitted = await run(byMax, { epochs: 2, maxSteps: 11, scales: 'refit', lr: 0 })
  assert.deepEqual(values(refitted.model, scale), values(byMax, scale), 'by the method of the pass')
  const fixed = await run(model, { epochs: 2, maxSteps: 11, scales: 'keep' })
  assert.deepEqual(values(fixed.model, scale), values(model, scale))
})

test('what was trained with masks and quantisers is what the file computes', async () => {
  const model = await pruned(tinyNet())
  await pass(model, 'quantize', { ops: ['Conv', 'Gemm'], activationBits: 0 })
  const { model: trained } = await run(model, { maxSteps: 4, maskUpdateEvery: 2, maskUpdateUntil: 99 })
  const { x, targets } = feed()
  const frozen = { ...base, batchStatistics: false }
  const runner = await StepRunner.create(await buildStep(trained, frozen, () => false), ortExecutor())
  runner.loadFrom(trained)
  const { logits } = await runner.run(x, targets, { lr: Tensor.scalar(0) })
  const session = await ortExecutor().load(trained)
  const out = await session.run({ input: x })
  assertNear(logits[0]!.view('float32'), out.logits!.view('float32'), 1e-5)
  await Promise.all([runner.dispose(), session.dispose()])
})

test('scales that a foreign file shares or repeats become one for each quantiser', async () => {
  const model = linearModel()
  await pass(model, 'quantize', { ops: ['Gemm'], activationBits: 0 })
  const pair = weightLayers(model.graph)[0]!.quant!
  const twin = model.graph.addInitializer('twin', pair.scale.constant!)
  pair.quantize!.setInput(1, twin)
  const before = cloneModel(model)
  separateScales(model.graph)
  assert.equal(pair.quantize!.inputs[1], pair.dequantize.inputs[1])
  const { model: trained } = await run(before, { maxSteps: 3 })
  assert.ok(weightLayers(trained.graph)[0]!.quant, 'both halves still agree')
})
