/** reestimate-bn: statistics come to those of the data, computed here by onnxruntime and added up in double precision. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { randomBatches } from './golden.ts'

/** Convolutions with normalisations whose statistics are off, a branch, and one of a matrix. */
function net(seed: number): Model {
  const rng = new Rng(seed)
  const graph = new Graph('net')
  const constant = (dims: readonly number[], at: () => number): Value =>
    graph.addInitializer('c', Tensor.float32(dims, Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, at)))
  const b = graph.append()
  const norm = (x: Value, channels: number): Value => {
    const parameters = [
      constant([channels], () => rng.uniform(0.5, 2)),
      constant([channels], () => rng.normal()),
      constant([channels], () => rng.normal(0, 3)),
      constant([channels], () => rng.uniform(0.1, 9)),
    ]
    return b.op('BatchNormalization', [x, ...parameters])
  }
  const conv = (x: Value, outs: number, ins: number): Value =>
    b.op('Conv', [x, constant([outs, ins, 3, 3], () => rng.normal())], { pads: [1, 1, 1, 1] })
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 2, 5, 5] })
  const first = b.op('Relu', [norm(conv(x, 4, 2), 4)])
  const sum = b.op('Add', [norm(conv(first, 4, 4), 4), first])
  const pooled = b.op('Flatten', [b.op('GlobalAveragePool', [sum])])
  graph.addOutput(norm(b.op('Gemm', [pooled, constant([4, 6], () => rng.normal())]), 6))
  const model = new Model(graph)
  model.opsets.set('', 17)
  return model
}

const normsOf = (model: Model) => [...model.graph.nodes()].filter((n) => n.op === 'BatchNormalization')

/** Mean and variance of what each normalisation of the model gets. */
async function statistics(model: Model, batches: number): Promise<{ mean: number; variance: number }[][]> {
  const copy = cloneModel(model)
  const inputs = normsOf(copy).map((n) => n.input(0))
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  for (const v of inputs) copy.graph.addOutput(v)
  const session = await ortExecutor().load(copy, { threads: 1 })
  const seen = inputs.map((): number[][] => [])
  for await (const feeds of randomBatches(model, batches).batches()) {
    const out = await session.run(feeds)
    for (const [k, v] of inputs.entries()) {
      const { dims } = out[v.name]!
      const inner = dims.slice(2).reduce((a, d) => a * d, 1)
      for (const [i, value] of out[v.name]!.toFloat32().entries()) {
        const c = Math.floor(i / inner) % dims[1]!
        seen[k]![c] ??= []
        seen[k]![c]!.push(value)
      }
    }
  }
  await session.dispose()
  return seen.map((channels) =>
    channels.map((values) => {
      const mean = values.reduce((s, v) => s + v, 0) / values.length
      return { mean, variance: values.reduce((s, v) => s + (v - mean) ** 2, 0) / values.length }
    }),
  )
}

test('each normalisation gets the statistics of its input behind those before it', async () => {
  for (const seed of [1, 2, 3]) {
    const model = net(seed)
    const before = cloneModel(model)
    assert.ok((await runPass(model, 'reestimate-bn', {}, { calibration: randomBatches(model, 5) })).changed)
    const want = await statistics(model, 5)
    const off = await statistics(before, 5)
    for (const [k, n] of normsOf(model).entries()) {
      const [mean, variance] = [n.input(3), n.input(4)].map((v) => v.constant!.toFloat32())
      for (const [c, w] of want[k]!.entries()) {
        const deviation = Math.sqrt(w.variance)
        assert.ok(Math.abs(mean![c]! - w.mean) < 1e-4 * deviation, `seed ${seed}, node ${k}, channel ${c}: mean`)
        assert.ok(Math.abs(variance![c]! - w.variance) < 1e-3 * w.variance, `seed ${seed}, node ${k}: variance`)
      }
      if (k > 0) assert.notDeepEqual(off[k], want[k])
    }
    const once = encodeModel(model)
    const again = await runPass(model, 'reestimate-bn', {}, { calibration: randomBatches(model, 5) })
    assert.equal(again.changed, false)
    assert.deepEqual(encodeModel(model), once)
  }
})

test('statistics that two nodes share become their own', async () => {
  const model = net(4)
  const [a, b] = normsOf(model)
  b!.setInput(3, a!.input(3))
  await runPass(model, 'reestimate-bn', {}, { calibration: randomBatches(model, 2) })
  assert.notEqual(normsOf(model)[0]!.input(3), normsOf(model)[1]!.input(3))
})

test('refused behind quantize, declined in training form', async () => {
  const late = net(5)
  const options = { ops: ['Conv'], weightBits: 8, activationBits: 8 }
  await runPass(late, 'quantize', options, { calibration: randomBatches(late, 1) })
  await assert.rejects(runPass(late, 'reestimate-bn', {}, { calibration: randomBatches(late, 1) }), /comes too late/)
  const training = net(6)
  for (const n of normsOf(training)) n.setAttribute('training_mode', 1)
  const { changed, declined } = await runPass(
    training,
    'reestimate-bn',
    {},
    { calibration: randomBatches(training, 1) },
  )
  assert.equal(changed, false)
  assert.equal(declined.length, 3)
  assert.match(declined[0]!.reason, /infer-bn first/)
})
