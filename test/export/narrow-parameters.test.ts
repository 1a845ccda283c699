/** Biases and scales of packed files in 16 or 24 bits: fewer bytes, and the outputs stay; where they would not, nothing changes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { checkModels } from '../../src/check/check.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { Net } from './nets.ts'

const WIDE = 256

/** Biased convolutions, the last one in floats; one channel of the last but one is switched off by a bias of `-offset`. Outputs that are not steady the last place of any parameter turns into others. */
function net(seed: number, offset = 0, isSteady = true): Model {
  const n = new Net(seed, { bits: 4, activationBits: 8 })
  const { b } = n
  let x = n.relu(n.conv(n.act(n.input([4, 8, 6, 6])), 'a', 8, 32, 3, { bias: true }))
  x = n.relu(n.conv(n.act(x), 'b', 32, 48, 3, { bias: true }))
  const biases = Float32Array.from({ length: WIDE }, (_, i) => (i === 0 ? -offset : Math.sin(i)))
  const bias = b.initializer('c.bias', Tensor.float32([WIDE], biases))
  x = n.relu(b.op('Conv', [n.act(x), n.weight('c', [WIDE, 48, 1, 1], 0), bias], {}, { name: 'c.out' }))
  const last = b.initializer('d', n.floats([10, WIDE, 1, 1]))
  const y = b.op('Conv', [x, last], {}, { name: 'd.out' })
  return n.finish(isSteady ? y : b.op('Sin', [b.op('Mul', [y, b.scalar(1e7)])]))
}

const largeFloats = (model: Model): number =>
  [...model.graph.initializers()].filter((v) => v.constant!.type === 'float32' && v.constant!.size >= 16).length

test('parameters of 16 bits: a smaller file that computes the same, of which info and another export know the layers', async () => {
  for (const seed of [1, 2, 3]) {
    const graph = net(seed)
    const form = { format: 'packed', shortNames: seed === 1 } as const
    const plain = await exportModel(graph, form)
    const { model, report } = await exportModel(graph, { ...form, halfParameters: true })
    assert.ok(largeFloats(plain.model) >= 6)
    assert.equal(largeFloats(model), 0)
    // 3 biases, 3 scales of channels and a layer of floats: 8 bytes become 4 but for what widens them
    const floats = report.tensors.filter((t) => t.storage === 'fixed16')
    assert.deepEqual([floats.length, floats[0]!.bytes, floats[0]!.bits], [1, 20 * WIDE, 16])
    assert.equal(plain.report.weightBytes - report.weightBytes, 20 * WIDE)
    assert.ok(report.bytes < plain.report.bytes - 20 * WIDE, `${report.bytes} of ${plain.report.bytes}`)
    const { maxRelError, byOptimisation } = await checkModels(graph, model, { seed: 9 })
    assert.ok(maxRelError < 0.02, JSON.stringify(byOptimisation))
    const widths = async (m: Model) => (await modelInfo(m, { bytes: 0 })).layers.map((l) => [l.weights, l.valueBits])
    assert.deepEqual((await widths(model)).slice(0, 3), (await widths(plain.model)).slice(0, 3))
  }
})

test('where 16 bits would move the outputs they are 24; where these would too, the file is the same', async () => {
  const said: string[] = []
  const context = { log: (m: string) => said.push(m) }
  const exported = (graph: Model, halfParameters: boolean) =>
    exportModel(graph, { format: 'packed', halfParameters }, context)
  const types = (model: Model) => new Set([...model.graph.initializers()].map((v) => v.constant!.type))
  const far = net(4, 1e5)
  const [plain, finer] = [await exported(far, false), await exported(far, true)]
  assert.deepEqual(said, [])
  assert.ok(largeFloats(finer.model) < largeFloats(plain.model))
  assert.ok(finer.report.tensors.some((t) => t.storage === 'fixed24' && t.bytes === 3 * t.elements))
  assert.ok(types(finer.model).has('int16') && finer.report.bytes < plain.report.bytes - 300)
  const { maxRelError } = await checkModels(far, finer.model, { seed: 9 })
  assert.ok(maxRelError < 0.02, `${maxRelError}`)

  const farther = net(4, 3e8)
  const [as, kept] = [await exported(farther, false), await exported(farther, true)]
  assert.match(said.join('\n'), /biases and scales stay in float32: in 24 bits they would move the outputs by \d/)
  assert.equal(largeFloats(kept.model), largeFloats(as.model))
  assert.ok(!types(kept.model).has('int16'))

  // what the last place of the parameters changes altogether says nothing about fewer of them
  const unsteady = await exported(net(4, 0, false), true)
  assert.ok(unsteady.report.tensors.some((t) => t.storage === 'fixed16'))
  await assert.rejects(
    exportModel(farther, { format: 'int8', halfParameters: true }),
    /--half-parameters requires --format packed/,
  )
})
