/** Biases and scales of packed files as float16: fewer bytes, and the outputs stay; where they would not, nothing changes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { checkModels } from '../../src/check/check.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { Model } from '../../src/graph/model.ts'
import { Net } from './nets.ts'

/** Biased convolutions, the last one in floats; `offset` is added to the biases of the last but one and taken away behind. */
function net(seed: number, offset = 0): Model {
  const n = new Net(seed, { bits: 4, activationBits: 8 })
  const { b } = n
  let x = n.relu(n.conv(n.act(n.input([4, 8, 6, 6])), 'a', 8, 32, 3, { bias: true }))
  x = n.relu(n.conv(n.act(x), 'b', 32, 48, 3, { bias: true }))
  const bias = b.initializer(
    'c.bias',
    n.floats([64], (u) => offset + u),
  )
  x = b.op('Conv', [n.act(x), n.weight('c', [64, 48, 1, 1], 0), bias], {}, { name: 'c.out' })
  if (offset !== 0) x = b.op('Sub', [x, b.scalar(offset)])
  const last = b.initializer('d', n.floats([10, 64, 1, 1]))
  return n.finish(b.op('Conv', [x, last], {}, { name: 'd.out' }))
}

const largeFloats = (model: Model): number =>
  [...model.graph.initializers()].filter((v) => v.constant!.type === 'float32' && v.constant!.size >= 16).length

test('float16 parameters: a smaller file that computes the same, of which info and another export know the layers', async () => {
  for (const seed of [1, 2, 3]) {
    const graph = net(seed)
    const form = { format: 'packed', shortNames: seed === 1 } as const
    const plain = await exportModel(graph, form)
    const { model, report } = await exportModel(graph, { ...form, halfParameters: true })
    assert.ok(largeFloats(plain.model) >= 6)
    assert.equal(largeFloats(model), 0)
    // 3 biases, 3 scales of channels and a layer of floats: 8 bytes become 4 but for the Casts
    const floats = report.tensors.filter((t) => t.storage === 'float16')
    assert.deepEqual([floats.length, floats[0]!.bytes, floats[0]!.bits], [1, 2 * 640, 16])
    assert.equal(plain.report.weightBytes - report.weightBytes, 2 * 640)
    assert.ok(report.bytes < plain.report.bytes - 1200, `${report.bytes} of ${plain.report.bytes}`)
    const { maxRelError, byOptimisation } = await checkModels(graph, model, { seed: 9 })
    assert.ok(maxRelError < 0.02, JSON.stringify(byOptimisation))
    const widths = async (m: Model) => (await modelInfo(m, { bytes: 0 })).layers.map((l) => [l.weights, l.valueBits])
    assert.deepEqual((await widths(model)).slice(0, 3), (await widths(plain.model)).slice(0, 3))
  }
})

test('where the outputs would move, parameters stay in float32, and the file is the same', async () => {
  const said: string[] = []
  const graph = net(4, 30_000)
  const plain = await exportModel(graph, { format: 'packed' })
  const kept = await exportModel(graph, { format: 'packed', halfParameters: true }, { log: (m) => said.push(m) })
  assert.match(said.join('\n'), /biases and scales stay in float32: as float16 they would move the outputs by \d/)
  assert.equal(largeFloats(kept.model), largeFloats(plain.model))
  // beyond the range of float16 a vector is left out, the others are not
  const large = net(5, 1e6)
  const { model } = await exportModel(large, { format: 'packed', halfParameters: true })
  const bias = [...model.graph.initializers()].find((v) => v.constant!.type === 'float32' && v.constant!.size === 64)
  assert.ok(bias && bias.constant!.toFloat32().every((v) => v > 65504))
  assert.ok([...model.graph.initializers()].some((v) => v.constant!.type === 'float16'))
  await assert.rejects(
    exportModel(graph, { format: 'int8', halfParameters: true }),
    /--half-parameters requires --format packed/,
  )
})
