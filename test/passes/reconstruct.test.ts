/** reconstruct on nets that are made here, its results measured by onnxruntime. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { weightLayers } from '../../src/layers/layers.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'
import { outputs } from '../support/outputs.ts'

const CHANNELS = 6
const BATCH = 8

const nets = ['residual', 'gated', 'matrices'] as const
type Net = (typeof nets)[number]

function netOf(net: Net, batch: number | string = 'N'): Model {
  const graph = new Graph('net')
  const b = graph.append()
  const rng = new Rng(5)
  const dims = net === 'matrices' ? [batch, CHANNELS] : [batch, CHANNELS, 6, 6]
  const x = graph.addInput('x', { elem: 'float32', dims })
  const normal = (...shape: number[]): Tensor => {
    const size = shape.reduce((p, q) => p * q, 1)
    const width = Math.sqrt(size / shape[0]!)
    return Tensor.float32(
      shape,
      Float32Array.from({ length: size }, () => rng.normal() / width),
    )
  }
  const conv = (v: Value, name: string, kernel = 3, group = 1): Value => {
    const w = b.initializer(`${name}.w`, normal(CHANNELS, CHANNELS / group, kernel, kernel))
    const bias = b.initializer(`${name}.b`, normal(CHANNELS))
    return b.op('Conv', [v, w, bias], { group, pads: new Array<number>(4).fill((kernel - 1) / 2) }, { name })
  }
  const matrix = (v: Value, name: string): Value =>
    b.op('MatMul', [v, b.initializer(`${name}.w`, normal(CHANNELS, CHANNELS))], {}, { name })
  const act = (op: string, ...v: Value[]): Value => b.op(op, v)
  const makes = {
    residual: () => {
      const stem = act('Relu', conv(x, 'stem'))
      const branch = conv(act('Relu', conv(stem, 'first')), 'second')
      return conv(act('Relu', act('Add', branch, stem)), 'head', 1)
    },
    gated: () => {
      const h = act('HardSwish', conv(x, 'depthwise', 3, CHANNELS))
      const squeezed = act('Relu', conv(act('GlobalAveragePool', h), 'squeeze', 1))
      return conv(act('Mul', h, act('HardSigmoid', conv(squeezed, 'excite', 1))), 'project', 1)
    },
    matrices: () => matrix(act('Tanh', matrix(act('Relu', matrix(x, 'a')), 'b')), 'c'),
  }
  graph.addOutput(makes[net]())
  const model = new Model(graph)
  model.opsets.set('', 21)
  return model
}

function inputs(net: Net, seed: number, batches = 24): CalibrationData {
  const rng = new Rng(seed)
  const dims = net === 'matrices' ? [BATCH, CHANNELS] : [BATCH, CHANNELS, 6, 6]
  const all = Array.from({ length: batches }, () => ({
    x: Tensor.float32(
      dims,
      Float32Array.from({ length: dims.reduce((p, q) => p * q, 1) }, () => rng.normal()),
    ),
  }))
  return {
    async *batches() {
      yield* all
    },
  }
}

async function distance(a: Model, b: Model, data: CalibrationData): Promise<number> {
  const [x, y] = [await outputs(a, data), await outputs(b, data)]
  return x.reduce((sum, v, i) => sum + (v - y[i]!) ** 2, 0) / x.reduce((sum, v) => sum + v * v, 0)
}

const bits = { ops: ['*'], weightBits: 4, activationBits: 4, firstLayer: 'quantize' } as const

async function quantised(net: Net): Promise<Model> {
  const model = netOf(net)
  await runPass(model, 'quantize', bits, { calibration: inputs(net, 1) })
  return model
}

async function reconstructed(from: Model, net: Net, options = {}, seed = 0): Promise<Model> {
  const model = cloneModel(from)
  await runPass(model, 'reconstruct', { steps: 120, ...options }, { calibration: inputs(net, 1), seed })
  return model
}

for (const net of nets)
  for (const [rounding, rate] of [
    ['direct', 0.3],
    ['adaround', 1],
  ] as const)
    test(`${net}, ${rounding}: outputs on other inputs come nearer to the float network`, async () => {
      const q = await quantised(net)
      const float = netOf(net)
      const held = inputs(net, 9)
      const before = await distance(float, q, held)
      const made = await reconstructed(q, net, {
        rounding,
        layers: 4,
        start: 'nearest',
        drop: 0,
        steps: 200,
        rate,
      })
      const after = await distance(float, made, held)
      assert.ok(after < before, `${before} -> ${after}`)
    })

test('zero points of output channels of their own: each channel keeps to its range', async () => {
  const steps = 0.05
  const model = netOf('matrices')
  const { graph } = model
  const zeros = Tensor.from('uint8', [CHANNELS], [0, 128, 64, 128, 200, 255])
  for (const name of ['a', 'b', 'c']) {
    const weight = graph.find(`${name}.w`)!
    const product = [...weight.uses][0]!
    const b = graph.before(product)
    const [scale, zero] = [
      b.initializer(`${name}.scale`, Tensor.float32([CHANNELS], new Float32Array(CHANNELS).fill(steps))),
      b.initializer(`${name}.zero`, zeros),
    ]
    const q = b.op('QuantizeLinear', [weight, scale, zero], { axis: 1 })
    product.setInput(1, b.op('DequantizeLinear', [q, scale, zero], { axis: 1 }))
  }
  // beyond the grid nothing can come near: how much does, says whether a channel was taken for another
  const float = netOf('matrices')
  const made = cloneModel(model)
  const { declined, changed } = await runPass(
    made,
    'reconstruct',
    { steps: 60, start: 'nearest', drop: 0, rate: 0.3 },
    { calibration: inputs('matrices', 1) },
  )
  assert.ok(changed, JSON.stringify(declined))
  const held = inputs('matrices', 9)
  const [before, after] = [await distance(float, model, held), await distance(float, made, held)]
  assert.ok(after < before, `${before} -> ${after}`)
})

test('fewer samples than a model of one batch takes are enough', async () => {
  const model = netOf('residual', BATCH)
  await runPass(model, 'quantize', bits, { calibration: inputs('residual', 1) })
  for (const loss of ['fisher', 'nmse'] as const) {
    const data = { ...inputs('residual', 1, 1), samples: BATCH - 3, isWhole: true }
    const { changed } = await runPass(cloneModel(model), 'reconstruct', { steps: 20, loss }, { calibration: data })
    assert.ok(changed)
  }
})

test('--rate is a factor of the rate of roundings, too', async () => {
  const q = await quantised('matrices')
  const weightsAt = async (rate: number): Promise<number[]> => {
    const options = { rounding: 'adaround', start: 'nearest', steps: 30, rate } as const
    const made = await reconstructed(q, 'matrices', options)
    return weightLayers(made.graph).flatMap((l) => [...l.tensor.toFloat32()])
  }
  // hardly a step from where they began against far
  assert.notDeepEqual(await weightsAt(1e-6), await weightsAt(3))
})

/** Weights as multiples of their steps, and as they were in float. */
function onGrid(model: Model, float: Model): { readonly q: number; readonly x: number }[] {
  return weightLayers(model.graph).flatMap((l) => {
    const steps = l.quant!.scale.constant!.toNumbers()
    const inner = l.tensor.dims.slice(l.outputAxis! + 1).reduce((p, q) => p * q, 1)
    const before = float.graph.find(l.weight.name)!.constant!.toFloat32()
    return Array.from(l.tensor.toFloat32(), (w, i) => {
      const s = steps[Math.floor(i / inner) % steps.length]!
      return { q: w / s, x: before[i]! / s }
    })
  })
}

test('adaround ends at the number below or above each weight, and not always at the nearest', async () => {
  const q = await quantised('residual')
  const model = await reconstructed(q, 'residual', { rounding: 'adaround', start: 'nearest', steps: 200 })
  const grid = onGrid(model, q)
  for (const { q, x } of grid) {
    assert.ok(Math.abs(q - Math.round(q)) < 1e-4, `${q} is on the grid`)
    const [below, above] = [Math.floor(x - 1e-4), Math.ceil(x + 1e-4)].map((n) => Math.min(7, Math.max(-8, n)))
    assert.ok(q > below! - 1e-3 && q < above! + 1e-3, `${x} became ${q}`)
  }
  const others = grid.filter(({ q, x }) => Math.abs(q - Math.min(7, Math.max(-8, Math.round(x)))) > 0.5)
  assert.ok(others.length > 0.02 * grid.length, `${others.length} of ${grid.length} are not the nearest`)
})

test('direct training ends on the grid too', async () => {
  const q = await quantised('gated')
  for (const { q: integer } of onGrid(await reconstructed(q, 'gated'), q)) {
    assert.ok(Math.abs(integer - Math.round(integer)) < 1e-4)
    assert.ok(integer > -8.01 && integer < 7.01)
  }
})

test('the same seed makes the same bytes, another one others', async () => {
  const q = await quantised('matrices')
  const make = async (seed: number) =>
    Buffer.from(encodeModel(await reconstructed(q, 'matrices', { start: 'nearest' }, seed))).toString('base64')
  const [a, again, other] = [await make(1), await make(1), await make(2)]
  assert.equal(a, again)
  assert.notEqual(a, other)
})

test('pruned weights stay zeros', async () => {
  const model = netOf('residual')
  await runPass(model, 'prune', { sparsity: 0.5 })
  await runPass(model, 'quantize', bits, { calibration: inputs('residual', 1) })
  const made = await reconstructed(model, 'residual')
  for (const l of weightLayers(made.graph)) {
    const mask = l.mask?.constant?.toFloat32()
    if (mask) for (const [i, w] of l.tensor.toFloat32().entries()) assert.ok(mask[i] === 1 || w === 0)
  }
})

test('behind round-weights it is too late: the float weights are gone', async () => {
  const q = await quantised('matrices')
  await runPass(q, 'round-weights', {}, { calibration: inputs('matrices', 1) })
  const reasons: string[] = []
  const context = { calibration: inputs('matrices', 1), decline: (_: string, reason: string) => reasons.push(reason) }
  const { changed } = await runPass(q, 'reconstruct', {}, context)
  assert.equal(changed, false)
  assert.deepEqual(new Set(reasons), new Set(['its weights lie on the grid already']))
})

test('layers that are not to be trained keep their weights, and unquantised ones are named', async () => {
  const q = await quantised('residual')
  const made = await reconstructed(q, 'residual', {
    exclude: ['second'],
    start: 'nearest',
    rounding: 'adaround',
    drop: 0,
    steps: 200,
  })
  const of = (model: Model, name: string) => Array.from(model.graph.find(name)!.constant!.toFloat32())
  assert.deepEqual(of(made, 'second.w'), of(q, 'second.w'))
  assert.notDeepEqual(of(made, 'first.w'), of(q, 'first.w'))
  const declined: string[] = []
  const float = netOf('matrices')
  const { changed } = await runPass(
    float,
    'reconstruct',
    {},
    { calibration: inputs('matrices', 1), decline: (where, reason) => declined.push(`${where}: ${reason}`) },
  )
  assert.equal(changed, false)
  assert.deepEqual(
    declined,
    ['a', 'b', 'c'].map((name) => `${name}: its weights have no quantiser`),
  )
})
