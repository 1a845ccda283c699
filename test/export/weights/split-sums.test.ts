/** Integer convolutions with float outputs, in two exact halves. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { modelInfo } from '../../../src/analysis/model-info.ts'
import { explainKernels } from '../../../src/export/explain.ts'
import { exportModel } from '../../../src/export/export-model.ts'
import type { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { score } from '../../../src/score/score.ts'
import { Net, type NetOptions, noise } from '../nets.ts'

async function run(m: Model, x: Tensor, optimization: 'disabled' | 'all'): Promise<Float32Array> {
  const session = await ortExecutor().load(m, { optimization })
  const out = await session.run({ x })
  await session.dispose()
  return Object.values(out)[0]!.toFloat32()
}

interface Case extends NetOptions {
  readonly into?: number
  readonly out?: number
  readonly k?: number
  readonly bn?: boolean
}

function net({ into = 64, out = 12, k = 3, bn = false, ...options }: Case): Model {
  const n = new Net(5, options)
  const x = n.act(n.relu(n.input([2, into, 6, 6])))
  const y = n.conv(x, 'c', into, out, k, { bias: true })
  if (!bn) return n.finish(y)
  const z = n.bn(y, 'bn', out)
  const scale = n.model.graph.find('bn.scale')!
  scale.setConstant(
    Tensor.float32(
      [out],
      scale.constant!.toFloat32().map((s, i) => (i % 3 ? s : -s)),
    ),
  )
  return n.finish(z)
}

/** Noise, and the extremes: all activations at their largest, and only where a channel's weights are positive. */
function inputs(into: number): Tensor[] {
  const r = noise(2)
  const dims = [2, into, 6, 6]
  const size = 72 * into
  const of = (at: (i: number) => number): Tensor =>
    Tensor.float32(
      dims,
      Float32Array.from({ length: size }, (_, i) => at(i)),
    )
  return [of(() => 2 * r()), of(() => 100), of(() => (r() > 0 ? 100 : -100)), of(() => 0)]
}

async function check(m: Model, into = 64): Promise<{ kernels: (string | null)[]; qlinear: number; model: Model }> {
  const { model } = await exportModel(m, { format: 'int8' })
  for (const x of inputs(into)) {
    const want = await run(m, x, 'disabled')
    const largest = want.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
    for (const level of ['disabled', 'all'] as const) {
      const got = await run(model, x, level)
      for (let i = 0; i < want.length; i++)
        assert.ok(Math.abs(got[i]! - want[i]!) <= 1e-6 * largest, `${level} ${i}: ${got[i]} for ${want[i]}`)
    }
  }
  const { layers, ops } = await explainKernels(model)
  return { kernels: layers.map((l) => l.kernel), qlinear: ops.QLinearConv ?? 0, model }
}

for (const [name, c] of [
  ['W4A4 at 75 %', {}],
  ['negative scales of a normalisation behind it', { bn: true }],
  ['signed activations', { signedActivations: true }],
  ['a multiple of 16 channels', { out: 16 }],
  ['5x5', { k: 5, sparsity: 0.9, into: 48 }],
  ['W2A4', { bits: 2 }],
] as const)
  test(`exact in two integer kernels: ${name}`, async () => {
    const { kernels, qlinear } = await check(net(c), 'into' in c ? c.into : 64)
    assert.deepEqual(kernels, ['QLinearConv'])
    assert.equal(qlinear, 2)
  })

for (const [name, c] of [
  ['1x1', { k: 1 }],
  ['as many channels out as in', { out: 64 }],
  ['sums that leave the two halves', { sparsity: 0, into: 256 }],
  ['8-bit weights', { bits: 8 }],
] as const)
  test(`left to the float kernel: ${name}`, async () => {
    const { kernels, qlinear } = await check(net(c), 'into' in c ? c.into : 64)
    assert.deepEqual([kernels, qlinear], [[null], 0])
  })

test('packed weights give the same; layers and score do not count the second half', async () => {
  const source = net({ out: 16 })
  const { model } = await exportModel(source, { format: 'int8', packedWeights: true })
  const [x] = inputs(64)
  const [want, got] = [await run(source, x!, 'disabled'), await run(model, x!, 'all')]
  for (let i = 0; i < want.length; i++) assert.ok(Math.abs(got[i]! - want[i]!) < 1e-5, `${i}`)
  const facts = async (m: Model) =>
    (await modelInfo(m)).layers.map((l) => [l.op, l.shape, l.sparsity, l.activationBits])
  assert.deepEqual(await facts(model), await facts(source))
  const conv = async (m: Model) => {
    const [l] = (await score(m)).layers.filter((r) => r.op === 'Conv')
    return [l!.mults, l!.adds.adderTree, l!.nonZeros, l!.weightBits, l!.activationBits]
  }
  const [a, b] = [await conv(source), await conv(model)]
  assert.deepEqual([b![0], b![2], b![3], b![4]], [a![0], a![2], a![3], a![4]])
})
