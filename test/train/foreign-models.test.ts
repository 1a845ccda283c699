/** Training models as other tools export them: several inputs, 16-bit weights, functions, old IR versions, loops. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { graphAttribute } from '../../src/graph/attribute.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { ElementType } from '../../src/graph/types.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { train } from '../../src/train/loop/trainer.ts'

const rng = new Rng(3)
const random = (elem: ElementType, dims: readonly number[]): Tensor => {
  const size = dims.reduce((p, d) => p * d, 1)
  return Tensor.from(
    elem,
    dims,
    Array.from({ length: size }, () => rng.normal(0, 0.5)),
  )
}

/** A student with noise on its weights learns from the model itself; losses of five steps on one batch. */
async function distil(model: Model): Promise<{ losses: number[]; student: Model; warnings: string[] }> {
  const student = cloneModel(model)
  for (const v of student.graph.stored())
    if (v.stored!.type.includes('float')) {
      const values = Array.from(v.stored!.toNumbers(), (x) => x + rng.normal(0, 0.1))
      const tensor = Tensor.from(v.stored!.type, v.stored!.dims, values)
      if (v.default) v.setDefault(tensor)
      else v.setConstant(tensor)
    }
  const losses: number[] = []
  const warnings: string[] = []
  const options = { loss: 'mse', optimizer: 'adamw', lr: 0.01, batch: 4, limit: 4, epochs: 5, bn: 'frozen' } as const
  await train(student, { data: 'random', teacher: { model }, options }, (e) => {
    if (e.kind === 'step') losses.push(e.loss)
    else if (e.kind === 'start') warnings.push(...e.warnings)
  })
  return { losses, student, warnings }
}

function network(elem: ElementType, head: (graph: Graph, h: Value) => Value): Model {
  const model = new Model(new Graph('net'))
  const { graph } = model
  const x = graph.addInput('x', { elem, dims: ['n', 6] })
  const w = graph.addInitializer('w', random(elem, [6, 5]))
  const h = graph.append().op('MatMul', [x, w])
  const y = head(graph, h)
  y.setType({ elem, dims: null })
  graph.addOutput(y)
  return model
}

const falls = (losses: readonly number[]): void => assert.ok(losses.at(-1)! < losses[0]!, losses.join(' '))

test('float16 weights train in float32 and stay float16 in the file', async () => {
  const { losses, student } = await distil(network('float16', (g, h) => g.append().op('Tanh', [h])))
  assert.equal(losses.length, 5)
  falls(losses)
  assert.equal(student.graph.find('w')!.constant!.type, 'float16')
  const session = await ortExecutor().load(student)
  const { [student.graph.outputs[0]!.name]: y } = await session.run({ x: random('float16', [2, 6]) })
  assert.equal(y!.type, 'float16')
  await session.dispose()
})

test('several inputs, among them indices', async () => {
  const model = network('float32', (g, h) => {
    const ids = g.addInput('ids', { elem: 'int64', dims: ['n'] })
    const table = g.addInitializer('table', random('float32', [7, 5]))
    return g.append().op('Add', [h, g.append().op('Gather', [table, ids])])
  })
  const { losses } = await distil(model)
  falls(losses)
})

test('an LSTM trains as its steps and stays an LSTM', async () => {
  const model = network('float32', (g, h) => {
    const b = g.append()
    const sequence = b.op('Reshape', [h, b.ints([5, -1, 1])])
    const [w, r] = [
      g.addInitializer('lw', random('float32', [1, 8, 1])),
      g.addInitializer('lr', random('float32', [1, 8, 2])),
    ]
    return b.op('LSTM', [sequence, w, r], { hidden_size: 2 })
  })
  const { losses, student } = await distil(model)
  falls(losses)
  assert.ok([...student.graph.nodes()].some((n) => n.op === 'LSTM'))
  assert.ok(!student.graph.find('lr')!.constant!.equals(model.graph.find('lr')!.constant!))
})

test('initializers that are inputs too are trained, and callers can no longer override them', async () => {
  const model = network('float32', (g, h) => g.append().op('Relu', [h]))
  const w = model.graph.find('w')!
  model.graph.initializerToInput(w)
  w.setDefault(random('float32', w.dims))
  const { losses, student, warnings } = await distil(model)
  falls(losses)
  assert.ok(!student.graph.find('w')!.constant!.equals(model.graph.find('w')!.default!))
  assert.deepEqual(
    student.graph.inputs.map((v) => v.name),
    ['x'],
  )
  assert.deepEqual(warnings, [
    "WARNING: 1 input with a default value ('w') made constant: callers can no longer override them",
  ])
})

test('what a function holds is pruned, quantised and trained', async () => {
  const model = network('float32', (g, h) => g.append().op('Layer', [h], {}, { domain: 'own' }))
  model.opsets.set('own', 1)
  const body = new Graph('Layer')
  const x = body.addInput('x', null)
  const b = body.append()
  const weight = b.op('Constant', [], { value: random('float32', [5, 4]) })
  body.addOutput(b.op('MatMul', [x, weight]))
  const opsets = new Map([['', model.opset]])
  model.functions.push({
    ...{ domain: 'own', name: 'Layer', overload: '', attributes: [] },
    opsets,
    graph: body,
    extra: undefined,
  })
  const pruned = cloneModel(model)
  await runPass(pruned, 'prune', { sparsity: 0.5, ops: ['MatMul'] })
  assert.equal(pruned.functions.length, 0)
  assert.equal([...pruned.graph.nodes()].filter((n) => n.metadata.get('mnc.role') === 'prune-mask').length, 2)
  const { losses } = await distil(model)
  falls(losses)
})

test('nothing is trained through an If, and that is reported before any step', async () => {
  const model = network('float32', (g, h) => {
    const branch = (op: string): Graph => {
      const body = new Graph(op, g)
      const y = body.append().op(op, [h], {}, { type: { elem: 'float32', dims: null } })
      body.addOutput(y)
      return body
    }
    const yes = g.addInput('yes', { elem: 'bool', dims: [] })
    const attributes = { then_branch: graphAttribute(branch('Relu')), else_branch: graphAttribute(branch('Tanh')) }
    return g.append().op('If', [yes], attributes)
  })
  await assert.rejects(distil(model), /If .*nothing is differentiated through the body of If/)
})

test('a model of integer outputs says that it has nothing to compare', async () => {
  const model = network('float32', (g, h) => g.append().op('ArgMax', [h]))
  model.graph.outputs[0]!.setType({ elem: 'int64', dims: null })
  await assert.rejects(distil(model), /there is no float output that a loss could compare/)
})

test('an operator of an unknown domain passes through, and where it must run the refusal names it', async () => {
  const model = network('float32', (g, h) => g.append().op('Quant', [h], {}, { domain: 'onnx.brevitas', name: 'q' }))
  model.opsets.set('onnx.brevitas', 1)
  for (const pass of ['prune', 'fold-constants', 'eliminate-dead', 'upgrade-opset', 'freeze'])
    await runPass(
      cloneModel(model),
      findPass(pass),
      pass === 'prune' ? { ops: ['MatMul'] } : pass === 'freeze' ? { names: ['q'] } : {},
    )
  await assert.rejects(distil(model), (error: Error & { node?: string }) => {
    assert.match(error.message, /operator 'Quant' of domain 'onnx\.brevitas' is unknown/)
    assert.equal(error.node, 'q')
    return true
  })
})
