/** What an int8 file keeps of the levels of its graph: biases that do not fit 32 bits, and the layers that it names. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../../src/base/rng.ts'
import { exportModel } from '../../../src/export/export-model.ts'
import type { ExportOptions } from '../../../src/export/export-options.ts'
import type { Model } from '../../../src/graph/model.ts'
import { Tensor } from '../../../src/graph/tensor.ts'
import { runPass } from '../../../src/passes/run-pass.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { randomBatches, randomFeeds, relativeError } from '../../passes/golden.ts'
import { randomGraph } from '../../support/random-graph.ts'
import { Net } from '../nets.ts'

type Level = 'disabled' | 'basic' | 'extended' | 'all'
const LEVELS: readonly Level[] = ['disabled', 'basic', 'extended', 'all']

async function outputs(model: Model, optimization: Level) {
  const session = await ortExecutor().load(model, { optimization, threads: 1 })
  try {
    return await session.run(randomFeeds(model, 1))
  } finally {
    await session.dispose()
  }
}

/** Largest error of the exported file over all levels, and what it names. */
async function exported(source: Model, options: ExportOptions): Promise<{ error: number; named: string }> {
  const want = await outputs(source, 'disabled')
  const { model, report } = await exportModel(source, options)
  let error = 0
  for (const level of LEVELS) error = Math.max(error, relativeError(want, await outputs(model, level)))
  return { error, named: report.inexact.map((l) => `${l.layer}: ${l.reason}`).join('\n') }
}

const FORMS: readonly ExportOptions[] = [{ format: 'int8' }, { format: 'int8', packedWeights: true }]

/** Two layers, the first with some channels of weights of `size` and biases of `bias`. */
function tinyChannels(op: 'Conv' | 'Gemm', size: number, bias: number, seed = 3): Model {
  const n = new Net(seed, { sparsity: 0, bits: 32, activationBits: 32 })
  const rng = new Rng(seed)
  const conv = op === 'Conv'
  const x = n.input(conv ? [3, 8, 5, 5] : [3, 16])
  const first = conv
    ? n.conv(x, 'first', 8, 8, 3, { bias: true })
    : n.b.op(op, [x, n.weight('first', [8, 16], 0), n.b.initializer('first.bias', n.floats([8]))], { transB: 1 })
  const w = n.model.graph.find('first')!
  const inner = w.constant!.size / 8
  w.setConstant(
    Tensor.float32(
      w.constant!.dims,
      w.constant!.toFloat32().map((v, i) => (Math.floor(i / inner) % 3 === 0 ? v * size : v)),
    ),
  )
  const b = n.model.graph.find('first.bias')!
  b.setConstant(
    Tensor.float32(
      [8],
      b.constant!.toFloat32().map((v, c) => (c % 3 === 0 ? bias * (1 + rng.uniform()) : v)),
    ),
  )
  const r = n.relu(first)
  return n.finish(conv ? n.conv(r, 'second', 8, 4, 1) : n.b.op(op, [r, n.weight('second', [4, 8], 0)], { transB: 1 }))
}

for (const [weightBits, activationBits, tolerance] of [
  [8, 8, 0.02],
  [4, 4, 1e-4],
  [4, 8, 0.02],
] as const)
  test(`W${weightBits}A${activationBits}: a bias beyond 32 bits at its channel's scale is preserved`, async () => {
    for (const op of ['Conv', 'Gemm'] as const)
      for (const size of [1e-4, 1e-8, 1e-12, 0])
        for (const bias of [1.5, -2, 1e4]) {
          const model = tinyChannels(op, size, bias)
          const options = { ops: [op], weightBits, activationBits, firstLayer: 'quantize', calibration: 'max' } as const
          await runPass(model, 'quantize', options, { calibration: randomBatches(model, 1) })
          for (const form of FORMS) {
            const { error, named } = await exported(model, form)
            const what = `${op}, weights ${size}, bias ${bias}, ${JSON.stringify(form)}: ${error}`
            assert.ok(error <= tolerance, what)
            // where levels are not the graph's, the layer is named
            assert.ok(
              error <= 1e-4 || named.includes('channels have no integer bias that keeps all 256 levels exact'),
              what,
            )
            if (size === 1e-12)
              assert.match(named, /3 of 8 channels have a bias that exceeds 32 bits at their scale/, what)
          }
        }
  })

test('4-bit random models: the levels of the graph at every optimisation level, or a layer is named', async () => {
  let quantised = 0
  for (let seed = 300; seed < 316; seed++) {
    const model = randomGraph(seed)
    const options = {
      ops: ['Conv', 'ConvTranspose', 'Gemm', 'MatMul'],
      firstLayer: 'quantize',
      calibration: 'max',
    } as const
    await runPass(model, 'quantize', options, { calibration: randomBatches(model, 1) })
    for (const form of FORMS) {
      const { error, named } = await exported(model, form)
      assert.ok(error <= 1e-3 || named !== '', `seed ${seed}: ${error}`)
      assert.ok(error <= 0.25, `seed ${seed}: ${error}, ${named}`)
    }
    quantised++
  }
  assert.equal(quantised, 16)
})

test('int8 activations of other tools, moved across pools and reshapes, load in every format at every level', async () => {
  const n = new Net(5, { sparsity: 0, bits: 8, activationBits: 8, signedActivations: true })
  const x = n.act(n.input([2, 8, 6, 6]), 0.02)
  const pooled = n.b.op('MaxPool', [n.conv(x, 'a', 8, 8, 3, { bias: true })], { kernel_shape: [2, 2], strides: [2, 2] })
  const turned = n.b.op('Transpose', [n.act(pooled, 0.05)], { perm: [0, 1, 3, 2] })
  const y = n.conv(n.act(turned, 0.05), 'b', 8, 4, 1)
  const source = n.finish(n.b.op('Reshape', [n.act(y, 0.1), n.b.ints([2, -1])]))
  for (const format of ['packed', 'int4', 'int8'] as const) {
    const { error } = await exported(source, { format })
    assert.ok(error < 0.03, `${format}: ${error}`)
  }
})
