import assert from 'node:assert/strict'
import { test } from 'node:test'
import { calibrationData } from '../../src/data/calibration.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementTypes } from '../../src/graph/types.ts'
import { runPass } from '../../src/passes/run-pass.ts'
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

/** An axis of open size, read by an operator that no engine here has, so that the model runs with no size. */
function unrunnable(layer: boolean): Model {
  const model = new Model(new Graph('open'))
  const { graph } = model
  model.opsets.set('own', 1)
  const x = graph.addInput('x', { elem: 'float32', dims: ['n', 'time'] })
  const b = graph.append()
  const w = b.initializer('w', Tensor.float32([4, 3], new Float32Array(12).fill(0.5)))
  const h = layer ? b.op('MatMul', [b.op('Reshape', [x, b.ints([-1, 4])]), w]) : x
  const y = b.op('Unknown', [h], {}, { domain: 'own', type: { elem: 'float32', dims: null } })
  graph.addOutput(y)
  return model
}

test('sizes of open dims are looked for where a batch is asked for, in the model as it was given', async () => {
  const options = { ops: ['MatMul'], firstLayer: 'quantize' } as const
  const calibration = await calibrationData(unrunnable(false), 'random', { limit: 4, batch: 4 })
  await assert.rejects(runPass(unrunnable(false), 'quantize', options, { calibration }), /has no MatMul layers/)
  const asked = await calibrationData(unrunnable(true), 'random', { limit: 4, batch: 4 })
  await assert.rejects(runPass(unrunnable(true), 'quantize', options, { calibration: asked }), /Unknown/)

  // the rows of a table bound its indices; once the table is quantised nothing would say so any more
  const text = new Model(new Graph('text'))
  const { graph } = text
  const ids = graph.addInput('ids', { elem: 'int64', dims: ['n', 'length'] })
  const b = graph.append()
  const table = b.initializer('table', Tensor.float32([5, 4], new Float32Array(20).fill(1)))
  const w = b.initializer('w', Tensor.float32([4, 3], new Float32Array(12).fill(1)))
  const y = b.op('MatMul', [b.op('Gather', [table, ids]), w], {}, { type: { elem: 'float32', dims: null } })
  graph.addOutput(y)
  const data = await calibrationData(text, 'random', { limit: 8, batch: 4 })
  await runPass(text, 'quantize', { ops: ['Gather', 'MatMul'], firstLayer: 'quantize' }, { calibration: data })
  const seen = new Set<number>()
  for await (const batch of data.batches())
    for (const v of batch.ids!.toNumbers() as ArrayLike<number> & Iterable<number>) seen.add(v)
  assert.deepEqual([...seen].sort(), [0, 1, 2, 3, 4])
})
