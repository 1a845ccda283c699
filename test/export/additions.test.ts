/** Residual connections in 8 bits: the pass, what an export turns it into, and 4- next to 8-bit activations. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { quantPairOf } from '../../src/layers/quant-pair.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { Net, noise } from './nets.ts'

/** Two residual blocks of W4A4 convolutions with biases. */
function residual(): Model {
  const n = new Net(8)
  const x = n.input([2, 16, 8, 8])
  let r = n.relu(n.conv(n.act(n.relu(x)), 'stem', 16, 16, 3))
  for (const k of [1, 2]) {
    const a = n.relu(n.conv(n.act(r), `a${k}`, 16, 16, 3, { bias: true }))
    const b = n.conv(n.act(a), `b${k}`, 16, 16, 3, { bias: true })
    r = n.relu(n.b.op('Add', [b, r]))
  }
  return n.finish(n.conv(n.act(r), 'last', 16, 8, 1))
}

function image(seed: number): Tensor {
  const r = noise(seed)
  return Tensor.float32(
    [2, 16, 8, 8],
    Float32Array.from({ length: 2048 }, () => 2 * r()),
  )
}

const calibration = {
  async *batches() {
    yield { x: image(1) }
  },
}

async function run(m: Model, optimization: 'disabled' | 'all'): Promise<Float32Array> {
  const session = await ortExecutor().load(m, { optimization })
  const out = await session.run({ x: image(2) })
  await session.dispose()
  return Object.values(out)[0]!.toFloat32()
}

const activationTypes = (m: Model): string[] =>
  [...m.graph.nodes()].flatMap((n) => {
    const pair = quantPairOf(n)
    return pair?.quantize && pair.axis === null ? [`${pair.container} ${pair.bits}`] : []
  })

test('every layer and every addition of a residual network becomes an integer kernel', async () => {
  const m = residual()
  const before = (await explainKernels((await exportModel(m, { format: 'int8' })).model)).layers
  assert.equal(before.filter((l) => l.kernel).length, 2, 'without the pass: only the first of each block')
  await runPass(m, 'quantize-additions', {}, { calibration })
  const want = await run(m, 'disabled')
  const largest = want.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
  for (const [format, tolerance] of [
    ['packed', 1e-4],
    ['int8', 0.05], // sums in 8 bits leave no room for an exact integer bias: a step here and there
  ] as const) {
    const { model } = await exportModel(m, { format })
    for (const level of ['disabled', 'all'] as const) {
      const got = await run(model, level)
      const mean = want.reduce((s, v, i) => s + Math.abs(v - got[i]!), 0) / want.length
      assert.ok(mean <= tolerance * largest, `${format}, ${level}: ${mean} of ${largest}`)
    }
    if (format === 'packed') continue
    const { layers, ops } = await explainKernels(model)
    assert.deepEqual(
      layers.map((l) => l.kernel !== null),
      // what the stem gives is rounded twice, to 4 bits for the layer behind and to 8 for the sum; the last gives floats
      [false, true, true, true, true, false],
    )
    // two sums, which two layers read with another step
    assert.equal(ops.QLinearAdd, 4)
  }
})

test('8-bit activations next to 4-bit ones: the latter get 8-bit containers, widths stay', async () => {
  const m = residual()
  assert.ok(activationTypes(m).every((t) => t === 'uint4 4'))
  await runPass(m, 'quantize-additions', {}, { calibration })
  const types = activationTypes(m)
  assert.ok(
    types.every((t) => !/^u?int4/.test(t)),
    types.join(),
  )
  assert.equal(types.filter((t) => t === 'uint8 4').length, 6)
  assert.equal(types.filter((t) => t.endsWith(' 8')).length, types.length - 6)
  const alone = residual()
  await assert.rejects(runPass(alone, 'quantize-additions'), { blame: 'user', message: /needs data/ })
})

test('layers of different activation widths in one graph compute what each alone does', async () => {
  const n = new Net(3, { bits: 32, sparsity: 0, activationBits: 32 })
  const x = n.input([2, 16, 8, 8])
  const a = n.relu(n.conv(x, 'a', 16, 16, 3))
  const m = n.finish(n.conv(n.relu(n.conv(n.relu(n.conv(a, 'b', 16, 16, 3)), 'c', 16, 16, 3)), 'd', 16, 16, 3))
  await runPass(m, 'quantize', { layerActivationBits: { 'c.y': 8 } }, { calibration })
  assert.deepEqual(activationTypes(m), ['uint8 4', 'uint8 8', 'uint8 4'])
  const want = await run(m, 'disabled')
  const largest = want.reduce((s, v) => Math.max(s, Math.abs(v)), 0)
  for (const format of ['packed', 'int4'] as const) {
    const { model } = await exportModel(m, { format })
    for (const level of ['disabled', 'all'] as const) {
      const got = await run(model, level)
      for (let i = 0; i < want.length; i++)
        assert.ok(Math.abs(want[i]! - got[i]!) <= 1e-4 * largest, `${format}, ${level}, ${i}`)
    }
  }
})
