import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { requireGradients } from '../../src/passes/autodiff.ts'

/** x -> Conv -> `op` -> y. */
function network(op: string, domain = '') {
  const { graph } = new Model()
  const x = graph.addInput('x', { elem: 'float32', dims: [1, 1, 4, 4] })
  const w = graph.addInitializer('w', Tensor.float32([1, 1, 1, 1], [1]))
  const a = graph.append().op('Conv', [x, w], {}, { name: 'conv' })
  const y = graph.append().node({ op, domain, inputs: [a], name: 'middle', outputs: ['y'] }).output
  graph.addOutput(y)
  return { graph, w, x, y }
}

const refusal = (op: RegExp) => (error: unknown) =>
  error instanceof MncError && error.blame === 'model' && error.node === 'middle' && op.test(error.message)

test('names the node on the gradient path whose operator is unknown or has no gradient', () => {
  const custom = network('Magic', 'my.domain')
  assert.throws(() => requireGradients(custom.graph, [custom.w], [custom.y]), refusal(/Magic.*my\.domain/))
  const regions = network('RoiAlign')
  assert.throws(() => requireGradients(regions.graph, [regions.w], [regions.y]), refusal(/RoiAlign.*no gradient/))
  const inverse = network('Det')
  assert.throws(() => requireGradients(inverse.graph, [inverse.w], [inverse.y]), refusal(/Det.*inverse matrix/))
})

test('checks only what lies between parameters and targets', () => {
  const custom = network('Magic', 'my.domain')
  requireGradients(custom.graph, [], [custom.y])
  requireGradients(custom.graph, [custom.w], [custom.graph.find('conv')!])
  const relu = network('Relu')
  requireGradients(relu.graph, [relu.w], [relu.y])
})
