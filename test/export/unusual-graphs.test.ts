/** Forms that are rare in graphs from mnc's passes and common in those from other tools. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainKernels } from '../../src/export/explain.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { Value } from '../../src/graph/graph.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementTypes } from '../../src/graph/types.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { separateWidths } from '../../src/layers/mixed-widths.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { assertSame } from './errors.ts'
import { Net } from './nets.ts'

test('masked weights with one scale for all channels', async () => {
  const n = new Net(3)
  const a = n.act(n.relu(n.input([1, 16, 6, 6])))
  // one output channel: a step per channel is one step
  const c = n.conv(a, 'c', 16, 1, 3, { bias: true })
  await assertSame(n.finish(n.relu(c)))
})

/** A layer between quantisers with a normalisation behind it whose gains are as `gain` says. */
function normalised(bits: number, gain: (s: number, channel: number) => number, change?: (w: Float32Array) => void) {
  const n = new Net(3, { sparsity: 0, bits, activationBits: bits })
  const step = bits === 4 ? 0.13 : 0.01
  const a = n.act(n.relu(n.input([2, 16, 6, 6])), step)
  const c = n.conv(a, 'c', 16, 16, 3)
  const w = n.model.graph.find('c')!
  const values = Float32Array.from(w.constant!.toFloat32())
  change?.(values)
  w.setConstant(Tensor.float32(w.constant!.dims, values))
  const y = n.bn(c, 'bn', 16)
  const s = n.model.graph.find('bn.scale')!
  s.setConstant(Tensor.float32([16], s.constant!.toFloat32().map(gain)))
  return n.finish(n.relu(n.act(n.relu(y), bits === 4 ? 0.1 : 3 * step)))
}

test('the integer -128 behind a negative gain of a normalisation', async () => {
  const model = normalised(
    8,
    (s, c) => (c % 2 ? s : -s),
    (w) => w.fill(-5, 0, 40),
  )
  // 8-bit levels with a bias are not always exact
  for (const part of ['bias', 'mean'])
    model.graph.find(`bn.${part}`)!.setConstant(Tensor.float32([16], new Float32Array(16)))
  await assertSame(model, '', [{ format: 'int8' }, { format: 'int8', packedWeights: true }])
})

test('a gain of 0', async () => {
  await assertSame(normalised(4, (s, c) => (c % 2 ? s : 0)))
})

for (const kind of ['Constant', 'int32'] as const)
  test(`a bias that is not an initializer: ${kind}`, async () => {
    // between quantisers; and with float outputs, where int8 files compute the sum in two halves
    for (const between of [true, false]) {
      const n = new Net(7)
      const a = n.act(n.relu(n.input([1, 64, 5, 5])))
      const t = n.floats([12], (u) => 5 * u)
      const ints = t.toFloat32().map((v) => Math.round(v * 1000))
      const bias =
        kind === 'Constant'
          ? n.b.op('Constant', [], { value: t })
          : n.b.op('DequantizeLinear', [n.b.initializer('bq', Tensor.from('int32', [12], ints)), n.b.scalar(0.001)])
      const w = n.weight('c', [12, 64, 3, 3], 0)
      const y = n.b.op('Conv', [a, w, bias], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] })
      await assertSame(n.finish(between ? n.relu(n.act(n.relu(y), 0.7)) : y), `between ${between}`)
    }
  })

test('parameters of a normalisation in Constant nodes', async () => {
  const n = new Net(7)
  const a = n.act(n.relu(n.input([1, 16, 5, 5])))
  const y = n.bn(n.conv(a, 'c', 16, 8, 3, { bias: true }), 'bn', 8)
  const node = y.producer!
  for (let i = 1; i < 5; i++)
    node.setInput(i, n.model.graph.before(node).op('Constant', [], { value: node.input(i).constant! }))
  const model = n.finish(y)
  assert.equal((await exportModel(model)).report.batchNorms.folded, 1)
  await assertSame(model)
})

for (const bits of [4, 8, 32])
  test(`weights of a few elements, ${bits} bits`, async () => {
    const n = new Net(7, { sparsity: 0, bits })
    const a = n.act(n.relu(n.input([2, 4, 6, 6])))
    const dw = n.conv(a, 'dw', 4, 4, 3, { group: 4, bias: true })
    const pw = n.conv(n.act(n.relu(dw), 0.26), 'pw', 4, 8, 1, { bias: true })
    await assertSame(n.finish(n.b.op('Neg', [n.act(n.relu(pw), 0.26)])))
  })

test('8-bit activations whose range needs a zero point', async () => {
  const n = new Net(7, { sparsity: 0, bits: 8 })
  const { b } = n
  const quantise = (x: Value, step: number, zeroPoint: number): Value => {
    const [s, z] = [b.scalar(step), b.scalar(zeroPoint, 'uint8')]
    return b.op('DequantizeLinear', [b.op('QuantizeLinear', [b.op('Sum', [x]), s, z]), s, z])
  }
  const c = n.conv(quantise(n.input([2, 16, 6, 6]), 0.02, 100), 'c', 16, 16, 3, { bias: true })
  await assertSame(n.finish(b.op('Relu', [quantise(c, 0.2, 120)])), '', [{ format: 'packed' }])
})

test('4-bit activations behind a ReLU whose type holds negative numbers', async () => {
  for (const [type, zero] of [
    ['uint4', 3],
    ['uint4', 0],
    ['int4', 0],
  ] as const) {
    const n = new Net(7, { sparsity: 0, bits: 4 })
    const { b } = n
    const quantise = (x: Value, step: number): Value => {
      const [s, z] = [b.scalar(step), b.scalar(zero, type)]
      return b.op('DequantizeLinear', [b.op('QuantizeLinear', [x, s, z]), s, z])
    }
    const c = n.conv(quantise(n.input([2, 16, 6, 6]), 0.2), 'c', 16, 16, 3, { bias: true })
    const y = quantise(b.op('Relu', [c]), 0.25)
    await assertSame(n.finish(n.conv(y, 'd', 16, 8, 1)), `${type}, zero point ${zero}`)
  }
})

test('4-bit pairs with a Cast in between get 8-bit containers next to 8-bit pairs', async () => {
  const n = new Net(5)
  const { b } = n
  const pair = (x: Value, step: number, zero: number, type: 'uint4' | 'uint8'): Value => {
    const [s, z] = [b.scalar(step), b.scalar(zero, type)]
    const levels = b.op('QuantizeLinear', [x, s, z])
    const cast = type === 'uint4' ? b.op('Cast', [levels], { to: elementTypes.uint4.code }) : levels
    return b.op('DequantizeLinear', [cast, s, z])
  }
  const m = n.finish(pair(pair(n.input([1, 4]), 0.1, 8, 'uint4'), 0.05, 3, 'uint8'))
  const run = async (): Promise<number[]> => {
    const session = await ortExecutor().load(m, { optimization: 'disabled' })
    const out = await session.run({ x: Tensor.float32([1, 4], [-5, -0.2, 0.3, 0.6]) })
    await session.dispose()
    return Array.from(Object.values(out)[0]!.toNumbers())
  }
  const want = await run()
  assert.ok(separateWidths(m.graph))
  verifyModel(m)
  assert.deepEqual(await run(), want)
  assert.ok([...m.graph.nodes()].every((node) => node.op !== 'Cast'))
})

for (const type of ['uint16', 'int16'] as const)
  test(`16-bit activations: ${type}`, async () => {
    for (const bits of [4, 8, 32]) {
      const n = new Net(7, { sparsity: 0, bits })
      const { b } = n
      const quantise = (x: Value, step: number): Value => {
        const [s, z] = [b.scalar(step), b.scalar(type === 'uint16' ? 32768 : 0, type)]
        return b.op('DequantizeLinear', [b.op('QuantizeLinear', [x, s, z]), s, z])
      }
      const c = n.conv(quantise(n.input([1, 16, 6, 6]), 0.0001), 'c', 16, 16, 3, { bias: true })
      const d = n.conv(quantise(b.op('Relu', [c]), 0.0004), 'd', 16, 8, 1)
      await assertSame(n.finish(quantise(d, 0.0007)), `weights of ${bits} bits`)
    }
  })

for (const bits of [4, 8])
  test(`weights that are stored [in, out], ${bits} bits`, async () => {
    for (const op of ['Gemm', 'MatMul'])
      for (const between of [false, true]) {
        const n = new Net(7, { sparsity: 0, bits })
        const a = n.act(n.relu(n.input([5, 64])))
        const y = n.b.op(op, [a, n.weight('w', [64, 32], 1)])
        await assertSame(n.finish(between ? n.relu(n.act(n.relu(y), 0.7)) : y), `${op}, between ${between}`)
      }
  })

test('a Gemm of beta 0 without C, with a normalisation behind it', async () => {
  const n = new Net(7)
  const a = n.act(n.relu(n.input([5, 64])))
  const y = n.b.op('Gemm', [a, n.weight('w', [32, 64], 0)], { beta: { kind: 'float', value: 0 }, transB: 1 })
  await assertSame(n.finish(n.bn(y, 'bn', 32)))
})

const between: Readonly<Record<string, (n: Net, x: Value) => Value>> = {
  MaxPool: ({ b }, x) => b.op('MaxPool', [b.op('Relu', [x])], { kernel_shape: [2, 2], strides: [2, 2] }),
  Clip: ({ b }, x) => b.op('Clip', [x, b.scalar(0), b.scalar(6)]),
  Transpose: ({ b }, x) => b.op('Transpose', [x], { perm: [0, 1, 3, 2] }),
  Slice: ({ b }, x) => b.op('Slice', [x, b.ints([1]), b.ints([5]), b.ints([2])]),
  Squeeze: ({ b }, x) => b.op('Squeeze', [b.op('Unsqueeze', [x, b.ints([0])]), b.ints([0])]),
  Dropout: ({ b }, x) => b.op('Dropout', [x]),
  'Add of a constant': (n, x) => n.b.op('Add', [x, n.b.initializer('c', n.floats([16, 1, 1]))]),
  'Mul with a constant': (n, x) =>
    n.b.op('Mul', [
      x,
      n.b.initializer(
        'c',
        n.floats([16, 1, 1], (u) => 1 + u / 2),
      ),
    ]),
}

for (const [name, op] of Object.entries(between))
  test(`${name} between a layer and a quantiser`, async () => {
    for (const bits of [4, 8]) {
      const n = new Net(7, { sparsity: 0, bits })
      const a = n.act(n.relu(n.input([1, 16, 6, 6])))
      const x = n.act(op(n, n.conv(a, 'c', 16, 16, 3, { bias: true })), 0.4)
      await assertSame(n.finish(n.conv(x, 'd', 16, 8, 1)), `${bits} bits`, [{ format: 'int4' }, { format: 'int8' }])
    }
  })

test('a Clip before a quantiser becomes the limits of its integers', async () => {
  const limits = [
    [0, 6, true],
    [-0.7, 1.1, true],
    [0, 0.5, true],
    [-9, -8, false],
    [0.3, 2, false],
    [7, 99, false],
  ] as const
  for (const bits of [4, 8])
    for (const [least, most, integer] of limits) {
      const n = new Net(7, { sparsity: 0, bits, activationBits: bits })
      const a = n.act(n.relu(n.input([1, 16, 6, 6])))
      const y = n.b.op('Clip', [n.conv(a, 'c', 16, 16, 3, { bias: true }), n.b.scalar(least), n.b.scalar(most)])
      const m = n.finish(n.conv(n.act(y, 0.4), 'd', 16, 8, 1, { bias: true }))
      const what = `${bits} bits, [${least}, ${most}]`
      await assertSame(m, what)
      const [first] = (await explainKernels((await exportModel(m, { format: 'int8' })).model)).layers
      assert.equal(first!.kernel === 'QLinearConv', integer, what)
    }
})
