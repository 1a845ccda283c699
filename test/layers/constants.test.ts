import assert from 'node:assert/strict'
import test from 'node:test'
import { parseModel } from '../../src/codec/text-parse.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { constantSource, constantValues, evaluateConstants } from '../../src/layers/constants.ts'

const model = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[2]
  input %w : float32[2]
  init %w = float32[2] [1, 0.5]
  init %half = float32[2] [0.5, 0.5]
  init %scale = float32[] [0.25]
  init %zero = int4[] [0]
  %drawn = Bernoulli(%half)
  %noise = Neg(%drawn)
  %default = Neg(%w)
  %fixed = QuantizeLinear(%half, %scale, %zero)
  %y = Sum(%x, %noise, %default)
  output %y
end
`)

test('the output of a random operator is not a constant; a default that callers can override is one once it is fixed', () => {
  const { graph } = cloneModel(model)
  const known = (): string[] => Array.from(constantValues(graph), (v) => v.name).filter((n) => graph.find(n)!.producer)
  assert.deepEqual(known(), ['fixed'])
  assert.deepEqual(
    graph.fixDefaults().map((v) => v.name),
    ['w'],
  )
  assert.deepEqual(known(), ['default', 'fixed'])
  assert.equal(constantSource(graph.find('noise')!), null)
  const names = constantSource(graph.find('fixed')!)?.map((v) => v.name)
  assert.deepEqual(names, ['half', 'scale', 'zero'])
})

test('4-bit constants are evaluated as floats', async () => {
  const fixed = model.graph.find('fixed')!
  const values = await evaluateConstants(model, [fixed], { asFloat: true })
  assert.deepEqual([...values.get(fixed)!.toFloat32()], [2, 2])
})
