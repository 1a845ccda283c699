/** search-ranges on nets that are made here, its result measured by onnxruntime. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'
import { outputs } from '../support/outputs.ts'

const CHANNELS = 6

interface Net {
  /** Factor of each channel of the input, and its inverse in the layer that reads it. */
  readonly spread: number
  readonly op: 'Conv' | 'depthwise' | 'pointwise' | 'MatMul'
  /** Between the input and the layer. */
  readonly activation: 'Relu' | 'HardSwish'
  /** Height and width; 5 by default. Of larger ones not all positions are looked at. */
  readonly side?: number
}

/** An activation and a layer that undoes the differences between its channels. */
function netOf({ spread, op, activation, side = 5 }: Net): Model {
  const graph = new Graph('net')
  const image = op !== 'MatMul'
  const x = graph.addInput('x', { elem: 'float32', dims: image ? ['N', CHANNELS, side, side] : ['N', CHANNELS] })
  const rng = new Rng(7)
  const b = graph.append()
  const dims = {
    Conv: [4, CHANNELS, 3, 3],
    depthwise: [CHANNELS, 1, 3, 3],
    pointwise: [4, CHANNELS, 1, 1],
    MatMul: [CHANNELS, 4],
  }[op]
  const values = new Float32Array(dims.reduce((p, q) => p * q, 1))
  const inputOf = {
    Conv: (i: number) => Math.floor(i / 9) % CHANNELS,
    depthwise: (i: number) => Math.floor(i / 9),
    pointwise: (i: number) => i % CHANNELS,
    MatMul: (i: number) => Math.floor(i / 4),
  }
  for (let i = 0; i < values.length; i++) {
    values[i] = rng.uniform(-1, 1) / spread ** inputOf[op](i)
  }
  const read = b.op(activation, [x], {}, { name: 'activation' })
  const weight = b.initializer('w', Tensor.float32(dims, values))
  const attributes = op === 'depthwise' ? { group: CHANNELS } : {}
  graph.addOutput(b.op(image ? 'Conv' : op, [read, weight], attributes, { name: 'layer' }))
  const model = new Model(graph)
  model.opsets.set('', 21)
  return model
}

function inputs(net: Net, seed: number): CalibrationData {
  const rng = new Rng(seed)
  const { side = 5 } = net
  const inner = net.op === 'MatMul' ? 1 : side ** 2
  const batches = Array.from({ length: 3 }, () => {
    const values = Float32Array.from(
      { length: 16 * CHANNELS * inner },
      (_, i) => rng.normal() * net.spread ** (Math.floor(i / inner) % CHANNELS),
    )
    return { x: Tensor.float32([16, CHANNELS, ...(inner === 1 ? [] : [side, side])], values) }
  })
  return {
    samples: 48,
    async *batches() {
      yield* batches
    },
  }
}

const distance = (a: Float32Array, b: Float32Array): number => a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0)

const quantise = async (net: Net, bits: number) => {
  const model = cloneModel(netOf(net))
  const options = { ops: ['*'], weightBits: 0, activationBits: bits, firstLayer: 'quantize' } as const
  await runPass(model, 'quantize', options, { calibration: inputs(net, 1) })
  return model
}

for (const op of ['Conv', 'depthwise', 'pointwise', 'MatMul'] as const)
  for (const [activation, side] of [
    ['Relu', 5],
    ['HardSwish', 5],
    ['HardSwish', 40],
  ] as const)
    test(`${op} behind ${activation}, ${side} wide: outputs are nearer, also on inputs that were not searched with`, async () => {
      const net: Net = { op, activation, side, spread: 3 }
      const plain = await quantise(net, 4)
      const searched = cloneModel(plain)
      const { changed } = await runPass(searched, 'search-ranges', {}, { calibration: inputs(net, 1) })
      assert.ok(changed)
      const fresh = inputs(net, 2)
      const want = await outputs(netOf(net), fresh)
      const [before, after] = [
        distance(want, await outputs(plain, fresh)),
        distance(want, await outputs(searched, fresh)),
      ]
      // sums of six products leave less to gain
      assert.ok(after < (op === 'pointwise' ? 0.95 : 0.9) * before, `${after} against ${before}`)
    })

test('weights count as floats, whether they are quantised or not, and stay', async () => {
  const net: Net = { op: 'Conv', activation: 'HardSwish', spread: 3 }
  const only = await quantise(net, 4)
  const both = cloneModel(only)
  await runPass(both, 'quantize', { ops: ['*'], weightBits: 3, activationBits: 0 }, { calibration: inputs(net, 1) })
  const scales = []
  for (const model of [only, both]) {
    const weight = model.graph.find('w')!.constant!
    await runPass(model, 'search-ranges', {}, { calibration: inputs(net, 1) })
    assert.ok(model.graph.find('w')!.constant!.equals(weight))
    const pair = [...model.graph.nodes()].find(
      (n) => n.op === 'QuantizeLinear' && n.input(0).producer?.name === 'activation',
    )!
    scales.push([1, 2].map((i) => Array.from(pair.input(i).constant!.toNumbers())))
  }
  assert.deepEqual(scales[0], scales[1])
})

test('a range that has been searched stays, and the model with it', async () => {
  const net: Net = { op: 'Conv', activation: 'Relu', spread: 3 }
  const model = await quantise(net, 4)
  await runPass(model, 'search-ranges', {}, { calibration: inputs(net, 1) })
  const before = encodeModel(model)
  const { changed, declined } = await runPass(model, 'search-ranges', {}, { calibration: inputs(net, 2) })
  assert.equal(changed, false)
  assert.match(declined[0]!.reason, /searched already/)
  assert.deepEqual(encodeModel(model), before)
})

test('a quantiser that no layer reads, and a model without any', async () => {
  const net: Net = { op: 'Conv', activation: 'Relu', spread: 1 }
  const float = netOf(net)
  assert.equal((await runPass(float, 'search-ranges', {}, { calibration: inputs(net, 1) })).changed, false)
  const model = await quantise(net, 8)
  const { graph } = model
  const layer = [...graph.nodes()].find((n) => n.op === 'Conv')!
  const read = graph.append().op('Neg', [layer.input(0)])
  graph.replaceUses(layer.output, read)
  graph.remove(layer)
  const { changed, declined } = await runPass(model, 'search-ranges', {}, { calibration: inputs(net, 1) })
  assert.equal(changed, false)
  assert.match(declined[0]!.reason, /no layer reads it/)
})
