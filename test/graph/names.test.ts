import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

test('a node keeps its name where its value takes another, and no later node gets it', async () => {
  const model = new Model(new Graph('g'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: [2] })
  const first = model.graph.append().op('Neg', [x])
  const output = model.graph.append().op('Abs', [first], {}, { name: 'y', type: x.type })
  model.graph.addOutput(output)
  // the replacement takes the output's name; its node stays neg_0_1
  model.graph.replaceUses(output, model.graph.append().op('Neg', [first]))
  const copy = cloneModel(model)
  const after = copy.graph.append().op('Neg', [copy.graph.find('y')!], {}, { type: x.type })
  copy.graph.addOutput(after)
  const names = [...copy.graph.nodes()].map((n) => n.name)
  assert.equal(new Set(names).size, names.length, names.join(' '))
  const session = await ortExecutor().load(copy)
  await session.dispose()
})
