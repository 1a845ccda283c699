import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Model } from '../../../src/graph/model.ts'
import { inferTypes } from '../../../src/runtime/isolated/infer-types.ts'

test('types every value, keeps symbols, and fixes them where asked', async () => {
  const model = new Model()
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 4] })
  const y = graph.append().op('Relu', [x], {}, { name: 'y' })
  graph.addOutput(graph.append().op('Transpose', [y], {}, { name: 'z' }))
  await inferTypes(model)
  assert.deepEqual(y.type, { elem: 'float32', dims: ['N', 4] })
  await inferTypes(model, { dims: { N: 3 } })
  assert.deepEqual(graph.find('z')?.type, { elem: 'float32', dims: [4, 3] })
  assert.deepEqual(x.type?.dims, [3, 4])
})

test('tells a scalar from a value of unknown rank', async () => {
  const model = new Model()
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: [4] })
  const shape = graph.addInput('shape', { elem: 'int64', dims: ['rank'] })
  const b = graph.append()
  const sum = b.op('ReduceSum', [x], { keepdims: 0 }, { name: 'sum' })
  const open = b.op('Reshape', [x, shape], {}, { name: 'open' })
  const narrow = b.op('QuantizeLinear', [open, b.scalar(0.1), b.scalar(0, 'uint4')], {}, { name: 'narrow' })
  graph.addOutput(sum)
  graph.addOutput(open)
  graph.addOutput(b.op('DequantizeLinear', [narrow, b.scalar(0.1)]))
  await inferTypes(model)
  assert.deepEqual(sum.type?.dims, [])
  assert.deepEqual(open.type, { elem: 'float32', dims: null })
  assert.deepEqual(narrow.type, { elem: 'uint4', dims: null })
})
