/** Blocks of networks that are made here: in a row, residual, gated, with several inputs, without cuts. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { blocksOf } from '../../src/layers/blocks.ts'
import { channelSlot } from '../../src/ops/index.ts'

const CHANNELS = 4

function start(): {
  graph: Graph
  x: Value
  conv: (x: Value, name: string) => Value
  op: (op: string, ...x: Value[]) => Value
} {
  const graph = new Graph('net')
  const b = graph.append()
  const x = graph.addInput('x', { elem: 'float32', dims: [1, CHANNELS, 5, 5] })
  const rng = new Rng(3)
  const weight = () =>
    Tensor.float32(
      [CHANNELS, CHANNELS, 1, 1],
      Float32Array.from({ length: CHANNELS ** 2 }, () => rng.normal()),
    )
  return {
    graph,
    x,
    conv: (v, name) => b.op('Conv', [v, b.initializer(`${name}.w`, weight())], {}, { name }),
    op: (op, ...v) => b.op(op, v, {}, { name: op.toLowerCase() }),
  }
}

const found = (graph: Graph, least = 1) =>
  blocksOf(graph, (n) => channelSlot(n) !== undefined, least).map(({ nodes, entries, exits }) => ({
    layers: nodes.filter((n) => channelSlot(n)).map((n) => n.name),
    entries: entries.map((v) => v.name),
    exits: exits.map((v) => v.name),
  }))

test('layers in a row are a block each, with what follows them; --layers joins them', () => {
  const { graph, x, conv, op } = start()
  const y = conv(op('Relu', conv(conv(op('Sigmoid', x), 'a'), 'b')), 'c')
  graph.addOutput(op('Softmax', y))
  assert.deepEqual(found(graph), [
    { layers: ['a'], entries: ['x'], exits: ['a'] },
    { layers: ['b'], entries: ['a'], exits: ['relu'] },
    { layers: ['c'], entries: ['relu'], exits: ['softmax'] },
  ])
  assert.deepEqual(
    found(graph, 2).map((f) => f.layers),
    [['a', 'b'], ['c']],
  )
  assert.deepEqual(
    found(graph, 9).map((f) => f.layers),
    [['a', 'b', 'c']],
  )
})

test('a residual branch is whole with its sum, and so is a nested one', () => {
  const { graph, x, conv, op } = start()
  const sum = op('Add', conv(op('Relu', conv(conv(x, 'stem'), 'a')), 'b'), graph.find('stem')!)
  const r = op('Relu', sum)
  const inner = op('Add', r, conv(r, 'c'))
  const outer = op('Add', r, conv(inner, 'd'))
  graph.addOutput(conv(outer, 'head'))
  assert.deepEqual(
    found(graph).map((f) => f.layers),
    [['stem'], ['a', 'b'], ['c', 'd'], ['head']],
  )
})

test('a gate is whole with what it is computed from', () => {
  const { graph, x, conv, op } = start()
  const h = op('HardSwish', conv(x, 'expand'))
  const gate = op('HardSigmoid', conv(op('Relu', conv(op('GlobalAveragePool', h), 'squeeze')), 'excite'))
  graph.addOutput(conv(op('Mul', h, gate), 'project'))
  assert.deepEqual(
    found(graph).map(({ layers, exits }) => [layers, exits]),
    [
      [['expand'], ['hardswish']],
      [['squeeze', 'excite'], ['mul']],
      [['project'], ['project']],
    ],
  )
})

test('a quantiser belongs to the layers that read it, constants to nobody', () => {
  const { graph, x, conv, op } = start()
  const b = graph.append()
  const h = op('Relu', conv(x, 'a'))
  const scale = b.initializer('s', Tensor.float32([], [0.1]))
  const zero = b.initializer('z', Tensor.from('uint8', [], [0]))
  const q = b.op('DequantizeLinear', [b.op('QuantizeLinear', [h, scale, zero]), scale, zero])
  graph.addOutput(conv(q, 'b'))
  assert.deepEqual(
    found(graph).map((f) => f.entries),
    [['x'], ['relu']],
  )
})

test('an output on the way leaves with its block; branches that never meet have the same entry', () => {
  const { graph, x, conv, op } = start()
  const early = conv(x, 'early')
  graph.addOutput(early)
  const h = conv(op('Relu', early), 'late')
  graph.addOutput(conv(h, 'left'))
  graph.addOutput(conv(h, 'right'))
  const blocks = found(graph)
  assert.deepEqual(
    blocks.map((f) => f.layers),
    [['early'], ['late'], ['left'], ['right']],
  )
  assert.deepEqual(
    blocks.slice(2).map(({ entries, exits }) => [entries, exits]),
    [
      [['late'], ['left']],
      [['late'], ['right']],
    ],
  )
})

test('two inputs enter the first block; a network without cuts is one block', () => {
  const { graph, x, conv, op } = start()
  const other = graph.addInput('other', { elem: 'float32', dims: [1, CHANNELS, 5, 5] })
  const joined = op('Add', conv(x, 'a'), conv(other, 'b'))
  graph.addOutput(op('Add', conv(op('Relu', joined), 'c'), x))
  assert.deepEqual(found(graph), [{ layers: ['a', 'b', 'c'], entries: ['x', 'other'], exits: ['add_1'] }])
})
