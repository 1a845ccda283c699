/** Numbers of channels that integer kernels are quick with, and pools between them: the same levels as without. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { ExportOptions } from '../../src/export/export-options.ts'
import type { Node, Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { score } from '../../src/score/score.ts'
import { Net, noise } from './nets.ts'

const FLOAT = { bits: 32, sparsity: 0, activationBits: 32 } as const

function image(seed: number, channels = 3): Tensor {
  const r = noise(seed)
  return Tensor.float32(
    [2, channels, 12, 12],
    Float32Array.from({ length: 288 * channels }, () => 2 * r()),
  )
}

async function run(m: Model, optimization: 'disabled' | 'all'): Promise<Float32Array[]> {
  const session = await ortExecutor().load(m, { optimization })
  const out = await session.run({ x: image(2, m.graph.inputs[0]!.dims[1]) })
  await session.dispose()
  return Object.values(out).map((t) => t.toFloat32())
}

async function quantised(m: Model, firstLayer: 'quantize' | 'skip-input' = 'quantize'): Promise<Model> {
  const calibration = {
    async *batches() {
      yield { x: image(1, m.graph.inputs[0]!.dims[1]) }
    },
  }
  await runPass(m, 'quantize', { weightBits: 8, activationBits: 8, ops: ['*'], firstLayer }, { calibration })
  await runPass(m, 'quantize-outputs', {}, { calibration })
  return m
}

/** What is expected of a file of this network: the graph's numbers, single levels apart. */
async function assertSame(m: Model, source: Model): Promise<void> {
  const want = await run(source, 'disabled')
  for (const level of ['disabled', 'all'] as const)
    for (const [i, got] of (await run(m, level)).entries()) {
      const largest = want[i]!.reduce((a, v) => Math.max(a, Math.abs(v)), 0)
      const mean = want[i]!.reduce((s, v, k) => s + Math.abs(v - got[k]!), 0) / got.length
      assert.ok(largest > 0.01 && mean <= 0.012 * largest, `${level}, output ${i}: ${mean} of ${largest}`)
    }
}

const int8 = async (m: Model, o: ExportOptions = {}): Promise<Model> =>
  (await exportModel(m, { format: 'int8', ...o })).model

/** [out, in of a group] of the integer convolutions, in order. */
function widths(m: Model): string[] {
  const integers = (n: Node): Tensor | null => n.input(1).producer?.input(0).constant ?? null
  return [...m.graph.nodes()].flatMap((n) => {
    const w = n.op === 'Conv' && n.input(0).producer?.op === 'DequantizeLinear' ? integers(n) : null
    return w && /^u?int8$/.test(w.type) ? [`${w.dims[0]} ${w.dims[1]}`] : []
  })
}

/** Stem, depthwise, an excited sum; two growths that Concat joins; a classifier. Of `width` and 2 `width` channels. */
function odd(width: number, growth: number): Model {
  const n = new Net(7, FLOAT)
  const { b } = n
  const x = n.input([2, 3, 12, 12])
  const relu = (v: Value): Value => n.relu(v)
  const stem = relu(n.conv(x, 'stem', 3, width, 3, { bias: true, stride: 2 }))
  const wide = relu(n.conv(stem, 'wide', width, 2 * width, 1, { bias: true }))
  const deep = relu(n.conv(wide, 'deep', 2 * width, 2 * width, 3, { group: 2 * width }))
  const narrow = n.conv(deep, 'narrow', 2 * width, width, 1)
  const gate = b.op('Sigmoid', [n.conv(b.op('GlobalAveragePool', [narrow]), 'e', width, width, 1)])
  let all = b.op('Add', [b.op('Mul', [narrow, gate]), stem])
  for (const k of [0, 1])
    all = b.op('Concat', [all, relu(n.conv(all, `g${k}`, width + k * growth, growth, 3))], { axis: 1 })
  const last = relu(n.bn(all, 'bn', width + 2 * growth))
  const mixed = relu(n.conv(last, 'mix', width + 2 * growth, 20, 1))
  const flat = b.op('Flatten', [b.op('GlobalAveragePool', [mixed])])
  return n.finish(b.op('Gemm', [flat, n.weight('fc', [10, 20], 0)], { transB: 1 }, { name: 'logits' }))
}

test('channels are rounded up to 16, through sums, gates and Concat; an image has four', async () => {
  const source = await quantised(odd(20, 12))
  const m = await int8(source)
  // stem, wide, deep, narrow, e, g0, g1, the normalisation, mix
  assert.deepEqual(widths(m), ['32 4', '48 32', '48 1', '32 48', '32 32', '16 32', '16 48', '64 1', '32 64'])
  await assertSame(m, source)
  const macs = async (x: Model): Promise<number[]> =>
    (await score(x)).layers.flatMap((l) => (l.macs > 0 && l.op !== 'Gemm' ? [l.macs] : []))
  const layers = (await macs(m)).filter((_, i) => i !== 7)
  assert.deepEqual(layers, await macs(source), 'the score is that of the network')
  // a Gather takes the classifier's channels
  assert.equal([...m.graph.nodes()].filter((n) => n.op === 'Gather').length, 1)
})

test('weights that the file decodes are rounded up when it is loaded', async () => {
  const source = await quantised(odd(20, 12))
  const [plain, packed] = [await int8(source), await int8(source, { packedWeights: true })]
  assert.deepEqual(await run(packed, 'all'), await run(plain, 'all'))
  const { layers } = await explainKernels(packed)
  assert.ok(layers.every((l) => l.kernel || l.op === 'Gemm'))
})

test('numbers that fit, few channels, and those that something else reads stay', async () => {
  for (const [width, growth, want] of [
    [16, 16, ['16 4', '32 16', '32 1', '16 32', '16 16', '16 16', '16 32', '48 1', '32 48']],
    [6, 4, ['6 4', '16 6', '16 1', '6 16', '6 6', '4 6', '4 10', '14 1', '32 14']],
  ] as const) {
    const source = await quantised(odd(width, growth))
    const m = await int8(source)
    assert.deepEqual(widths(m), want)
    await assertSame(m, source)
  }
  const source = await quantised(odd(20, 12))
  const wide = source.graph.find('wide.y')!
  source.graph.addOutput([...wide.uses][0]!.output)
  const m = await int8(source)
  assert.deepEqual(widths(m).slice(1, 3), ['40 32', '40 1'], 'an output of the file has its own channels')
  await assertSame(m, source)
})

/** Convolution, pool, convolution, mean: a classifier without a layer at its end. */
function pooled(last: number): Model {
  const n = new Net(9, FLOAT)
  const x = n.input([2, 3, 12, 12])
  const pool = { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 }
  const a = n.b.op('MaxPool', [n.relu(n.conv(x, 'a', 3, 16, 3, { bias: true }))], pool)
  const c = n.b.op('MaxPool', [n.relu(n.conv(a, 'c', 16, 32, 3, { bias: true }))], pool)
  const e = n.relu(n.conv(c, 'e', 32, last, 1, { bias: true }))
  const y = n.b.op('GlobalAveragePool', [e])
  return n.finish(n.b.op('Softmax', [n.b.op('Flatten', [y])], { axis: 1 }))
}

test('pools between integer layers are pools of bytes', async () => {
  const source = await quantised(pooled(16))
  const m = await int8(source)
  await assertSame(m, source)
  const { layers, ops } = await explainKernels(m)
  assert.deepEqual(
    layers.map((l) => l.kernel),
    ['QLinearConv', 'QLinearConv', null],
    'few positions are averaged: the last stays in floats',
  )
  assert.deepEqual([ops.NhwcMaxPool, ops.MaxPool], [2, undefined])
})

test('a pool behind a float layer stays with it', async () => {
  const source = await quantised(pooled(16), 'skip-input')
  const m = await int8(source)
  await assertSame(m, source)
  const { ops } = await explainKernels(m)
  assert.deepEqual([ops.NhwcMaxPool, ops.MaxPool], [1, 1])
  const pool = [...m.graph.nodes()].find((n) => n.op === 'MaxPool')!
  assert.equal(pool.input(0).producer!.op, 'Relu', 'no quantiser in front of it')
})
