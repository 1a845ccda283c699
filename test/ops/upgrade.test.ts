/** Upgrades of single nodes: what samples do not show. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { findOp, ops, requireOp } from '../../src/ops/index.ts'
import { upgradeNode } from '../../src/ops/upgrade.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

const opsOf = (g: Graph): string[] => [...g.nodes()].map((n) => n.op)

test('a softmax over a symbolic batch keeps its form where the axis is the last of size above 1', () => {
  const { graph } = new Model(new Graph('g'), 7)
  const x = graph.addInput('x', { elem: 'float32', dims: ['batch', 10, 1, 1] })
  graph.addOutput(graph.append().op('Softmax', [x]))
  assert.equal(upgradeNode([...graph.nodes()][0]!, 7, 21), true)
  assert.deepEqual(opsOf(graph), ['Softmax'])
  assert.equal([...graph.nodes()][0]!.int('axis', 99), 1)
})

test('a softmax of unknown rank is flattened and brought back, under the old output name', () => {
  const { graph } = new Model(new Graph('g'), 11)
  const x = graph.addInput('x', { elem: 'float32', dims: null })
  const y = graph.append().op('Softmax', [x], { axis: 2 }, { name: 'y' })
  graph.addOutput(y)
  upgradeNode([...graph.nodes()][0]!, 11, 21)
  assert.deepEqual(opsOf(graph), ['Shape', 'Flatten', 'Softmax', 'Reshape'])
  assert.equal(graph.outputs[0]!.name, 'y')
  assert.equal(graph.outputs[0]!.producer?.op, 'Reshape')
})

test('the mask of an opset 7 dropout stays a float tensor', async () => {
  const model = new Model(new Graph('g'), 7)
  model.irVersion = 8
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: [2] })
  const [y, mask] = graph.append().ops('Dropout', [x], 2)
  graph.addOutput(y!)
  graph.addOutput(graph.append().op('Mul', [mask!, x]))
  upgradeNode([...graph.nodes()][0]!, 7, 21)
  model.setOpset(21)
  const session = await ortExecutor().load(model)
  const out = await session.run({ x: Tensor.float32([2], [3, -4]) })
  await session.dispose()
  assert.deepEqual(Object.keys(out).length, 2)
  assert.deepEqual([...out[y!.name]!.toFloat32()], [3, -4])
})

test('no step is taken for a node that is already there, nor for an unknown op', () => {
  const { graph } = new Model(new Graph('g'), 21)
  const x = graph.addInput('x', { elem: 'float32', dims: [2] })
  graph.append().op('Clip', [x])
  graph.append().op('Frobnicate', [x], {}, { domain: 'com.example' })
  for (const n of graph.nodes()) assert.equal(upgradeNode(n, 11, 21), false)
})

test('an unknown op is refused by domain, op and node', () => {
  const node = { op: 'Frobnicate', domain: 'com.example', id: 'frob_3' }
  assert.equal(findOp(node), undefined)
  assert.throws(() => requireOp(node), /'Frobnicate' of domain 'com.example'/)
  assert.throws(() => requireOp(node), { code: 'unknown-op', blame: 'model', node: 'frob_3' })
  for (const def of ops) assert.equal(requireOp({ op: def.op, domain: def.domain ?? '', id: 'n' }), def)
})
