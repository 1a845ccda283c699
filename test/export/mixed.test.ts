/** int8 files with layers in floats (`--mixed`): which they are, and that the others compute what the graph says. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { Net, noise } from './nets.ts'

const FLOAT = { bits: 32, sparsity: 0, activationBits: 32 } as const
const SIDE = 64

function image(seed: number): Tensor {
  const r = noise(seed)
  return Tensor.float32(
    [1, 3, SIDE, SIDE],
    Float32Array.from({ length: 3 * SIDE * SIDE }, () => 2 * r()),
  )
}

const calibration = {
  async *batches() {
    yield { x: image(1) }
  },
}

async function run(m: Model, optimization: 'disabled' | 'all' = 'disabled'): Promise<Float32Array[]> {
  const session = await ortExecutor().load(m, { optimization })
  const out = await session.run({ x: image(2) })
  await session.dispose()
  return Object.values(out).map((t) => t.toFloat32())
}

/** A detector: 64 x 64 to 8 x 8, a sum, and two ends of two scores and four numbers for each position. */
function detector(): Model {
  const n = new Net(11, FLOAT)
  const { b } = n
  const x = n.input([1, 3, SIDE, SIDE])
  const a = n.relu(n.conv(x, 'large', 3, 16, 3, { bias: true }))
  const c = n.relu(n.conv(a, 'larger', 16, 16, 3, { group: 16, bias: true, stride: 2 }))
  const d = n.relu(n.conv(c, 'middle', 16, 32, 1, { bias: true, stride: 2 }))
  const e = n.relu(n.conv(d, 'small', 32, 32, 3, { bias: true, stride: 2 }))
  const sum = b.op('Add', [n.conv(e, 'smaller', 32, 32, 1), e])
  const end = (name: string, channels: number) => {
    const deep = n.relu(n.conv(sum, `${name}.deep`, 32, 32, 3, { group: 32, bias: true }))
    const y = b.op('Transpose', [n.conv(deep, name, 32, channels, 1, { bias: true })], { perm: [0, 2, 3, 1] })
    return b.op('Reshape', [y, b.ints([1, -1, channels])])
  }
  const boxes = end('boxes', 4)
  n.finish(b.op('Softmax', [end('scores', 2)], { axis: 2 }))
  return n.finish(boxes)
}

async function quantised(m: Model, bits = 8): Promise<Model> {
  const o = { weightBits: 8, activationBits: bits, ops: ['Conv'], firstLayer: 'quantize' } as const
  await runPass(m, 'quantize', o, { calibration })
  await runPass(m, 'quantize-outputs', {}, { calibration })
  return m
}

const error = (got: Float32Array, want: Float32Array): number =>
  Math.sqrt(want.reduce((s, v, i) => s + (v - got[i]!) ** 2, 0) / want.reduce((s, v) => s + v * v, 0))

test('large images of few channels and ends are floats, with nothing rounded between them', async () => {
  const float = detector()
  const want = await run(float)
  const source = await quantised(detector())
  const kernels = async (mixed: boolean) => {
    const { model } = await exportModel(source, { format: 'int8', mixed })
    for (const level of ['disabled', 'all'] as const)
      for (const [i, got] of (await run(model, level)).entries())
        assert.ok(error(got, want[i]!) < 0.05, `${mixed} ${i}`)
    return { model, ...(await explainKernels(model)) }
  }
  const plain = await kernels(false)
  const integers = (k: typeof plain) => k.layers.map((l) => (l.kernel ? 1 : 0)).join('')
  assert.equal(integers(plain), '11111' + '10' + '10')
  const mixed = await kernels(true)
  // 4096 positions of 3 channels, 4096 of 16; not 1024 of 16
  assert.equal(integers(mixed), '00111' + '00' + '00')
  assert.equal(mixed.ops.QLinearAdd, 1)
  // one in front of the first of integers; what the ends read becomes floats once
  assert.equal(mixed.ops.QuantizeLinear, 1)
  assert.equal(mixed.ops.DequantizeLinear, 1)
})

test('what is left in floats comes closer to the float network', async () => {
  const want = await run(detector())
  const source = await quantised(detector(), 4)
  const of = async (mixed: boolean): Promise<number> => {
    const { model } = await exportModel(source, { format: 'int8', mixed })
    return error((await run(model))[1]!, want[1]!)
  }
  const [plain, mixed] = [await of(false), await of(true)]
  assert.ok(mixed < 0.8 * plain, `${mixed} of ${plain}`)
})

test('what is rounded behind a Clip or a pool is no end: a classifier stays in integers', async () => {
  const n = new Net(5, FLOAT)
  const { b } = n
  const x = n.input([1, 3, SIDE, SIDE])
  const clip = (v: Value): Value => b.op('Clip', [v, b.scalar(0), b.scalar(6)])
  const a = clip(n.conv(x, 'a', 3, 48, 3, { bias: true, stride: 2 }))
  const c = n.relu(n.conv(a, 'c', 48, 48, 1, { bias: true, stride: 2 }))
  const d = b.op('MaxPool', [c], { kernel_shape: [2, 2], strides: [2, 2] })
  const e = clip(n.conv(n.conv(d, 'd', 48, 32, 1), 'e', 32, 64, 1, { bias: true }))
  const y = n.conv(b.op('GlobalAveragePool', [e]), 'y', 64, 10, 1)
  const source = await quantised(n.finish(b.op('Flatten', [y])))
  const kernels = async (mixed: boolean) => {
    const { layers } = await explainKernels((await exportModel(source, { format: 'int8', mixed })).model)
    return layers.map((l) => (l.kernel ? 1 : 0)).join('')
  }
  assert.equal(await kernels(false), '11110')
  // the first reads a large image
  assert.equal(await kernels(true), '01110')
})

test('the distribution of two scores is a sigmoid of their difference', async () => {
  const { model } = await exportModel(await quantised(detector()), { format: 'int8' })
  const ops = [...model.graph.nodes()].map((n) => n.op)
  assert.ok(ops.includes('Sigmoid') && !ops.includes('Softmax'))
  for (const [axis, classes] of [
    [1, 2],
    [-1, 3],
  ] as const) {
    const n = new Net(1, { bits: 8, sparsity: 0, activationBits: 8 })
    const x = n.input([1, 3, SIDE, SIDE])
    const y = n.conv(n.act(n.relu(n.conv(n.act(x), 'a', 3, 16, 3))), 'b', 16, classes, 1)
    const source = n.finish(n.b.op('Softmax', [n.b.op('Transpose', [y], { perm: [0, 2, 3, 1] })], { axis }))
    const { model: other } = await exportModel(source, { format: 'int8' })
    assert.ok([...other.graph.nodes()].some((m) => m.op === 'Softmax'))
  }
})
