import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { ElementType } from '../../src/graph/types.ts'
import { buildNetwork, loadSpec } from '../../src/models/spec.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import type { LayerScore, ScoreOptions, ScoreReport } from '../../src/score/report.ts'
import { score } from '../../src/score/score.ts'

type Dims = readonly number[]

/** A graph of one chain, built value by value; the last value is its output. */
class Net {
  readonly model = new Model()
  readonly #b = this.model.graph.append()

  input(dims: readonly (number | string)[]): Value {
    return this.model.graph.addInput('x', { elem: 'float32', dims })
  }

  constant(values: ArrayLike<number>, dims: Dims = [values.length], type: ElementType = 'float32'): Value {
    return this.model.graph.addInitializer('c', Tensor.from(type, dims, values))
  }

  op(op: string, inputs: readonly Value[], attributes: Record<string, AttributeLike> = {}, name = op): Value {
    return this.#b.op(op, inputs, attributes, { name })
  }

  /** QuantizeLinear -> DequantizeLinear of one step. */
  quantize(x: Value, scale: number, type: ElementType, name: string, zero = 0): Value {
    const parameters = [this.constant([scale], []), this.constant([zero], [], type)]
    const q = this.op('QuantizeLinear', [x, ...parameters], {}, `${name}.q`)
    return this.op('DequantizeLinear', [q, ...parameters], {}, name)
  }

  /** Integer weights with a scale per output channel. */
  weights(values: ArrayLike<number>, dims: Dims, type: ElementType, metadata: Record<string, string> = {}): Value {
    const scale = this.constant(new Array(dims[0]).fill(0.5))
    const inputs = [
      this.constant(values, dims, type),
      scale,
      this.constant(new Array(dims[0]).fill(0), [dims[0]!], type),
    ]
    return this.#b.op('DequantizeLinear', inputs, { axis: 0 }, { name: 'weights', metadata })
  }

  async score(out: Value, options: ScoreOptions = {}): Promise<ScoreReport> {
    this.model.graph.addOutput(out)
    return await score(this.model, options)
  }
}

function layer(r: ScoreReport, name: string): LayerScore {
  const found = r.layers.find((l) => l.name === name)
  assert.ok(found, `no layer ${name} among ${r.layers.map((l) => l.name).join(', ')}`)
  return found
}

/** n numbers 1..7 with every `gap`th left, the others zero. */
const sparse = (n: number, gap: number): number[] => Array.from({ length: n }, (_, i) => (i % gap ? 0 : (i % 7) + 1))

test('a float convolution: v mults, v - 1 adds, a bias that is not zero; padding counts', async () => {
  const net = new Net()
  const w = net.constant(new Array(4 * 3 * 9).fill(1), [4, 3, 3, 3])
  const y = net.op('Conv', [net.input(['N', 3, 8, 8]), w, net.constant([1, 0, 2, 3])], { pads: [1, 1, 1, 1] })
  const r = await net.score(y)
  const conv = layer(r, 'Conv')
  assert.equal(conv.macs, 64 * 4 * 27)
  assert.equal(conv.mults, 64 * 4 * 27)
  assert.equal(conv.adds.fp32, 64 * 4 * 26 + 64 * 3)
  assert.equal(r.storage, 4 * 27 + 4)
  assert.equal(r.parameters, 4 * 27 + 4)
  assert.equal(r.quantized, false)
  assert.deepEqual(r.freebie && [r.freebie.storage, r.freebie.mults, r.freebie.adds], [112 / 2, conv.mults / 2, r.adds])
  assert.equal(r.score, r.storage / 36.5e6 + (conv.mults + conv.adds.fp32) / 10.49e9)
})

test('zero weights cost nothing but their mask bit, by output channel', async () => {
  const net = new Net()
  // channel 0 keeps 1 of 9 weights, channel 1 keeps 3
  const w = net.constant([...sparse(9, 9), ...sparse(9, 3)], [2, 1, 3, 3])
  const r = await net.score(net.op('Conv', [net.input([1, 1, 5, 5]), w]))
  const conv = layer(r, 'Conv')
  assert.equal(conv.mults, 9 * (1 + 3))
  assert.equal(conv.adds.fp32, 9 * (0 + 2))
  assert.equal(conv.maskBits, 18)
  assert.equal(conv.storage, (4 * 32 + 18) / 32)
})

test('4-bit weights and activations: widths, scales, both accumulators', async () => {
  const net = new Net()
  const x = net.quantize(net.op('Relu', [net.input([1, 4, 6, 6])]), 0.1, 'uint4', 'a')
  // 9 of 36 weights in each channel, at places that form no blocks
  const values = new Array(3 * 36).fill(0)
  for (let i = 0; i < 27; i++) values[(i % 3) * 36 + ((i * 7 + (i % 3) * 5) % 36)] = (i % 7) + 1
  const w = net.weights(values, [3, 4, 3, 3], 'int4')
  const r = await net.score(net.op('Conv', [x, w]))
  const conv = layer(r, 'Conv')
  assert.deepEqual([conv.weightBits, conv.activationBits, conv.nonZeros], [4, 4, 27])
  assert.equal(conv.mults, (16 * 27 * 4) / 32)
  assert.equal(conv.adds.fp32, 16 * (27 - 3))
  // 9 products a channel: 4 adds of 8 bits, 2 of 9, 1 of 10, 1 of 11
  assert.equal(conv.adds.adderTree, (16 * 3 * (32 + 18 + 10 + 11)) / 32)
  assert.equal(conv.storage, (27 * 4 + 108) / 32 + 3)
  // the activation's step; the ReLU: one operation an element
  assert.equal(layer(r, 'a.q').storage, 1)
  assert.equal(layer(r, 'Relu').mults, 4 * 36)
  assert.equal(r.quantized, true)
  assert.equal(r.freebie, null)
})

test('--float-bits 16 halves scales, biases and float work; dot products stay', async () => {
  const make = async (floatBits: number): Promise<ScoreReport> => {
    const net = new Net()
    const x = net.quantize(net.op('Relu', [net.input([1, 2, 4, 4])]), 0.1, 'uint4', 'a')
    const w = net.weights(new Array(8).fill(3), [4, 2, 1, 1], 'int4')
    return await net.score(net.op('Conv', [x, w, net.constant([1, 2, 3, 4])]), { floatBits })
  }
  const [wide, narrow] = [layer(await make(32), 'Conv'), layer(await make(16), 'Conv')]
  assert.equal(wide.storage, 8 * (4 / 32) + 4 + 4)
  assert.equal(narrow.storage, 8 * (4 / 32) + 2 + 2)
  assert.equal(narrow.mults, wide.mults)
  assert.equal(wide.adds.fp32, 16 * 4 + 16 * 4)
  assert.equal(narrow.adds.fp32, 16 * 4 + (16 * 4) / 2)
})

test('3-bit weights and 5-bit activations in 8-bit containers', async () => {
  const net = new Net()
  const x = net.op('Clip', [net.input([1, 4]), net.constant([0], []), net.constant([3.1], [])])
  const a = net.quantize(x, 0.1, 'uint8', 'a')
  const w = net.weights(
    Array.from({ length: 32 }, (_, i) => (i % 7) - 3 || 2),
    [8, 4],
    'int8',
  )
  const r = await net.score(net.op('Gemm', [a, w], { transB: 1 }))
  const gemm = layer(r, 'Gemm')
  assert.deepEqual([gemm.weightBits, gemm.activationBits], [3, 5])
  assert.equal(gemm.mults, (32 * 5) / 32)
  // the clamp merges with the rounding
  assert.ok(!r.layers.some((l) => l.op === 'Clip'))
})

test('mnc.bits decides where few values say nothing; unmarked small tensors keep their container', async () => {
  const bits = async (metadata: Record<string, string>): Promise<number | null> => {
    const net = new Net()
    const w = net.weights([1, -2, 3, 1], [1, 4], 'int8', metadata)
    return layer(await net.score(net.op('Gemm', [net.input([1, 4]), w], { transB: 1 })), 'Gemm').weightBits
  }
  assert.equal(await bits({}), 8)
  assert.equal(await bits({ 'mnc.bits': '3' }), 3)
})

test('unsigned 4 bits in uint8 with zero point 240 and Max', async () => {
  const net = new Net()
  const parameters = [net.constant([0.1], []), net.constant([240], [], 'uint8')]
  const q = net.op('QuantizeLinear', [net.input([1, 8]), ...parameters])
  const max = net.op('Max', [q, net.constant([240], [], 'uint8')])
  const a = net.op('DequantizeLinear', [max, ...parameters])
  const w = net.weights(new Array(16).fill(7), [2, 8], 'int4')
  const r = await net.score(net.op('Gemm', [a, w], { transB: 1 }))
  assert.deepEqual([layer(r, 'Gemm').activationBits, layer(r, 'Gemm').mults], [4, (16 * 4) / 32])
})

test('integers that a Cast turns into floats, behind a Clip at 15 steps', async () => {
  const net = new Net()
  const x = net.op('Clip', [net.input([1, 8]), net.constant([0], []), net.constant([1.5], [])])
  const q = net.op('QuantizeLinear', [x, net.constant([0.1], []), net.constant([0], [], 'uint8')])
  const w = net.weights(new Array(16).fill(7), [2, 8], 'int4')
  const r = await net.score(net.op('Gemm', [net.op('Cast', [q], { to: 1 }), w], { transB: 1 }))
  assert.equal(layer(r, 'Gemm').activationBits, 4)
})

test("a channel's common factor in an 8-bit container belongs to its scale", async () => {
  const net = new Net()
  const w = net.weights(
    Array.from({ length: 64 }, (_, i) => ((i % 15) - 7) * (i < 32 ? 8 : 9)),
    [2, 32],
    'int8',
  )
  const r = await net.score(net.op('Gemm', [net.input([1, 32]), w], { transB: 1 }))
  assert.equal(layer(r, 'Gemm').weightBits, 4)
})

test('BatchNormalization: a bias behind a convolution, scale and bias elsewhere, one operation where the bias is zero', async () => {
  const net = new Net()
  const norm = (x: Value, bias: number[], name: string): Value => {
    const ones = new Array(bias.length).fill(1)
    const inputs = [ones, bias, bias.map(() => 0), ones].map((v) => net.constant(v))
    return net.op('BatchNormalization', [x, ...inputs], {}, name)
  }
  const conv = net.op('Conv', [net.input([1, 2, 4, 4]), net.constant(new Array(6).fill(1), [3, 2, 1, 1])])
  const folded = norm(conv, [1, 2, 0], 'folded')
  const pre = norm(net.op('Relu', [folded]), [5, 0, 0], 'pre')
  const r = await net.score(pre)
  assert.ok(!r.layers.some((l) => l.name === 'folded'))
  // one product more than sums, and a bias in two of three channels
  assert.equal(layer(r, 'Conv').adds.fp32, 16 * 3 * 1 + 16 * 2)
  assert.equal(layer(r, 'Conv').storage, 6 + 3)
  assert.deepEqual([layer(r, 'pre').mults, layer(r, 'pre').adds.fp32], [16 * 3, 16])
  assert.equal(layer(r, 'pre').storage, 3 + 3)
  assert.equal(r.parameters, 6 + 6 + 6)
})

test('a convolution with two readers keeps its BatchNormalization', async () => {
  const net = new Net()
  const conv = net.op('Conv', [net.input([1, 1, 2, 2]), net.constant([2], [1, 1, 1, 1])])
  const one = [1, 3, 0, 1].map((v) => net.constant([v]))
  const r = await net.score(net.op('Add', [net.op('BatchNormalization', [conv, ...one]), conv]))
  assert.deepEqual([layer(r, 'BatchNormalization').mults, layer(r, 'BatchNormalization').adds.fp32], [4, 4])
  assert.equal(layer(r, 'Add').adds.fp32, 4)
})

test('pools, activations, elementwise', async () => {
  const net = new Net()
  const x = net.input([1, 3, 4, 4])
  const pooled = net.op('AveragePool', [x], { kernel_shape: [2, 2], strides: [2, 2] })
  const sigmoid = net.op('Sigmoid', [pooled])
  const swish = net.op('Mul', [pooled, sigmoid])
  const scaled = net.op('Mul', [swish, net.constant([2, 0, 3], [3, 1, 1])], {}, 'scale')
  const r = await net.score(net.op('GlobalAveragePool', [scaled]))
  const work = (name: string): number[] => [layer(r, name).mults, layer(r, name).adds.fp32]
  assert.deepEqual(work('AveragePool'), [12, 12 * 3])
  assert.deepEqual(work('Sigmoid'), [12 * 2, 12])
  assert.deepEqual(work('Mul'), [12, 0])
  // a channel scaled by zero costs nothing
  assert.deepEqual(work('scale'), [8, 0])
  assert.deepEqual(work('GlobalAveragePool'), [3, 3 * 3])
})

test('max pooling and layout keep 4-bit activations 4 bits wide', async () => {
  const net = new Net()
  const a = net.quantize(net.op('Relu', [net.input([1, 2, 4, 4])]), 0.1, 'uint4', 'a')
  const pooled = net.op('MaxPool', [a], { kernel_shape: [2, 2], strides: [2, 2] })
  const w = net.weights(new Array(24).fill(3), [3, 8], 'int4')
  const r = await net.score(net.op('Gemm', [net.op('Flatten', [pooled]), w], { transB: 1 }))
  assert.equal(layer(r, 'Gemm').activationBits, 4)
  assert.equal(layer(r, 'MaxPool').mults, (8 * 3 * 4) / 32)
})

test('weights decoded in the graph count as the integers that they are', async () => {
  const net = new Net()
  const values = Array.from({ length: 64 }, (_, i) => (i % 3 ? 0 : (i % 15) - 7))
  const integers = net.op('Cast', [net.constant(values, [4, 16], 'int4')], { to: 1 })
  const w = net.op('Mul', [integers, net.constant([0.1, 0.2, 0.3, 0.7], [4, 1])], {}, 'decode')
  const nonZeros = values.filter((v) => v !== 0).length
  const r = await net.score(net.op('Gemm', [net.input([1, 16]), w], { transB: 1 }))
  const gemm = layer(r, 'Gemm')
  assert.equal(gemm.weightBits, 4)
  assert.equal(gemm.storage, (nonZeros * 4 + 64) / 32 + 4)
  assert.ok(!r.layers.some((l) => l.name === 'decode'))
})

test('a negative scale of a channel does not widen its integers', async () => {
  const net = new Net()
  const values = Array.from({ length: 64 }, (_, i) => (i % 16) - 8)
  const integers = net.op('Cast', [net.constant(values, [4, 16], 'int4')], { to: 1 })
  const w = net.op('Mul', [integers, net.constant([0.1, -0.2, 0.3, -0.7], [4, 1])])
  const r = await net.score(net.op('Gemm', [net.input([1, 16]), w], { transB: 1 }))
  assert.equal(layer(r, 'Gemm').weightBits, 4)
})

test('what is not known is refused by name, never counted as zero', async () => {
  const custom = new Net()
  const y = custom.model.graph.append().op('Quant', [custom.input([1, 2])], {}, { domain: 'my.domain' })
  await assert.rejects(
    custom.score(y),
    (e) => e instanceof MncError && e.blame === 'model' && /Quant/.test(e.describe()),
  )
  const open = new Net()
  await assert.rejects(open.score(open.op('Relu', [open.input([1, 3, 'H', 'W'])])), /not fixed/)
  const net = new Net()
  await assert.rejects(net.score(net.op('Relu', [net.input([1, 3])]), { floatBits: 24 }), /--float-bits/)
})

test('DenseNet-BC-100-12: 800,032 parameters, 288.0 M MACs; a fixed batch counts as one image', async () => {
  const model = buildNetwork(await loadSpec('densenet-bc-100-12'), { seed: 0 })
  const r = await score(model, {})
  assert.equal(r.parameters, 800032)
  assert.equal((r.macs / 1e6).toFixed(1), '288.0')
  model.graph.inputs[0]!.setType({ elem: 'float32', dims: [2, 3, 32, 32] })
  const two = await score(model, {})
  assert.deepEqual([two.macs, two.operations, two.storage], [r.macs, r.operations, r.storage])
})

test('the passes: pruned and quantised as the file says', async () => {
  const model = buildNetwork(await loadSpec('densenet-bc-40-12'), { seed: 1 })
  await runPass(model, 'prune', { sparsity: 0.75 })
  const pruned = await score(model, {})
  const weights = pruned.layers.filter((l) => l.op === 'Conv').reduce((n, l) => n + l.weights, 0)
  const kept = pruned.layers.filter((l) => l.op === 'Conv').reduce((n, l) => n + l.nonZeros, 0)
  assert.equal(kept, weights - Math.round(weights * 0.75))
  assert.equal(pruned.parameters, 176122)
  await runPass(model, 'quantize', { activationBits: 0 })
  const quantized = await score(model, {})
  for (const l of quantized.layers.filter((l) => l.op === 'Conv')) assert.equal(l.weightBits, 4)
  assert.ok(quantized.storage < pruned.storage / 2)
  assert.equal(quantized.macs, pruned.macs)
})

test('a look-up stores its table, adds nothing, and gives values of its width', async () => {
  const net = new Net()
  const ids = net.model.graph.addInput('ids', { elem: 'int64', dims: [1, 5] })
  const rows = net.op('Gather', [net.constant(new Array(1600).fill(1), [100, 16]), ids])
  const r = await net.score(net.op('MatMul', [rows, net.constant(new Array(64).fill(1), [16, 4])]))
  const { macs, mults, adds, storage, activationBits } = layer(r, 'Gather')
  assert.deepEqual([macs, mults, adds.fp32, adds.adderTree, storage, activationBits], [0, 0, 0, 0, 1600, null])
  const product = layer(r, 'MatMul')
  assert.deepEqual([product.macs, product.mults, product.adds.fp32], [320, 320, 300])
})

test('functions are counted by what they do', async () => {
  const net = new Net()
  const x = net.input([1, 2])
  const body = new Graph('double')
  const v = body.addInput('v', null)
  body.addOutput(body.append().op('Add', [v, v], {}, { name: 'sum' }))
  const opsets = new Map([['', net.model.opset]])
  const signature = { domain: 'own', name: 'Double', overload: '', attributes: [] }
  net.model.functions.push({ ...signature, opsets, graph: body, extra: undefined })
  net.model.opsets.set('own', 1)
  const w = net.constant([1, 2, 3, 4], [2, 2])
  const y = net.model.graph.append().op('Double', [net.op('MatMul', [x, w])], {}, { name: 'double', domain: 'own' })
  const r = await net.score(y)
  assert.deepEqual([r.macs, r.adds], [4, 2 + 2])
})
