/** split-outliers: the same outputs, rows whose step is that of the other weights, and a quantised net that is nearer. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

const [INS, OUTS] = [12, 6]

interface Form {
  readonly op: string
  readonly input: readonly (number | string)[]
  readonly weight: readonly number[]
  /** Where the weight of an output and an input channel begins, and how far apart its elements are. */
  readonly at: (o: number, i: number) => number
  readonly attributes?: Readonly<Record<string, AttributeLike>>
}

const forms: Readonly<Record<string, Form>> = {
  Conv: { op: 'Conv', input: ['N', INS, 5, 5], weight: [OUTS, INS, 3, 3], at: (o, i) => (o * INS + i) * 9 + 4 },
  ConvTranspose: {
    ...{ op: 'ConvTranspose', input: ['N', INS, 4, 4], weight: [INS, OUTS, 2, 2], at: (o, i) => (i * OUTS + o) * 4 },
    attributes: { strides: [2, 2] },
  },
  Gemm: { op: 'Gemm', input: ['N', INS], weight: [INS, OUTS], at: (o, i) => i * OUTS + o },
  'Gemm of rows': {
    ...{ op: 'Gemm', input: ['N', INS], weight: [OUTS, INS], at: (o, i) => o * INS + i, attributes: { transB: 1 } },
  },
  MatMul: { op: 'MatMul', input: ['N', 3, INS], weight: [INS, OUTS], at: (o, i) => i * OUTS + o },
}

function net(
  { op, input, weight, at, attributes = {} }: Form,
  outliers: readonly (readonly [number, number, number])[],
): Model {
  const rng = new Rng(3)
  const values = Float32Array.from({ length: weight.reduce((a, b) => a * b, 1) }, () => rng.uniform(-1, 1))
  for (const [o, i, w] of outliers) values[at(o, i)] = w
  const graph = new Graph('net')
  const x: Value = graph.addInput('x', { elem: 'float32', dims: input })
  graph.addOutput(graph.append().op(op, [x, graph.addInitializer('w', Tensor.float32(weight, values))], attributes))
  const model = new Model(graph)
  model.opsets.set('', 17)
  return model
}

const quantizedError = async (model: Model, float: Model): Promise<number> => {
  const q = cloneModel(model)
  const options = { ops: ['*'], weightBits: 4, activationBits: 0, firstLayer: 'quantize', weightScale: 'max' } as const
  await runPass(q, 'quantize', options, { calibration: randomBatches(q, 1) })
  return relativeError(await runModel(float), await runModel(q))
}

for (const [name, form] of Object.entries(forms))
  test(`${name}: one huge weight is split exactly`, async () => {
    const model = net(form, [[2, 5, -7.3]])
    const float = cloneModel(model)
    const { changed, declined } = await runPass(model, 'split-outliers', {})
    assert.ok(changed, JSON.stringify(declined))
    const error = relativeError(await runModel(float), await runModel(model))
    assert.ok(error < 1e-6, `outputs differ by ${error}`)
    const [layer] = weightLayers(model.graph)
    assert.equal(layer!.tensor.dims[layer!.inputAxis!], INS + 1)
    const largest = layer!.tensor.toFloat32().reduce((m, w) => Math.max(m, Math.abs(w)), 0)
    assert.ok(Math.abs(largest - 7.3 / 2) < 0.05, `${largest}`)
    const once = encodeModel(model)
    assert.equal((await runPass(model, 'split-outliers', {})).changed, false)
    assert.deepEqual(encodeModel(model), once)
  })

test('as many parts as the growth leaves; sums of them are the weight to the bit, other rows keep theirs', async () => {
  const form = forms.Gemm!
  const model = net(form, [
    [0, 1, 30],
    [3, 7, 4.5],
    [4, 7, -0.125],
  ])
  const before = weightLayers(model.graph)[0]!.tensor.toFloat32()
  const float = cloneModel(model)
  assert.ok((await runPass(model, 'split-outliers', { growth: 0.75 })).changed)
  assert.ok(relativeError(await runModel(float), await runModel(model)) < 1e-6)
  const after = weightLayers(model.graph)[0]!.tensor
  const now = after.toFloat32()
  const copies = [...model.graph.nodes()].find((n) => n.op === 'Gather')!
  const added = Array.from(copies.input(1).constant!.toNumbers())
  const channelOf = (c: number): number => (c < INS ? c : added[c - INS]!)
  const sums = new Float64Array(before.length)
  for (const [k, w] of now.entries()) sums[channelOf(Math.floor(k / OUTS)) * OUTS + (k % OUTS)]! += w
  assert.deepEqual(Float32Array.from(sums), before)
  assert.ok(sums.every((s, i) => s === before[i]))
  assert.deepEqual(
    added.toSorted((a, b) => a - b),
    [1, 1, 1, 1, 1, 1, 1, 7],
  )
  // the row that has no huge weight in channel 7 keeps it in one piece
  assert.equal(now[7 * OUTS + 4], -0.125)
  for (const [c, i] of added.entries()) if (i === 7) assert.equal(now[(INS + c) * OUTS + 4], 0)
})

test('4-bit weights come nearer', async () => {
  const outliers = Array.from({ length: OUTS }, (_, o) => [o, 5, o % 2 === 0 ? 6 : -6] as const)
  const model = net(forms.MatMul!, outliers)
  const float = cloneModel(model)
  await runPass(model, 'split-outliers', { growth: 0.6, weightBits: 4 })
  const [before, after] = [await quantizedError(float, float), await quantizedError(model, float)]
  assert.ok(after < 0.5 * before, `${before} before, ${after} now`)
})

test('nothing that stands out, groups, shared weights', async () => {
  const even = net(forms.Conv!, [])
  assert.equal((await runPass(even, 'split-outliers', {})).changed, false)
  const grouped = net({ ...forms.Conv!, input: ['N', 2 * INS, 5, 5], attributes: { group: 2 } }, [[2, 5, 9]])
  const { changed, declined } = await runPass(grouped, 'split-outliers', {})
  assert.equal(changed, false)
  assert.match(declined[0]!.reason, /groups/)
})
