/** equalize on nets that are made here: the same outputs in onnxruntime, ranges that are alike. */
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

  op(op: string, inputs: readonly Value[], attributes: Attributes = {}): Value {
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

test('random networks give what they gave', async () => {
  let changes = 0
  for (let seed = 900; seed < 960; seed++) {
    const model = randomGraph(seed)
    const before = cloneModel(model)
    const { changed } = await runPass(model, 'equalize', {})
    if (changed) changes++
    const error = relativeError(await runModel(before), await runModel(model))
    assert.ok(error < 2e-5, `seed ${seed}: outputs differ by ${error}`)
    assert.equal((await runPass(model, 'equalize', {})).changed, false, `seed ${seed}`)
  }
  assert.ok(changes >= 5, `${changes} networks changed`)
})
