/** smooth on nets built here: float outputs stay, the quantised net comes nearer, strengths are found one by one. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import type { AttributeLike } from '../../src/graph/attribute.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

const CHANNELS = 16

class Net {
  readonly graph = new Graph('net')
  readonly rng: Rng

  constructor(seed: number) {
    this.rng = new Rng(seed)
  }

  constant(dims: readonly number[], at: (i: number) => number): Value {
    const size = dims.reduce((a, b) => a * b, 1)
    return this.graph.addInitializer(
      'c',
      Tensor.float32(
        dims,
        Float32Array.from({ length: size }, (_, i) => at(i)),
      ),
    )
  }

  weight(...dims: number[]): Value {
    return this.constant(dims, () => this.rng.normal() / 4)
  }

  /** A few channels stand out. */
  uneven(...dims: number[]): Value {
    return this.constant(dims, (i) => (standsOut(i) ? 60 : 1) * this.rng.uniform(0.5, 1.5))
  }

  op(op: string, inputs: readonly Value[], attributes: Readonly<Record<string, AttributeLike>> = {}): Value {
    return this.graph.append().op(op, inputs, attributes)
  }

  input(...dims: (number | string)[]): Value {
    return this.graph.addInput('x', { elem: 'float32', dims })
  }

  model(...outputs: Value[]): Model {
    for (const v of outputs) this.graph.addOutput(v)
    const model = new Model(this.graph)
    model.opsets.set('', 23)
    return model
  }
}

const standsOut = (c: number): boolean => c % 7 === 3

/** Small weights for the channels that stand out, so that all matter alike. */
const product = (n: Net, x: Value, columns: number): Value =>
  n.op('MatMul', [
    x,
    n.constant([CHANNELS, columns], (i) => n.rng.normal() / (standsOut(Math.floor(i / columns)) ? 60 : 1)),
  ])

const makers: Readonly<Record<string, (n: Net) => Value>> = {
  LayerNormalization: (n) =>
    n.op('LayerNormalization', [n.input('N', 5, CHANNELS), n.uneven(CHANNELS), n.weight(CHANNELS)]),
  RMSNormalization: (n) => n.op('RMSNormalization', [n.input('N', 5, CHANNELS), n.uneven(CHANNELS)]),
  'a normalisation written out': (n) => {
    const x = n.input('N', 5, CHANNELS)
    const last = n.graph.append().ints([-1])
    const centred = n.op('Sub', [x, n.op('ReduceMean', [x, last])])
    const deviation = n.op('Sqrt', [n.op('ReduceMean', [n.op('Mul', [centred, centred]), last])])
    const scaled = n.op('Mul', [n.uneven(CHANNELS), n.op('Div', [centred, deviation])])
    return n.op('Add', [scaled, n.weight(CHANNELS)])
  },
  'a linear layer and a ReLU': (n) => {
    const wide = n.constant([6, CHANNELS], (i) => n.rng.normal() * (standsOut(i % CHANNELS) ? 60 : 1))
    return n.op('Relu', [n.op('Add', [n.op('MatMul', [n.input('N', 5, 6), wide]), n.weight(CHANNELS)])])
  },
}

const quantizedError = async (model: Model, float: Model): Promise<number> => {
  const q = cloneModel(model)
  const options = { ops: ['*'], weightBits: 8, activationBits: 8, firstLayer: 'quantize' } as const
  await runPass(q, 'quantize', options, { calibration: randomBatches(q, 4) })
  const [want, have] = [await runModel(float), await runModel(q)]
  return Object.entries(want).reduce((sum, [name, t]) => {
    const [x, y] = [t.toFloat32(), have[name]!.toFloat32()]
    const energy = x.reduce((e, v) => e + v * v, 0)
    return sum + x.reduce((e, v, i) => e + (v - y[i]!) ** 2, 0) / energy
  }, 0)
}

for (const [name, make] of Object.entries(makers))
  test(`${name} takes the factors of three layers that read it`, async () => {
    const n = new Net(3)
    const x = make(n)
    const model = n.model(product(n, x, 8), product(n, x, 12), product(n, n.op('Identity', [x]), 4))
    const float = cloneModel(model)
    const { changed, declined } = await runPass(model, 'smooth', {}, { calibration: randomBatches(model, 4) })
    assert.ok(changed, JSON.stringify(declined))
    const error = relativeError(await runModel(float), await runModel(model))
    assert.ok(error < 1e-5, `float outputs differ by ${error}`)
    const [before, after] = [await quantizedError(float, float), await quantizedError(model, float)]
    assert.ok(after < before / 4, `quantised outputs were off by ${before}, are by ${after}`)
    const once = encodeModel(model)
    assert.equal((await runPass(model, 'smooth', {}, { calibration: randomBatches(model, 4) })).changed, false)
    assert.deepEqual(encodeModel(model), once)
  })

test('1x1 convolutions behind a convolution; a 3x3 one beside them keeps them as they are', async () => {
  for (const kernel of [1, 3]) {
    const n = new Net(4)
    const first = n.constant([CHANNELS, 3, 3, 3], (i) => n.rng.normal() * (standsOut(Math.floor(i / 27)) ? 60 : 1))
    const x = n.op('Relu', [n.op('Conv', [n.input('N', 3, 6, 6), first, n.weight(CHANNELS)], { pads: [1, 1, 1, 1] })])
    const a = n.op('Conv', [x, n.weight(8, CHANNELS, 1, 1)])
    const b = n.op('Conv', [x, n.weight(6, CHANNELS, kernel, kernel)])
    const model = n.model(a, b)
    const float = cloneModel(model)
    const { changed, declined } = await runPass(model, 'smooth', {}, { calibration: randomBatches(model, 4) })
    assert.equal(changed, kernel === 1, JSON.stringify(declined))
    const error = relativeError(await runModel(float), await runModel(model))
    assert.ok(error < 1e-5, `float outputs differ by ${error}`)
    if (kernel === 3)
      assert.ok(
        declined.some((d) => /reads it, too/.test(d.reason)),
        JSON.stringify(declined),
      )
  }
})

test('each input gets a strength of its own, and even channels none', async () => {
  const n = new Net(5)
  const x = n.input('N', 5, CHANNELS)
  const norm = (scale: Value, v: Value): Value => n.op('LayerNormalization', [v, scale])
  const even = n.constant([CHANNELS], () => 1)
  const a = product(n, norm(n.uneven(CHANNELS), x), CHANNELS)
  const b = n.op('MatMul', [norm(even, a), n.constant([CHANNELS, CHANNELS], () => (n.rng.chance(0.5) ? 1 : -1))])
  const model = n.model(
    product(
      n,
      norm(
        n.constant([CHANNELS], (i) => (standsOut(i) ? 300 : 1)),
        b,
      ),
      3,
    ),
  )
  const log: string[] = []
  const before = weightLayers(model.graph).map((l) => l.tensor)
  const context = { calibration: randomBatches(model, 60), log: (line: string) => void log.push(line) }
  const { declined } = await runPass(model, 'smooth', { strengths: [0.5, 0.9] }, context)
  const moved = weightLayers(model.graph).map((l, i) => !l.tensor.equals(before[i]!))
  assert.deepEqual(moved, [true, false, true], `${JSON.stringify(declined)} ${log}`)
  assert.match(log.join('\n'), /at 0\.\d.*; .* at 0\.\d/)
})

test('nothing to smooth: says why at once', async () => {
  const n = new Net(6)
  const x = n.op('Gelu', [n.input('N', 5, CHANNELS)])
  const model = n.model(product(n, x, 4))
  const { changed, declined } = await runPass(model, 'smooth', {}, { calibration: { async *batches() {} } })
  assert.equal(changed, false)
  assert.match(declined[0]!.reason, /nothing before it can take a factor/)
})
