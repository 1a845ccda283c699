import assert from 'node:assert/strict'
import test from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Graph, type Node, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { verifyModel } from '../../src/graph/verify.ts'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

/** x -> Relu a -> Add(a, w) b -> If (body reads a) c. */
function sample(): { model: Model; graph: Graph; body: Graph; relu: Node; add: Node; x: Value } {
  const graph = new Graph('main')
  const x = graph.addInput('x', { elem: 'float32', dims: [2] })
  const end = graph.append()
  const a = end.op('Relu', [x], {}, { name: 'a' })
  const w = graph.addInitializer('w', Tensor.float32([2], [1, 2]))
  const b = end.op('Add', [a, w], {}, { name: 'b' })
  const condition = graph.addInitializer('condition', Tensor.scalar(1, 'bool'))
  const body = new Graph('body', graph)
  const branch = end.op('If', [condition], {}, { name: 'c' })
  body.addOutput(body.append().op('Neg', [a], {}, { name: 'n' }))
  branch.producer!.setAttribute('then_branch', { kind: 'graph', value: body })
  const other = new Graph('other', graph)
  other.addOutput(other.append().op('Abs', [a], {}, { name: 'm' }))
  branch.producer!.setAttribute('else_branch', { kind: 'graph', value: other })
  graph.addOutput(b)
  graph.addOutput(branch)
  const model = new Model(graph)
  return { model, graph, body, relu: a.producer!, add: b.producer!, x }
}

test('a sound model verifies, before and after edits through Graph', () => {
  const { model, graph, add, x } = sample()
  verifyModel(model)
  const extra = graph.before(add).op('Sigmoid', [x])
  add.setInput(0, extra)
  verifyModel(model)
  graph.replaceUses(add.output, graph.append().op('Tanh', [x]))
  graph.remove(add)
  verifyModel(model)
})

test('a body that is dropped no longer reads values around it', () => {
  const { model, graph, body } = sample()
  const branch = [...graph.nodes()].find((n) => n.op === 'If')!
  branch.setAttribute('else_branch', { kind: 'graph', value: body })
  verifyModel(model)
  branch.setAttribute('then_branch', null)
  verifyModel(model)
})

const breakages: [what: string, RegExp, (s: ReturnType<typeof sample>) => void][] = [
  ['order', /produced later/, ({ graph, relu }) => graph.move(relu, null)],
  [
    'order of what a body reads',
    /Neg 'n' reads 'a', which is produced later/,
    ({ graph, relu, add, x }) => {
      add.setInput(0, x)
      graph.move(relu, null)
    },
  ],
  ['a use that the value does not record', /does not record it/, ({ relu, x }) => (x.uses as Set<Node>).delete(relu)],
  ['a use that is none', /records being read by/, ({ add, x }) => (x.uses as Set<Node>).add(add)],
  [
    'an output that is not claimed',
    /records being an output of/,
    ({ graph, x }) => (x.outputOf as Set<Graph>).add(graph),
  ],
  ['a value from nowhere', /has no source/, ({ graph }) => graph.define('ghost')],
  [
    'a forgotten value',
    /not in the graph|was removed|not produced by any/,
    ({ graph, add }) => graph.forget(add.output),
  ],
  [
    'two producers',
    /not its recorded producer/,
    ({ relu, add }) => (add.outputs as (Value | null)[]).push(relu.output),
  ],
  ['a maker that is gone', /is not in the graph/, ({ relu }) => (relu.outputs as (Value | null)[]).pop()],
  [
    'a value of a graph that is not around',
    /does not enclose it/,
    ({ add, body }) => add.setInput(0, body.outputs[0]!),
  ],
  [
    'a body with the wrong parent',
    /has the wrong parent graph/,
    ({ body }) => {
      ;(body as Mutable<Graph>).parent = null
    },
  ],
  [
    'a broken list',
    /node list is broken/,
    ({ add }) => {
      ;(add as Mutable<Node>).prev = null
    },
  ],
  [
    'an initializer without tensor',
    /has no tensor/,
    ({ graph }) => {
      ;(graph.find('w') as Mutable<Value>).constant = null
    },
  ],
]

for (const [what, message, harm] of breakages)
  test(`the verifier finds ${what}`, () => {
    const s = sample()
    harm(s)
    assert.throws(
      () => verifyModel(s.model),
      (e: unknown) => e instanceof MncError && e.blame === 'pass' && message.test(e.message),
    )
  })
