/** equalize on nets built here: the same outputs in onnxruntime, and equal ranges. */
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
import { constantOf } from '../../src/ops/facts.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { outputs } from '../support/outputs.ts'
import { randomGraph } from '../support/random-graph.ts'
import { relativeError, runModel } from './golden.ts'

type Attributes = Readonly<Record<string, AttributeLike>>

class Net {
  readonly graph = new Graph('net')
  readonly rng: Rng

  constructor(seed: number) {
    this.rng = new Rng(seed)
  }

  /** Rows and columns of very different sizes. */
  weight(dims: readonly number[]): Value {
    const scales = Array.from({ length: 64 }, () => 2 ** this.rng.uniform(-4, 4))
    const inner = dims.slice(1).reduce((a, b) => a * b, 1)
    const size = inner * dims[0]!
    const values = Float32Array.from({ length: size }, (_, i) => {
      const [row, column] = [Math.floor(i / inner), Math.floor((i % inner) / (inner / dims[1]!))]
      return this.rng.uniform(-1, 1) * scales[row]! * scales[(7 * column + 3) % 64]!
    })
    return this.graph.addInitializer('w', Tensor.float32(dims, values))
  }

  op(op: string, inputs: readonly (Value | null)[], attributes: Attributes = {}): Value {
    return this.graph.append().op(op, inputs, attributes)
  }

  model(output: Value): Model {
    this.graph.addOutput(output)
    const model = new Model(this.graph)
    model.opsets.set('', 21)
    return model
  }
}

const BETWEEN: Readonly<Record<string, (n: Net, x: Value) => Value>> = {
  nothing: (_, x) => x,
  Relu: (n, x) => n.op('Relu', [x]),
  LeakyRelu: (n, x) => n.op('LeakyRelu', [x]),
  PRelu: (n, x) => n.op('PRelu', [x, n.graph.addInitializer('s', Tensor.float32([4, 1, 1], [0.1, 0.2, 0.3, 0.4]))]),
  MaxPool: (n, x) => n.op('MaxPool', [n.op('Relu', [x])], { kernel_shape: [2, 2] }),
  AveragePool: (n, x) => n.op('AveragePool', [x], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
  Pad: (n, x) => n.op('Pad', [x, n.graph.append().ints([0, 0, 1, 0, 0, 0, 0, 2])]),
  'reflecting Pad': (n, x) => n.op('Pad', [x, n.graph.append().ints([0, 0, 1, 0, 0, 0, 0, 2])], { mode: 'reflect' }),
  ReduceMax: (n, x) => n.op('ReduceMax', [x, n.graph.append().ints([-1])], { keepdims: 1 }),
  ReduceL2: (n, x) => n.op('ReduceL2', [x, n.graph.append().ints([2, 3])], { keepdims: 1 }),
  Resize: (n, x) => {
    const scales = n.graph.addInitializer('scales', Tensor.float32([4], [1, 1, 2, 2]))
    return n.op('Resize', [x, null, scales], { mode: 'linear' })
  },
  'an added constant': (n, x) => n.op('Relu', [n.op('Add', [n.graph.addInitializer('c', Tensor.scalar(0.7)), x])]),
  'a product and a quotient': (n, x) => {
    const k = n.graph.addInitializer('k', Tensor.float32([4, 1, 1], [3, 0.5, 2, 0.25]))
    return n.op('Div', [n.op('Mul', [k, x]), n.graph.addInitializer('two', Tensor.scalar(2))])
  },
  'Max with a number a channel': (n, x) =>
    n.op('Max', [x, n.graph.addInitializer('m', Tensor.float32([1, 4, 1, 1], [-0.1, 0.2, 0, 0.4]))]),
  Transpose: (n, x) => {
    const last = n.op('Transpose', [x], { perm: [0, 2, 3, 1] })
    const biased = n.op('Sub', [last, n.graph.addInitializer('t', Tensor.float32([4], [1, 0, -2, 3]))])
    return n.op('Transpose', [biased], { perm: [0, 3, 1, 2] })
  },
  'Pad of channels that are sliced off again': (n, x) => {
    const ints = (...list: number[]): Value => n.graph.append().ints(list)
    const padded = n.op('Pad', [x, ints(0, 1, 0, 0, 0, 2, 0, 0)])
    return n.op('Slice', [padded, ints(1), ints(-2), ints(1)])
  },
  'Split and Concat': (n, x) => {
    const parts = n.graph.append().ops('Split', [x, n.graph.append().ints([1, 3])], 2, { axis: 1 })
    return n.op('Concat', [n.op('Relu', [parts[0]!]), n.op('LeakyRelu', [parts[1]!])], { axis: 1 })
  },
  'a sum of its own branches': (n, x) =>
    n.op('Sum', [n.op('Relu', [x]), n.op('MaxPool', [x], { kernel_shape: [1, 1] })]),
  depthwise: (n, x) => n.op('Conv', [x, n.weight([4, 1, 3, 3])], { group: 4, pads: [1, 1, 1, 1] }),
}

/** Whether the largest weights of the first layer's rows and the last layer's columns are the same. */
function assertEven(model: Model, what: string): void {
  const layers = weightLayers(model.graph)
  const first = layers[0]!.tensor
  const size = first.size / 4
  const rows = [0, 1, 2, 3].map((o) =>
    Math.max(
      ...first
        .toFloat32()
        .subarray(o * size, (o + 1) * size)
        .map(Math.abs),
    ),
  )
  const next = layers[1]!
  const w = next.tensor.toFloat32()
  const columns = [0, 0, 0, 0]
  const isDepthwise = next.node.int('group', 1) === 4
  const [ins, inner] = [next.tensor.dims[1]!, next.tensor.dims.slice(2).reduce((a, b) => a * b, 1)]
  for (const [i, x] of w.entries()) {
    const c = isDepthwise ? Math.floor(i / inner) : Math.floor(Math.floor(i / inner) % ins)
    columns[c] = Math.max(columns[c]!, Math.abs(x))
  }
  for (const c of [0, 1, 2, 3])
    assert.ok(Math.abs(Math.log(rows[c]! / columns[c]!)) < 4e-3, `${what}, channel ${c}: ${rows[c]} and ${columns[c]}`)
}

for (const [name, between] of Object.entries(BETWEEN))
  test(`through ${name}: outputs stay, ranges are even`, async () => {
    const n = new Net(5)
    const x = n.graph.addInput('x', { elem: 'float32', dims: ['N', 3, 6, 6] })
    const bias = n.graph.addInitializer('b', Tensor.float32([4], [1, -2, 0.5, 3]))
    const a = n.op('Conv', [x, n.weight([4, 3, 3, 3]), bias])
    const model = n.model(n.op('Conv', [between(n, a), n.weight([5, 4, 1, 1])]))
    const before = cloneModel(model)
    const { changed } = await runPass(model, 'equalize', {})
    assert.ok(changed)
    assertEven(model, name)
    const error = relativeError(await runModel(before), await runModel(model))
    assert.ok(error < 1e-5, `outputs differ by ${error}`)
    const once = encodeModel(model)
    assert.equal((await runPass(model, 'equalize', {})).changed, false)
    assert.deepEqual(encodeModel(model), once)
  })

test('several readers, flattened channels, MatMul with an Add of rank 3', async () => {
  const n = new Net(6)
  const x = n.graph.addInput('x', { elem: 'float32', dims: [2, 3, 5, 5] })
  const r = n.op('Relu', [n.op('ConvTranspose', [x, n.weight([3, 4, 2, 2])], { strides: [2, 2] })])
  const left = n.op('Conv', [r, n.weight([2, 4, 3, 3])], { strides: [3, 3] })
  const pooled = n.op('Flatten', [n.op('MaxPool', [r], { kernel_shape: [5, 5], strides: [5, 5] })])
  const right = n.op('Gemm', [pooled, n.weight([16, 2])])
  const rows = n.op('Reshape', [left, n.graph.append().ints([2, 3, 6])])
  const m = n.op('MatMul', [rows, n.weight([6, 4])])
  const added = n.op('Add', [m, n.graph.addInitializer('b', Tensor.float32([4], [1, 2, -3, 4]))])
  const y = n.op('MatMul', [n.op('Relu', [added]), n.weight([4, 3])])
  n.graph.addOutput(right)
  const model = n.model(y)
  const before = cloneModel(model)
  const { changed, declined } = await runPass(model, 'equalize', {})
  assert.ok(changed)
  // the layers at the ends, and the one that a Reshape of channels follows
  assert.equal(declined.length, 3, JSON.stringify(declined))
  const error = relativeError(await runModel(before), await runModel(model))
  assert.ok(error < 1e-5, `outputs differ by ${error}`)
  const moved = weightLayers(model.graph).filter((l, i) => !l.tensor.equals(weightLayers(before.graph)[i]!.tensor))
  assert.equal(moved.length, 5)
})

const sameOutputs = async (model: Model, options: Readonly<Record<string, unknown>> = {}) => {
  const before = cloneModel(model)
  const result = await runPass(model, 'equalize', options)
  const error = relativeError(await runModel(before), await runModel(model))
  assert.ok(error < 1e-5, `outputs differ by ${error}`)
  const once = encodeModel(model)
  assert.equal((await runPass(model, 'equalize', options)).changed, false)
  assert.deepEqual(encodeModel(model), once)
  const names = weightLayers(before.graph).map((l) => l.name)
  const now = weightLayers(model.graph)
  const moved = weightLayers(before.graph).flatMap((l, i) => (l.tensor.equals(now[i]!.tensor) ? [] : [names[i]!]))
  return { ...result, names, moved, before }
}

test('branches of a residual stream share their factors', async () => {
  const n = new Net(7)
  const x = n.graph.addInput('x', { elem: 'float32', dims: ['N', 3, 6, 6] })
  const pads = { pads: [1, 1, 1, 1] }
  let stream = n.op('Relu', [n.op('Conv', [x, n.weight([4, 3, 3, 3])], pads)])
  for (let i = 0; i < 3; i++) {
    const inner = n.op('Relu', [n.op('Conv', [stream, n.weight([6, 4, 1, 1])])])
    stream = n.op('Relu', [n.op('Add', [n.op('Conv', [inner, n.weight([4, 6, 3, 3])], pads), stream])])
  }
  const y = n.op('Gemm', [n.op('Flatten', [n.op('GlobalAveragePool', [stream])]), n.weight([4, 5])])
  const whole = n.model(y)
  const pairs = await sameOutputs(cloneModel(whole), { sums: 'leave' })
  assert.deepEqual(pairs.moved, pairs.names.slice(1, -1))
  assert.match(pairs.declined[0]!.reason, /^Add .* --sums share gives them all one factor$/)
  const { changed, declined, moved, names } = await sameOutputs(whole)
  assert.ok(changed)
  assert.deepEqual(moved, names)
  assert.deepEqual(
    declined.map((d) => d.where),
    names.slice(-1),
  )
})

test('a gate that is computed from its own channels compensates for them', async () => {
  const n = new Net(8)
  const x = n.graph.addInput('x', { elem: 'float32', dims: ['N', 3, 6, 6] })
  const a = n.op('Relu', [n.op('Conv', [x, n.weight([4, 3, 3, 3])])])
  const squeezed = n.op('Relu', [n.op('Conv', [n.op('GlobalAveragePool', [a]), n.weight([2, 4, 1, 1])])])
  const gate = n.op('Sigmoid', [n.op('Conv', [squeezed, n.weight([4, 2, 1, 1])])])
  const y = n.op('Conv', [n.op('Mul', [gate, a]), n.weight([5, 4, 1, 1])])
  const { declined, moved, names } = await sameOutputs(n.model(y))
  assert.deepEqual(moved, names)
  assert.match(declined[0]!.reason, /^Sigmoid .* reads it$/)
})

for (const opset of [9, 21])
  test(`limits of a Clip of opset ${opset}: left alone, or one for each channel`, async () => {
    const net = (): Model => {
      const n = new Net(9)
      const x = n.graph.addInput('x', { elem: 'float32', dims: ['N', 3, 6, 6] })
      const limit = (v: number): Value => n.graph.addInitializer('limit', Tensor.scalar(v))
      const clip = (v: Value, lo: number, hi: number): Value =>
        opset < 11 ? n.op('Clip', [v], { min: lo + 0.001, max: hi + 0.001 }) : n.op('Clip', [v, limit(lo), limit(hi)])
      const a = clip(n.op('Conv', [x, n.weight([4, 3, 3, 3])]), 0, 2.5)
      const b = clip(n.op('Conv', [a, n.weight([4, 1, 3, 3])], { group: 4 }), -0.5, 3.5)
      const model = n.model(n.op('Conv', [b, n.weight([5, 4, 1, 1])]))
      model.opsets.set('', opset)
      return model
    }
    const kept = await sameOutputs(net())
    assert.equal(kept.changed, false)
    assert.match(kept.declined[0]!.reason, /^Clip .* --clips per-channel gives each its own$/)
    const split = await sameOutputs(net(), { clips: 'per-channel' })
    assert.deepEqual(split.moved, split.names)
  })

test('a branch that cannot be scaled keeps the others from it, and the reason says which', async () => {
  const n = new Net(10)
  const x = n.graph.addInput('x', { elem: 'float32', dims: ['N', 3, 6, 6] })
  const a = n.op('Conv', [x, n.weight([3, 3, 1, 1])])
  const b = n.op('Conv', [n.op('Add', [a, x]), n.weight([4, 3, 1, 1])])
  const joined = n.op('Concat', [n.op('Relu', [b]), x], { axis: 1 })
  const c = n.op('Conv', [joined, n.weight([4, 7, 1, 1])])
  const y = n.op('Conv', [n.op('HardSwish', [c]), n.weight([2, 4, 1, 1])])
  const { declined, moved, names } = await sameOutputs(n.model(y))
  assert.deepEqual(moved, names.slice(1, 3))
  const reasons = Object.fromEntries(declined.map((d) => [d.where, d.reason]))
  assert.match(reasons[names[0]!]!, /joins it with 'x', which cannot be scaled likewise/)
  assert.match(reasons[names[2]!]!, /^HardSwish .* reads it$/)
})

/** Depthwise layer, normalisation with a large shift, ReLU, a layer; `pads`: of the latter. Each channel is within 1.8 deviations for inputs in [-1, 1]. */
function highBiases(pads: number): Model {
  const n = new Net(12)
  const x = n.graph.addInput('x', { elem: 'float32', dims: [32, 4, 6, 6] })
  const w = Float32Array.of(0.5, -2, 1, 3)
  const constant = (values: ArrayLike<number>): Value =>
    n.graph.addInitializer('c', Tensor.float32([values.length], Float32Array.from(values)))
  const depthwise = n.op('Conv', [x, n.graph.addInitializer('w', Tensor.float32([4, 1, 1, 1], w))], { group: 4 })
  const variances = Array.from(w, (v) => v ** 2 / 3)
  const statistics = [[1, 0.5, 2, 1], [9, 2, 0, 5], [0, 0, 0, 0], variances].map(constant)
  const relu = n.op('Relu', [n.op('BatchNormalization', [depthwise, ...statistics])])
  const kernel = pads > 0 ? 3 : 1
  return n.model(n.op('Conv', [relu, n.weight([5, 4, kernel, kernel])], { pads: new Array<number>(4).fill(pads) }))
}

async function folded(pads: number): Promise<Model> {
  const model = highBiases(pads)
  await runPass(model, 'fold-bn')
  return model
}

type Feeds = Readonly<Record<string, Tensor>>

const uniform = (size: number): Feeds => {
  const rng = new Rng(77)
  const values = Float32Array.from({ length: 32 * 4 * 36 }, () => rng.uniform(-size, size))
  return { x: Tensor.float32([32, 4, 6, 6], values) }
}

test('--absorb: what a channel has in any case goes behind the ReLU; outputs stay while no channel falls below', async () => {
  const model = await folded(0)
  const before = cloneModel(model)
  await runPass(before, 'equalize')
  assert.equal((await runPass(model, 'equalize', { absorb: true })).changed, true)
  const [inside, outside] = [uniform(1), uniform(8)]
  const given = (m: Model, feeds: Feeds) =>
    outputs(m, {
      async *batches() {
        yield feeds
      },
    })
  const error = async (feeds: Feeds): Promise<number> => {
    const [a, b] = [await given(before, feeds), await given(model, feeds)]
    return Math.max(...a.map((v, i) => Math.abs(v - b[i]!))) / Math.max(...a.map(Math.abs))
  }
  assert.ok((await error(inside)) < 1e-5)
  assert.ok((await error(outside)) > 1e-3, 'a channel that falls below is cut off')
  const inner = async (m: Model): Promise<number> => {
    const copy = cloneModel(m)
    const relu = [...copy.graph.nodes()].find((n) => n.is('Relu'))!.output
    for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
    copy.graph.addOutput(relu)
    return Math.max(...(await given(copy, inside)))
  }
  assert.ok((await inner(model)) < 0.8 * (await inner(before)), 'the range between the layers is smaller')
  assert.equal((await runPass(model, 'equalize', { absorb: true })).changed, false)
})

test('--absorb leaves layers alone that pad, whose borders see zeros', async () => {
  const model = await folded(1)
  const before = cloneModel(model)
  await runPass(before, 'equalize')
  await runPass(model, 'equalize', { absorb: true })
  const biases = (m: Model) => [...m.graph.nodes()].filter((n) => n.is('Conv')).map((n) => constantOf(n.inputs[2]))
  assert.deepEqual(biases(model), biases(before))
})

test('random networks compute the same as before', async () => {
  let changes = 0
  for (let seed = 900; seed < 960; seed++) {
    const options = { clips: seed % 2 === 0 ? 'keep' : 'per-channel' } as const
    const model = randomGraph(seed)
    const before = cloneModel(model)
    const { changed } = await runPass(model, 'equalize', options)
    if (changed) changes++
    const error = relativeError(await runModel(before), await runModel(model))
    assert.ok(error < 2e-5, `seed ${seed}: outputs differ by ${error}`)
    assert.equal((await runPass(model, 'equalize', options)).changed, false, `seed ${seed}`)
  }
  assert.ok(changes >= 5, `${changes} networks changed`)
})
