/**
 * Names that match nothing are errors; what a pass or export leaves alone is reported with its share, the reasons and the
 * options that include it.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { exportModel } from '../../src/export/export-model.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { describeDeclined } from '../../src/layers/left-weights.ts'
import type { PassResult } from '../../src/pass-manager/manager.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'

const draw = (rng: Rng, dims: readonly number[]): Tensor =>
  Tensor.float32(
    dims,
    Float32Array.from({ length: dims.reduce((a, d) => a * d, 1) }, () => rng.normal(0, 0.3)),
  )

/** Conv of 1,152 weights, Gemm of 1,000, a table of 600 added, and an If whose body holds 80. */
function mixed(): Model {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const rng = new Rng(1)
  const weight = (name: string, dims: readonly number[]) => b.initializer(name, draw(rng, dims))
  const x = graph.addInput('x', { elem: 'float32', dims: [2, 8, 6, 6] })
  const flag = graph.addInput('flag', { elem: 'bool', dims: [] })
  const conv = b.op('Conv', [x, weight('conv.w', [16, 8, 3, 3]), weight('conv.b', [16])], {}, { name: 'conv' })
  const pooled = b.op('Flatten', [b.op('GlobalAveragePool', [conv])])
  const wide = b.op('Concat', [pooled, pooled, pooled, pooled, pooled], { axis: 1 })
  const narrow = b.op('Slice', [wide, b.ints([0]), b.ints([50]), b.ints([1])])
  const fc = b.op('Gemm', [narrow, weight('fc.w', [50, 20]), weight('fc.b', [1, 20])], {}, { name: 'fc' })
  const table = b.op('Add', [b.op('Unsqueeze', [fc, b.ints([1])]), weight('table', [30, 20])], {}, { name: 'shifted' })
  const arm = (name: string): Graph => {
    const body = new Graph(name, graph)
    const inner = body.append()
    const w = inner.initializer(`${name}.w`, draw(rng, [20, 2]))
    body.addOutput(inner.op('MatMul', [table, w], {}, { name: `${name}.y` }))
    return body
  }
  const y = b.op('If', [flag], {}, { name: 'branch' })
  y.producer!.setAttribute('then_branch', { kind: 'graph', value: arm('left') })
  y.producer!.setAttribute('else_branch', { kind: 'graph', value: arm('right') })
  graph.addOutput(y)
  return model
}

const blamed = (code: string, pattern: RegExp) => (e: unknown) =>
  e instanceof MncError && e.code === code && pattern.test(e.describe())

test('names that match nothing', async () => {
  const usage = (pattern: RegExp) => blamed('bad-usage', pattern)
  await assert.rejects(pass(mixed(), 'prune', { ops: ['Conv', 'Gem'] }), usage(/'Gem'.*did you mean 'Gemm'/))
  await assert.rejects(pass(mixed(), 'prune', { ops: ['Add'] }), usage(/no operator with weights matches 'Add'/))
  await assert.rejects(pass(mixed(), 'prune', { ops: ['Gru*'] }), usage(/no operator with weights matches 'Gru\*'/))
  await assert.rejects(pass(mixed(), 'prune', { only: ['con'] }), usage(/no layer matches 'con'.*'conv'/))
  await assert.rejects(pass(mixed(), 'prune', { exclude: ['c*x'] }), usage(/no layer matches 'c\*x'/))
  await assert.rejects(pass(mixed(), 'prune', { layerSparsity: { fc: 0.5 } }), usage(/no layer matches 'fc'/))
  await assert.rejects(pass(mixed(), 'quantize', { layerWeightBits: { canv: 8 } }), usage(/did you mean 'conv'/))
  await assert.rejects(pass(mixed(), 'quantize', { layerActivationBits: { 'z*': 8 } }), usage(/no layer matches 'z\*'/))
  await assert.rejects(pass(mixed(), 'freeze', { ops: ['Cnv'] }), usage(/no operator matches 'Cnv'.*'Conv'/))
  await assert.rejects(pass(mixed(), 'prune', { ops: ['LSTM'] }), blamed('no-layers', /no LSTM layers.*Conv, Gemm/))
})

test('operators that the model does not have are reported, globs of operators are accepted', async () => {
  const said: string[] = []
  const log = (line: string): void => void said.push(line)
  await pass(mixed(), 'prune', { ops: ['Conv', 'LSTM', 'Mat*'] }, { log })
  assert.deepEqual(said, ['the model has no LSTM and no Mat* layers with constant weights'])
  const { left } = await pass(mixed(), 'prune', { ops: ['*'] })
  assert.equal(left!.of - left!.weights, 1152 + 1000)
})

const ALL = 1152 + 1000 + 600 + 2 * 40

test('what pruning and quantising leave: share, reasons, options', async () => {
  const model = mixed()
  const { left, declined } = await pass(model, 'prune', {})
  assert.deepEqual([left!.weights, left!.of], [ALL - 1152, ALL])
  const [fc, table, body] = left!.largest
  assert.deepEqual([fc!.where, fc!.weights, fc!.remedy], ['fc', 1000, '--ops Conv,Gemm'])
  assert.match(table!.reason, /read by node 'shifted'|which is not a layer/)
  assert.deepEqual([table!.where, table!.weights], ['table', 600])
  assert.match(body!.reason, /inside a body of If, Loop or Scan/)
  assert.equal(left!.largest.length, 3)
  assert.equal(declined.filter((d) => d.weights).length, 4)
  const lines = describeDeclined('prune', { declined, left }).join('\n')
  assert.match(lines, /^prune: left 59\.3 % of 2,832 weights alone, most of them in\n {2}fc \(1,000\): Gemm is not/)
  assert.match(lines, /--ops Conv,Gemm includes it/)
  // what an earlier run pruned is not left
  const again = await pass(model, 'prune', { ops: ['Gemm'] })
  assert.deepEqual([again.left!.weights, again.left!.of], [680, ALL])
  const remedies = async (options: Record<string, unknown>): Promise<(string | undefined)[]> => {
    const result: PassResult = await pass(mixed(), 'quantize', { activationBits: 0, ops: ['Conv', 'Gemm'], ...options })
    return result.declined.filter((d) => d.where === 'conv' || d.where === 'fc').map((d) => d.remedy)
  }
  assert.deepEqual(await remedies({}), [])
  assert.deepEqual(await remedies({ only: ['fc'] }), ['--only fc,conv'])
  assert.deepEqual(await remedies({ exclude: ['fc'] }), ['leaving it out of --exclude'])
  assert.deepEqual(await remedies({ firstLayer: 'skip' }), ['--first-layer quantize'])
  assert.deepEqual(await remedies({ lastLayer: 'skip' }), ['--last-layer quantize'])
  assert.deepEqual(await remedies({ layerWeightBits: { conv: 0 } }), ['--layer-weight-bits conv=4'])
})

test('every option that is named includes the weight', async () => {
  const first = (await pass(mixed(), 'prune', {})).left!.largest[0]!
  const ops = first.remedy!.replace('--ops ', '').split(',')
  const { left } = await pass(mixed(), 'prune', { ops })
  assert.equal(left!.weights, ALL - 2152)
})

test('an export says which weights stay floats', async () => {
  const model = mixed()
  await pass(model, 'quantize', { activationBits: 0 })
  for (const format of ['packed', 'int4', 'int8'] as const) {
    const { left } = (await exportModel(model, { format })).report
    assert.deepEqual([left.weights, left.of], [ALL - 1152, ALL], format)
    assert.deepEqual([left.largest[0]!.where, left.largest[0]!.remedy], ['fc', 'mnc pass quantize --ops Gemm'])
  }
})
