import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type CheckBatch, checkModels } from '../../src/check/check.ts'
import { compareLayers } from '../../src/check/check-layers.ts'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { Net, noise, smallNet } from '../export/nets.ts'

const r = noise(9)
const feeds = {
  x: Tensor.float32(
    [2, 3, 8, 8],
    Float32Array.from({ length: 384 }, () => 2 * r()),
  ),
}

/** A batch whose labels the reference gets right but for the second. */
async function labelled(): Promise<CheckBatch> {
  const session = await ortExecutor().load(smallNet(1), { optimization: 'disabled' })
  const scores = Object.values(await session.run(feeds))[0]!.toFloat32()
  await session.dispose()
  const best = [0, 1].map((i) => scores.subarray(10 * i, 10 * i + 10)).map((row) => row.indexOf(Math.max(...row)))
  return { feeds, labels: Int32Array.of(best[0]!, (best[1]! + 1) % 10), count: 2 }
}

async function* once(batch: CheckBatch): AsyncGenerator<CheckBatch, void, undefined> {
  yield batch
}

test('a packed model has the accuracy of its reference at both levels', async () => {
  const { model } = await exportModel(smallNet(1))
  const result = await checkModels(smallNet(1), model, { batches: once(await labelled()) })
  assert.equal(result.samples, 2)
  assert.equal(result.random, false)
  assert.deepEqual([result.reference.top1, result.model.top1, result.drop], [0.5, 0.5, 0])
  for (const level of ['disabled', 'all'] as const) {
    assert.equal(result.byOptimisation[level].agreement, 1)
    assert.ok(result.byOptimisation[level].maxRelError < 1e-4)
  }
})

test('a broken model drops, and the first value that differs is the broken layer', async () => {
  const reference = smallNet(1)
  const broken = cloneModel(reference)
  const bias = broken.graph.find('c3.bias')!
  bias.setConstant(Tensor.float32([32], new Float32Array(32).fill(5)))
  const fc = broken.graph.find('fc.bias')!
  const spoilt = new Float32Array(10)
  const batch = await labelled()
  spoilt[[0, 1, 2].find((c) => !batch.labels!.includes(c))!] = 1e3
  fc.setConstant(Tensor.float32([10], spoilt))
  const result = await checkModels(reference, broken, { batches: once(batch) })
  assert.ok(result.drop! > 0, `${result.drop}`)
  assert.ok(result.maxAbsError > 900)
  const layers = await compareLayers(reference, broken, feeds)
  assert.equal(layers.find((l) => l.maxRelError > 1e-4)?.name, 'c3.y')
  assert.equal(layers.find((l) => l.name === 'c2.y')?.sqnr, Number.POSITIVE_INFINITY)
})

test('layers of an exported model are found by name', async () => {
  for (const format of ['packed', 'int4'] as const) {
    const { model } = await exportModel(smallNet(1), { format })
    const layers = await compareLayers(smallNet(1), model, feeds)
    assert.ok(layers.length >= 8, `${layers.length}`)
    for (const l of layers) assert.ok(l.maxRelError < 1e-4, `${format} ${l.name}: ${l.maxRelError}`)
  }
})

test('without data the inputs are random, the same for the same seed, and there is no accuracy', async () => {
  const { model } = await exportModel(smallNet(1))
  const result = await checkModels(smallNet(1), model, { seed: 3 })
  assert.equal(result.random, true)
  assert.deepEqual([result.reference.top1, result.model.top1, result.drop], [null, null, null])
  assert.deepEqual(await checkModels(smallNet(1), model, { seed: 3 }), result)
})

test('models with different inputs are refused', async () => {
  const n = new Net(1)
  n.model.graph.addInput('other', { elem: 'float32', dims: [1, 3] })
  const other = n.finish(n.b.op('Relu', [n.model.graph.find('other')!]))
  await assert.rejects(checkModels(smallNet(1), other), { name: 'MncError', blame: 'user' })
})

test('explain reads the kernels from the graph that onnxruntime makes', async () => {
  const int8 = await explainKernels((await exportModel(smallNet(1), { format: 'int8' })).model)
  assert.ok(int8.ops.QLinearConv! >= 1)
  const kernels = new Map(int8.layers.map((l) => [l.layer, l]))
  // c2 (32 -> 16 channels, float output) takes two kernels
  assert.equal([...kernels.values()].filter((l) => l.kernel === 'QLinearConv').length, int8.ops.QLinearConv! - 1)
  assert.equal(kernels.get('c2.y.high')?.kernel, 'QLinearConv')
  assert.match([...kernels.values()].find((l) => l.op === 'Gemm')!.reason, /input is not quantised/)
  const packed = await explainKernels((await exportModel(smallNet(1))).model)
  assert.deepEqual(packed.unfolded, [])
  assert.ok(packed.layers.every((l) => l.kernel === null))
})

/** The input's negative and next to it a scaled copy, by the names given. */
function twoOutputs(scale: number, names: readonly [string, string] = ['a', 'b']) {
  const n = new Net(1)
  const a = n.b.op('Neg', [n.input([2, 3])], {}, { name: names[0] })
  n.model.graph.addOutput(n.b.op('Mul', [a, n.b.scalar(scale)], {}, { name: names[1] }))
  const [b] = n.model.graph.outputs
  b!.setType({ elem: 'float32', dims: [2, 3] })
  n.model.graph.removeOutput(b!)
  for (const v of [a, b!]) n.model.graph.addOutput(v)
  a.setType({ elem: 'float32', dims: [2, 3] })
  return n.model
}

test('every output is compared', async () => {
  const same = await checkModels(twoOutputs(2), twoOutputs(2))
  assert.deepEqual([same.outputs, same.maxAbsError, same.byOptimisation.all.worstOutput], [['a', 'b'], 0, null])
  const other = await checkModels(twoOutputs(2), twoOutputs(3))
  const { equal, agreement, worstOutput } = other.byOptimisation.all
  assert.deepEqual([equal, agreement, worstOutput], [0, 1, 'b'])
  assert.ok(Math.abs(other.maxRelError - 0.5) < 1e-6)
})

test('models without a name in common have no layers to compare', async () => {
  const x = { x: Tensor.float32([2, 3], new Float32Array(6)) }
  assert.deepEqual(await compareLayers(twoOutputs(2), twoOutputs(2, ['c', 'd']), x), [])
})
