/** Quantising models that are not float32: the result loads in onnxruntime, and what would not load is declined. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { ElementType } from '../../src/graph/types.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { randomBatches, relativeError, runModel } from './golden.ts'

/** MatMul -> Relu -> MatMul, no value_info in between. */
function mlp(elem: ElementType): Model {
  const model = new Model()
  const rng = new Rng(1)
  const b = model.graph.append()
  const matrix = (name: string, dims: readonly [number, number]) => {
    const values = Array.from({ length: dims[0] * dims[1] }, () => rng.uniform(-1, 1))
    return b.initializer(name, Tensor.from(elem, dims, values))
  }
  const x = model.graph.addInput('x', { elem, dims: [1, 8] })
  const h = b.op('Relu', [b.op('MatMul', [x, matrix('w1', [8, 16])], {}, { name: 'a' })])
  const y = b.op('MatMul', [h, matrix('w2', [16, 4])], {}, { name: 'b' })
  y.setType({ elem, dims: [1, 4] })
  model.graph.addOutput(y)
  return model
}

const all = { ops: ['MatMul'], firstLayer: 'quantize' } as const

test('float16 without value_info: scales have the type that is computed', async () => {
  const model = mlp('float16')
  const before = await runModel(model)
  await pass(model, 'quantize', { ...all, weightBits: 8, activationBits: 8 }, { calibration: randomBatches(model, 2) })
  assert.equal([...model.graph.nodes()].filter((n) => n.op === 'QuantizeLinear').length, 4)
  assert.ok(relativeError(before, await runModel(model)) < 0.1)
})

test('float64, which QuantizeLinear does not take, is declined', async () => {
  const model = mlp('float64')
  const { declined } = await pass(model, 'quantize', all, { calibration: randomBatches(model, 1) })
  assert.deepEqual(
    declined.map((d) => `${d.where}: ${d.reason}`),
    ['a: its weights are float64', 'b: its weights are float64', 'a: its input is float64', 'b: its input is float64'],
  )
  await runModel(model)
})
