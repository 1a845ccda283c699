/** correct-bias without data: means that follow from normalisations, against those that are measured. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { limitedMean, normalMeans } from '../../src/quant/normal-means.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

const feeds = (seed: number): Record<string, Tensor> => {
  const rng = new Rng(seed)
  return {
    x: Tensor.float32(
      [64, 3, 6, 6],
      Float32Array.from({ length: 64 * 108 }, () => rng.normal(0.3, 1)),
    ),
  }
}
const calibration = {
  batches: async function* () {
    yield feeds(1)
  },
}

/** Convolutions with normalisations and limits, a residual sum, a Concat and a classifier; statistics are those of the data. */
async function net(seed: number): Promise<Model> {
  const rng = new Rng(seed)
  const graph = new Graph('net')
  const b = graph.append()
  const constant = (dims: readonly number[], at: () => number): Value =>
    graph.addInitializer('c', Tensor.float32(dims, Float32Array.from({ length: dims.reduce((p, d) => p * d, 1) }, at)))
  const block = (x: Value, outs: number, ins: number): Value => {
    const y = b.op('Conv', [x, constant([outs, ins, 1, 1], () => rng.normal())])
    const vectors = [() => rng.uniform(0.5, 2), () => rng.normal(0.5), () => 0, () => 1]
    return b.op('BatchNormalization', [y, ...vectors.map((at) => constant([outs], at))])
  }
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 3, 6, 6] })
  const a = b.op('Relu', [block(x, 8, 3)])
  const limits = [constant([], () => -0.2), constant([], () => 1.5)]
  const c = b.op('Clip', [block(a, 8, 8), ...limits])
  const joined = b.op('Concat', [b.op('Add', [a, c]), c], { axis: 1 })
  const d = b.op('Relu', [block(joined, 8, 16)])
  const flat = b.op('Flatten', [b.op('GlobalAveragePool', [d])])
  graph.addOutput(b.op('Gemm', [flat, constant([8, 5], () => rng.normal())]))
  const model = new Model(graph)
  model.opsets.set('', 17)
  await runPass(model, 'reestimate-bn', {}, { calibration })
  return model
}

async function outputs(model: Model): Promise<Float64Array> {
  const session = await ortExecutor().load(cloneModel(model), { config: { 'session.disable_quant_qdq': '1' } })
  const [y] = Object.values(await session.run(feeds(1)))
  await session.dispose()
  const mean = new Float64Array(5)
  for (const [i, v] of y!.toFloat32().entries()) mean[i % 5]! += v / 64
  return mean
}

const apart = (a: Float64Array, b: Float64Array): number => Math.sqrt(a.reduce((s, v, i) => s + (v - b[i]!) ** 2, 0))

test('mean of a normal variable between limits, against the mean of drawn ones', () => {
  const rng = new Rng(4)
  for (const [m, s, a, b] of [
    [0.5, 2, 0, Number.POSITIVE_INFINITY],
    [-1, 0.5, 0, 6],
    [3, 4, -0.5, 6],
    [1, 1, Number.NEGATIVE_INFINITY, 0],
  ] as const) {
    let sum = 0
    for (let i = 0; i < 200_000; i++) sum += Math.min(Math.max(rng.normal(m, s), a), b)
    assert.ok(Math.abs(limitedMean(m, s, a, b) - sum / 200_000) < 0.015 * s, `${m} ${s} ${a} ${b}`)
  }
  assert.equal(limitedMean(-2, 0, 0, 6), 0)
})

test('means of values follow from the normalisations, folded or not, equalised or not', async () => {
  const model = await net(1)
  const before = await normalMeans(model)
  const folded = cloneModel(model)
  await runPass(folded, 'fold-bn')
  const behind = await normalMeans(folded)
  const relus = (m: Model): string[] => [...m.graph.nodes()].filter((n) => n.op === 'Concat').map((n) => n.output.name)
  const [want, have] = [before(relus(model)[0]!)!, behind(relus(folded)[0]!)!]
  assert.equal(want.length, 16)
  for (const [c, x] of want.entries()) assert.ok(Math.abs(x - have[c]!) < 1e-4, `channel ${c}`)
  const { changed } = await runPass(folded, 'equalize')
  assert.ok(changed)
  const equalized = await normalMeans(folded)
  assert.equal(equalized(relus(folded)[0]!)!.length, 16)
})

for (const chain of [[], ['fold-bn'], ['fold-bn', 'equalize']])
  test(`weights of 3 bits behind ${chain.join(' and ') || 'nothing'}: outputs' means come nearer without data`, async () => {
    let [before, after] = [0, 0]
    for (let seed = 1; seed <= 3; seed++) {
      const model = await net(seed)
      const want = await outputs(model)
      for (const pass of chain) await runPass(model, findPass(pass))
      await runPass(model, 'quantize', {
        ops: ['Conv', 'Gemm'],
        weightBits: 3,
        activationBits: 0,
        firstLayer: 'quantize',
      })
      before += apart(want, await outputs(model))
      const { changed, declined } = await runPass(model, 'correct-bias')
      assert.ok(changed)
      // the first layer reads the input
      assert.equal(declined.length, 1, JSON.stringify(declined))
      after += apart(want, await outputs(model))
      const once = encodeModel(model)
      assert.equal((await runPass(model, 'correct-bias')).changed, false)
      assert.deepEqual(encodeModel(model), once)
    }
    assert.ok(after < 0.7 * before, `${before} before, ${after} now`)
  })

test('without data and normalisations it asks for data', async () => {
  const graph = new Graph('net')
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 2] })
  const w = graph.addInitializer('w', Tensor.float32([2, 2], [1, 2, 3, 4.4]))
  graph.addOutput(graph.append().op('Gemm', [x, w]))
  const model = new Model(graph)
  model.opsets.set('', 17)
  await runPass(model, 'quantize', { ops: ['*'], weightBits: 3, activationBits: 0, firstLayer: 'quantize' })
  await assert.rejects(runPass(model, 'correct-bias'), /needs data/)
})
