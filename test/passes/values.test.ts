/** Values that break arithmetic: NaN and infinity, tensors without elements, scales at the ends of the float types. */
import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { type ElementType, elementTypes } from '../../src/graph/types.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { findPass, runPass as pass, runPass } from '../../src/passes/run-pass.ts'
import { activationScale, Histogram } from '../../src/quant/histogram.ts'
import { fitWeightScales, weightScaleMethods } from '../../src/quant/quantizer.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'
import { train } from '../../src/train/loop/trainer.ts'
import { randomBatches, randomFeeds } from './golden.ts'

const LEVELS = ['disabled', 'basic', 'extended', 'all'] as const

/** conv -> bn -> relu -> add -> pool -> gemm, with an attention-like mask of -Infinity next to the feature map. */
function net(elem: ElementType = 'float32'): Model {
  const rng = new Rng(4)
  const graph = new Graph('net')
  const b = graph.append()
  const constant = (name: string, dims: number[]) =>
    graph.addInitializer(
      name,
      Tensor.from(
        elem,
        dims,
        Float32Array.from({ length: dims.reduce((x, y) => x * y, 1) }, () => rng.uniform(0.1, 1)),
      ),
    )
  const x = graph.addInput('x', { elem, dims: ['N', 3, 6, 6] })
  const conv = b.op('Conv', [x, constant('conv.w', [4, 3, 3, 3]), constant('conv.b', [4])], { pads: [1, 1, 1, 1] })
  const parameters = ['gamma', 'beta', 'mean', 'var'].map((n) => constant(`bn.${n}`, [4]))
  const bn = b.op('BatchNormalization', [conv, ...parameters])
  const relu = b.op('Relu', [bn])
  const other = b.op('Conv', [relu, constant('other.w', [4, 4, 1, 1])])
  const sum = b.op('Add', [relu, other])
  const open = graph.addInitializer('open', Tensor.scalar(Number.POSITIVE_INFINITY, elem))
  const clipped = b.op('Clip', [sum, null, open])
  const mask = graph.addInitializer('mask', Tensor.from(elem, [1, 4, 1, 1], [-Infinity, 0, 0, 0]))
  const masked = b.op('Relu', [b.op('Add', [clipped, mask])])
  const flat = b.op('Flatten', [b.op('GlobalAveragePool', [masked])])
  const y = b.op('Gemm', [flat, constant('fc.w', [4, 5]), constant('fc.b', [5])], {}, { name: 'y' })
  graph.addOutput(y)
  return new Model(graph, 21)
}

const spoilt = (name: string, value: number, at = 1, elem?: ElementType): Model => {
  const model = net(elem)
  const v = model.graph.find(name)!
  const values = Float32Array.from(v.constant!.toFloat32())
  values[at] = value
  v.setConstant(Tensor.from(v.constant!.type, v.constant!.dims, values))
  return model
}

const refusal = (name: string) => (e: unknown) => {
  assert.ok(e instanceof MncError && e.blame === 'model', String(e))
  assert.match(e.describe(), new RegExp(`'${name}'.*--allow-nonfinite`))
  return true
}

const RUNS: Readonly<Record<string, (m: Model, allow: boolean) => Promise<unknown>>> = {
  ...Object.fromEntries(
    ['prune', 'quantize', 'quantize-outputs', 'fold-bn', 'remove-channels'].map((name) => [
      name,
      (m: Model, allowNonfinite: boolean) =>
        pass(m, findPass(name), allowNonfinite ? { allowNonfinite } : {}, { calibration: randomBatches(m, 1) }),
    ]),
  ),
  export: (m, allowNonfinite) => exportModel(m, { allowNonfinite }),
}

for (const [what, run] of Object.entries(RUNS))
  test(`${what} names the parameter that is not finite, and continues where that is allowed`, async () => {
    for (const name of ['conv.w', 'conv.b', 'bn.gamma', 'bn.mean', 'fc.w', 'fc.b'])
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        await assert.rejects(run(spoilt(name, value), false), refusal(name))
        await run(spoilt(name, value), true)
      }
    await run(net(), false)
  })

test('training names the parameter too, of the teacher as well', async () => {
  const options = { maxSteps: 1, batch: 2 }
  const go = (student: Model, teacher: Model) =>
    train(student, { teacher: { model: teacher }, data: 'random', options })
  await assert.rejects(go(spoilt('conv.w', Number.NaN), net()), refusal('conv.w'))
  await assert.rejects(go(net(), spoilt('fc.w', Number.POSITIVE_INFINITY)), refusal('fc.w'))
})

test('masks and quantisers on the way do not hide a weight, nor do Constant nodes, halves and bodies', async () => {
  const chain = spoilt('conv.w', Number.NaN)
  await pass(chain, 'prune', { sparsity: 0.5, allowNonfinite: true })
  await pass(chain, 'quantize', { activationBits: 0, allowNonfinite: true })
  await assert.rejects(pass(chain, 'remove-channels'), refusal('conv.w'))
  await assert.rejects(pass(spoilt('conv.w', Number.NaN, 3, 'float16'), 'prune'), refusal('conv.w'))
  const node = net()
  const fc = node.graph.find('fc.w')!
  const made = node.graph.prepend().op('Constant', [], { value: Tensor.from('float32', [4, 5], Array(20).fill(NaN)) })
  node.graph.replaceUses(fc, made)
  await assert.rejects(pass(node, 'prune'), refusal(made.name))
})

test('calibration data that is not finite is named; if allowed, the other values determine the scale', async () => {
  const model = net()
  const feeds = randomFeeds(model, 5)
  const values = Float32Array.from(feeds.x!.toFloat32())
  values[7] = Number.NaN
  const bad = { x: Tensor.float32(feeds.x!.dims, values) }
  const data = (of: Record<string, Tensor>): CalibrationData => ({
    async *batches() {
      yield randomFeeds(model, 6)
      yield of
    },
  })
  await assert.rejects(runPass(model, 'quantize', {}, { calibration: data(bad) }), refusal('x'))
  await runPass(model, 'quantize', { allowNonfinite: true, firstLayer: 'quantize' }, { calibration: data(bad) })
  for (const v of model.graph.initializers())
    if (v.name.endsWith('.scale'))
      assert.ok(
        v.constant!.toFloat32().every((s) => s > 0 && s < 100),
        v.name,
      )
})

for (const dims of [
  [0, 3],
  [3, 0],
])
  test(`a weight of ${dims.join('x')} is left alone, with the reason, and the file loads`, async () => {
    const graph = new Graph('empty')
    const x = graph.addInput('x', { elem: 'float32', dims: ['N', dims[0]!] })
    const w = graph.addInitializer('w', Tensor.float32(dims, []))
    const v = graph.addInitializer('v', Tensor.float32([dims[1]!, 3], new Float32Array(dims[1]! * 3).fill(0.5)))
    const b = graph.append()
    const y = b.op('MatMul', [b.op('MatMul', [x, w]), v], {}, { name: 'y' })
    graph.addOutput(y)
    const model = new Model(graph, 21)
    const feeds = { x: Tensor.float32([2, dims[0]!], new Float32Array(2 * dims[0]!).fill(1)) }
    for (const name of ['prune', 'quantize', 'export'] as const) {
      const after = cloneModel(model)
      const options = { ops: ['MatMul'] }
      if (name !== 'export') {
        const calibration: CalibrationData = {
          async *batches() {
            yield feeds
          },
        }
        const { declined } = await pass(after, name, options, { calibration })
        assert.ok(declined.some((d) => /its weight has no elements/.test(d.reason)))
      }
      for (const format of ['packed', 'int4', 'int8'] as const)
        for (const m of [after, (await exportModel(after, { format })).model])
          for (const optimization of LEVELS) {
            const session = await ortExecutor().load(m, { optimization, quiet: true })
            const out = await session.run(feeds)
            assert.deepEqual(out.y!.dims, [2, 3])
            assert.ok(out.y!.toFloat32().every((n) => n === 0))
            await session.dispose()
          }
    }
  })

const magnitude = fc.constantFrom(1e-45, 1e-40, 6e-39, 1e-20, 3e-8, 1e-5, 1, 1e4, 6e4, 1e20, 3e38)
const channel = fc.tuple(magnitude, magnitude, fc.nat(1e6)).map(([scale, outlier, seed]) => {
  const rng = new Rng(seed)
  const w = Float32Array.from({ length: 24 }, () => rng.uniform(-1, 1) * scale)
  if (rng.chance(0.5)) w[rng.chance(0.5) ? 0 : 23] = (rng.chance(0.5) ? 1 : -1) * outlier
  return rng.chance(0.1) ? w.fill(0) : w
})

for (const elem of ['float32', 'float16', 'bfloat16'] as const)
  test(`scales in ${elem} are stored as they are used, never 0, infinite or flushed`, () =>
    fc.assert(
      fc.property(channel, fc.constantFrom(2, 3, 4, 8), (raw, bits) => {
        const w = Tensor.from(elem, [24], raw).toFloat32()
        fc.pre(w.every(Number.isFinite))
        const h = new Histogram()
        h.elem = elem
        h.add(w, 'w')
        const steps = [
          ...weightScaleMethods.map((m) => fitWeightScales(w, [1, 24], { axis: 0 }, bits, m, elem)[0]!),
          ...(['mse', 'max', 'percentile', 'entropy'] as const).map((m) =>
            activationScale(h, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, m),
          ),
        ]
        const least = elem === 'float16' ? 2 ** -24 : 2 ** -126
        for (const s of steps) {
          assert.ok(s >= least && Number.isFinite(s), `${s}`)
          assert.equal(Tensor.from(elem, [], [s]).item(), s)
        }
        const ofZeros = steps.map((_, i) => (i < weightScaleMethods.length ? 2 ** -14 : 1))
        if (w.every((x) => x === 0)) assert.deepEqual(steps, ofZeros)
      }),
      { numRuns: 100, seed: 11 },
    ))

test('a quantiser of small float16 weights keeps them: the written scale is the one that was fitted', async () => {
  const model = net('float16')
  const v = model.graph.find('fc.w')!
  // 2e-6: an 8-bit step of 1.6e-8 would be 0 in float16
  const small = Float32Array.from(v.constant!.toFloat32(), (x) => x * 2e-6)
  v.setConstant(Tensor.from('float16', v.constant!.dims, small))
  await pass(model, 'quantize', { ops: ['Gemm'], weightBits: 8, activationBits: 0 })
  const layer = weightLayers(model.graph).find((l) => l.node.op === 'Gemm')!
  const steps = layer.quant!.scale.constant!
  assert.equal(steps.type, 'float16')
  assert.ok(steps.toFloat32().every((s) => s >= 2 ** -24))
  const graph = cloneModel(model)
  graph.graph.addOutput(graph.graph.find(layer.quant!.dequantize.output.name)!)
  const session = await ortExecutor().load(graph, { optimization: 'disabled' })
  const out = (await session.run(randomFeeds(model, 1)))[layer.quant!.dequantize.output.name]!.toFloat32()
  await session.dispose()
  const want = v.constant!.toFloat32()
  out.forEach((x, i) => {
    assert.ok(Math.abs(x - want[i]!) <= 2 ** -25, `${x} for ${want[i]}`)
  })
})

/** x -> conv of weights about `weights` -> batch norm that scales by about `k` -> conv that brings it back to about 1. */
function half(weights: number, k: number, seed: number): Model {
  const rng = new Rng(seed)
  const graph = new Graph('half')
  const b = graph.append()
  const constant = (name: string, dims: number[], size: number) =>
    graph.addInitializer(
      name,
      Tensor.from(
        'float16',
        dims,
        Float64Array.from({ length: dims.reduce((x, y) => x * y, 1) }, () => rng.uniform(0.5, 1) * size),
      ),
    )
  const x = graph.addInput('x', { elem: 'float16', dims: ['N', 3, 4, 4] })
  const conv = b.op('Conv', [x, constant('w', [4, 3, 1, 1], weights)])
  const [gamma, beta] = [constant('gamma', [4], k), constant('beta', [4], k * weights)]
  const [mean, variance] = [constant('mean', [4], weights), constant('variance', [4], 1)]
  const bn = b.op('BatchNormalization', [conv, gamma, beta, mean, variance], {
    epsilon: { kind: 'float', value: 1e-5 },
  })
  const back = b.op('Conv', [bn, constant('v', [2, 4, 1, 1], Math.min(6e4, 1 / (weights * k)))], {}, { name: 'y' })
  graph.addOutput(back)
  return new Model(graph, 17)
}

test('float16: weights that are subnormal or nearly too large, and scales that would make them so, keep their values', async () => {
  for (const [i, [weights, k]] of [
    [3e-7, 1],
    [2e-5, 1e2],
    [1, 1e-4],
    [1, 1e-7],
    [1e-3, 1e-3],
    [5e3, 1],
    [1e3, 10],
    [1, 1],
  ].entries()) {
    const model = half(weights!, k!, i)
    const run = async (m: Model): Promise<Float32Array> => {
      const session = await ortExecutor().load(m, { optimization: 'disabled' })
      const feeds = randomFeeds(model, 3)
      // widened models take float32: the same numbers
      const elem = m.graph.inputs[0]!.type!.elem
      const out = await session.run({ x: Tensor.from(elem, feeds.x!.dims, feeds.x!.toFloat32()) })
      await session.dispose()
      return out.y!.toFloat32()
    }
    const want = await run(model)
    const size = want.reduce((m, x) => Math.max(m, Math.abs(x)), 0)
    const near = async (what: string, m: Model): Promise<void> => {
      const out = await run(m)
      out.forEach((x, j) => {
        assert.ok(Math.abs(x - want[j]!) <= 0.01 * size, `${what}, weights ${weights}, k ${k}: ${x} for ${want[j]}`)
      })
    }
    for (const name of ['fold-bn', 'widen-floats', 'remove-channels', 'fold-constants']) {
      const copy = cloneModel(model)
      await pass(copy, findPass(name))
      await near(name, copy)
    }
    for (const format of ['packed', 'int4', 'int8'] as const)
      await near(format, (await exportModel(model, { format })).model)
    const quantised = cloneModel(model)
    await pass(quantised, 'quantize', { weightBits: 8, activationBits: 0 })
    await near('8 bits', quantised)
    for (const format of ['packed', 'int4', 'int8'] as const)
      await near(`${format} of 8 bits`, (await exportModel(quantised, { format })).model)
  }
})

test('a constant that is cast to float16 and back stays as it was rounded: 0, infinity, subnormal', async () => {
  const graph = new Graph('cast')
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 4] })
  const k = graph.addInitializer('k', Tensor.float32([4], [1e5, 1e-8, 4.4e-8, 0.1]))
  const b = graph.append()
  const narrow = b.op('Cast', [k], { to: elementTypes.float16.code })
  const y = b.op('Mul', [x, b.op('Cast', [narrow], { to: elementTypes.float32.code })], {}, { name: 'y' })
  graph.addOutput(y)
  const model = new Model(graph, 21)
  const widened = cloneModel(model)
  await pass(widened, 'widen-floats')
  for (const m of [model, widened, (await exportModel(model)).model])
    for (const optimization of LEVELS) {
      const session = await ortExecutor().load(m, { optimization })
      const out = await session.run({ x: Tensor.float32([1, 4], [1, 1, 1, 1]) })
      assert.deepEqual([...out.y!.toFloat32()], [Number.POSITIVE_INFINITY, 0, 2 ** -24, 0.0999755859375])
      await session.dispose()
    }
})
