import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementTypes } from '../../src/graph/types.ts'
import { randomInputs } from '../../src/samples/random-inputs.ts'

test('integers stay within what their readers take, open dims take a size that runs', async () => {
  const model = new Model(new Graph('text'))
  const { graph } = model
  const ids = graph.addInput('ids', { elem: 'int64', dims: ['batch', 'length'] })
  const mode = graph.addInput('mode', { elem: 'int32', dims: [] })
  const flag = graph.addInput('flag', { elem: 'bool', dims: ['batch'] })
  const half = graph.addInput('half', { elem: 'float16', dims: ['batch', 3] })
  const b = graph.append()
  const table = b.initializer('table', Tensor.float32([5, 2], new Float32Array(10)))
  // only 64 positions fit the shape that the graph asks for
  const rows = b.op('Reshape', [b.op('Gather', [table, ids]), b.ints([-1, 64, 2])])
  graph.addOutput(rows)
  graph.addOutput(b.op('Equal', [mode, b.scalar(16000, 'int32')]))
  graph.addOutput(b.op('Not', [flag]))
  graph.addOutput(b.op('Cast', [half], { to: elementTypes.float32.code }))
  const { dims, batch, feeds } = await randomInputs(model, 3)
  assert.equal(batch, 3)
  assert.deepEqual(dims, { ids: [3, 64], mode: [], flag: [3], half: [3, 3] })
  const once = feeds(7, 1)
  const values = Array.from(once.ids!.toNumbers())
  assert.ok(values.every((v) => v >= 0 && v < 5) && new Set(values).size === 5)
  assert.equal(once.mode!.item(), 16000)
  assert.ok(feeds(7, 1).half!.equals(once.half!), 'the same keys, the same numbers')
  assert.ok(!feeds(7, 2).half!.equals(once.half!))
})

test('text has no random values', async () => {
  const model = new Model(new Graph('words'))
  const words = model.graph.addInput('words', { elem: 'string', dims: [2] })
  model.graph.addOutput(model.graph.append().op('Identity', [words]))
  await assert.rejects(randomInputs(model, 1), /no random values for input 'words' of type string\[2\]/)
})
