/** --dim and --input-shape: recorded in what commands write, or written into the file's types by convert. */

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { parseOptions } from '../../src/base/options.ts'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph } from '../../src/graph/graph.ts'
import { marks } from '../../src/graph/marks.ts'
import { Model } from '../../src/graph/model.ts'
import type { Dim } from '../../src/graph/types.ts'
import { commandLines } from '../../src/recipes/command-lines.ts'
import { parseRecipe } from '../../src/recipes/load.ts'
import { runRecipe } from '../../src/recipes/run.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { declareShapes } from '../../src/samples/declared-shapes.ts'
import { inputDims, recordSizes } from '../../src/samples/input-shapes.ts'
import { trainOptions } from '../../src/train/train-options.ts'
import { mnc } from '../cli/run-mnc.ts'
import { classifier, noise } from './batch-graphs.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-sizes-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

/** x [N, L, 4] and a mask [N, L]: a weighted mean over L, through a layer; an If whose body knows the length. */
function text(dims: readonly Dim[] = ['N', 'L', 4], mask: readonly Dim[] = ['N', 'L']): Model {
  const model = new Model(new Graph('text'))
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims })
  const m = graph.addInput('mask', { elem: 'float32', dims: mask })
  const b = graph.append()
  const weighted = b.op('Mul', [x, b.op('Unsqueeze', [m, b.ints([-1])])], {}, { name: 'weighted' })
  weighted.setType({ elem: 'float32', dims })
  const mean = b.op('ReduceMean', [weighted, b.ints([1])], { keepdims: 0 })
  const y = b.op('MatMul', [mean, b.initializer('w', noise([4, 5]))], {}, { name: 'y' })
  y.setType({ elem: 'float32', dims: [dims[0]!, 5] })
  graph.addOutput(y)
  graph.addOutput(weighted)
  return model
}

test('sizes are recorded by input, the file keeps its types', () => {
  const model = text()
  recordSizes([model], { dim: { L: 12 } })
  assert.deepEqual(inputDims(model), { x: ['N', 12, 4], mask: ['N', 12] })
  assert.deepEqual(model.graph.find('x')!.type!.dims, ['N', 'L', 4])
  recordSizes([model], { dim: { L: 7, N: 2 } })
  assert.deepEqual(inputDims(model), { x: [2, 7, 4], mask: [2, 7] })
  recordSizes([model], { inputShape: { mask: '3,?' } })
  assert.deepEqual(inputDims(model).mask, [3, 7])
  const nameless = text([null, null, 4], [null, null])
  recordSizes([nameless], { inputShape: { x: '?,S,4', mask: '?,S' } })
  assert.deepEqual(inputDims(nameless), { x: [null, 'S', 4], mask: [null, 'S'] })
  recordSizes([nameless], { dim: { S: 9 } })
  assert.deepEqual(inputDims(nameless), { x: [null, 9, 4], mask: [null, 9] })
  const other = cloneModel(text())
  recordSizes([text(), other, classifier('K')], { dim: { K: 3, L: 5 } })
  assert.deepEqual(inputDims(other).x, ['N', 5, 4])
})

test('what matches nothing, or contradicts the file, is refused with the nearest name', () => {
  const record = (given: Parameters<typeof recordSizes>[1]) => () =>
    recordSizes([text(['N', 'length', 4], ['N', 'length'])], given)
  assert.throws(
    record({ dim: { lenght: 3 } }),
    (e: Error & { next?: string }) =>
      /no input has a dim called 'lenght'/.test(e.message) && /'length'/.test(e.next ?? ''),
  )
  assert.throws(record({ dim: { length: 0 } }), /at least 1/)
  assert.throws(record({ dim: { length: 1.5 } }), /whole number/)
  assert.throws(
    record({ inputShape: { masks: '1,2' } }),
    (e: Error & { next?: string }) => /no input 'masks'/.test(e.message) && /'mask'/.test(e.next ?? ''),
  )
  assert.throws(record({ inputShape: { '': '1,2' } }), /needs the name of an input/)
  assert.throws(record({ inputShape: { x: '1,2,5' } }), /float32\[N,length,4\], which \[1,2,5\] does not match/)
  assert.throws(record({ inputShape: { x: '1,2' } }), /which \[1,2\] does not match/)
  assert.throws(record({ inputShape: { x: '1,-2,4' } }), /'-2' is not a dim/)
  const model = text()
  marks.inputShapes.set(model, { x: [0] })
  assert.throws(() => inputDims(model), /mnc.input-shapes is malformed/)
})

test('convert writes a size wherever the symbol occurs, and shapes in place of fixed ones', async () => {
  await writeModel(text(), at('text.onnx'))
  assert.equal((await mnc('convert', at('text.onnx'), '--dim', 'L=6,N=2', '-o', at('fixed.onnx'))).code, 0)
  const { graph } = await readModel(at('fixed.onnx'))
  const dims = (name: string) => graph.find(name)!.type!.dims
  assert.deepEqual(
    [dims('x'), dims('mask'), dims('weighted'), dims('y')],
    [
      [2, 6, 4],
      [2, 6],
      [2, 6, 4],
      [2, 5],
    ],
  )
  const back = await mnc(
    'convert',
    at('fixed.onnx'),
    '--input-shape',
    'x=B,T,4',
    '--input-shape',
    'mask=B,T',
    '-o',
    at('open.onnx'),
  )
  assert.equal(back.code, 0, back.err)
  const open = (await readModel(at('open.onnx'))).graph
  assert.deepEqual(
    [open.find('x')!.type!.dims, open.find('mask')!.type!.dims],
    [
      ['B', 'T', 4],
      ['B', 'T'],
    ],
  )
  assert.ok(open.outputs.every((v) => v.type!.dims!.every((d) => typeof d !== 'number' || d === 4 || d === 5)))
  const session = await ortExecutor().load(await readModel(at('open.onnx')), { optimization: 'disabled' })
  const out = await session.run({ x: noise([3, 9, 4]), mask: noise([3, 9]) })
  assert.deepEqual(
    [out.y!.dims, out.weighted!.dims],
    [
      [3, 5],
      [3, 9, 4],
    ],
  )
  await session.dispose()
})

test('convert refuses shapes that the graph does not allow', async () => {
  await assert.rejects(
    declareShapes(classifier('N'), { inputShape: { x: 'N,7' } }),
    /the graph does not allow 'x' float32\[N,7\]/,
  )
  await assert.rejects(declareShapes(classifier('N'), { inputShape: { x: '7' } }), /has 2 dims/)
  await assert.rejects(declareShapes(classifier('N'), { dim: { M: 2 } }), /no input has a dim called 'M'/)
  await writeModel(classifier('N'), at('net.onnx'))
  const refused = await mnc('convert', at('net.onnx'), '--input-shape', '5,7', '-o', at('wrong.onnx'))
  assert.deepEqual([refused.code, refused.out], [2, ''])
  await assert.rejects(readModel(at('wrong.onnx')))
})

test('sizes that one command was given hold for the next', async () => {
  // 12 columns fit the layer, which no size that is tried does
  const model = new Model(new Graph('wide'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: ['N', 'width'] })
  const b = model.graph.append()
  const type = { elem: 'float32', dims: ['N', 3] } as const
  model.graph.addOutput(
    b.op('MatMul', [b.op('Relu', [x]), b.initializer('w', noise([12, 3]))], {}, { name: 'y', type }),
  )
  await writeModel(model, at('wide.onnx'))
  const options = ['--data', 'random', '--limit', '8', '--ops', 'MatMul', '--first-layer', 'quantize', '-q']
  const without = await mnc('pass', 'quantize', at('wide.onnx'), ...options, '-o', at('none.onnx'))
  assert.equal(without.code, 2)
  assert.match(without.err, /\(set the sizes with --dim width=N\)\n$/)
  assert.equal(without.err.split('\n').length, 2, 'one line')
  const done = await mnc('pass', 'quantize', at('wide.onnx'), ...options, '--dim', 'width=12', '-o', at('wide.q.onnx'))
  assert.equal(done.code, 0, done.err)
  assert.deepEqual((await readModel(at('wide.q.onnx'))).graph.inputs[0]!.type!.dims, ['N', 'width'])
  const info = JSON.parse((await mnc('info', at('wide.q.onnx'), '--json', '-q')).out)
  assert.equal(info.macs, 36)
  for (const args of [
    ['check', at('wide.onnx'), at('wide.q.onnx'), '--input-shape', '?,12', '-q'],
    [
      'train',
      at('wide.q.onnx'),
      '--teacher',
      at('wide.onnx'),
      '--dim',
      'width=12',
      '--data',
      'random',
      '--loss',
      'mse',
      '--max-steps',
      '2',
      '--batch',
      '4',
      '-q',
      '-o',
      at('wide.t.onnx'),
    ],
    ['sensitivity', at('wide.q.onnx'), '--ops', 'MatMul', '--sparsity', '0.5', '-q', '-o', at('s.json')],
    ['score', at('wide.onnx'), '--dim', 'width=12'],
    ['diff', at('wide.onnx'), at('wide.q.onnx'), '--dim', 'width=12'],
    ['info', at('wide.t.onnx')],
  ]) {
    const r = await mnc(...args)
    assert.equal(r.code, 0, `${args.join(' ')}: ${r.err}`)
    assert.doesNotMatch(r.err, /unknown|any of the sizes/)
  }
})

test('a recipe gives sizes in its stages, and its stages keep them', async () => {
  const model = text()
  model.graph.removeOutput(model.graph.find('weighted')!)
  await writeModel(model, at('recipe-text.onnx'))
  const sizes = { dim: { L: 6 }, 'input-shape': { mask: '?,6' } }
  const recipe = await parseRecipe({
    name: 'sized',
    stages: [
      { name: 'first', from: at('recipe-text.onnx'), sizes, score: true, passes: [{ 'fold-constants': {} }] },
      { name: 'second', from: 'first', score: true },
    ],
  })
  const { stages, failed } = await runRecipe(recipe, { workdir: at('sized') })
  assert.equal(failed, null)
  assert.ok(stages.every((s) => s.metrics.macs === 20 && s.metrics.score !== null))
  assert.deepEqual(inputDims(await readModel(at('sized/second.onnx'))), { x: ['N', 6, 4], mask: ['N', 6] })
  const [stage] = recipe.stages
  const lines = commandLines({ ...stage!, train: parseOptions(trainOptions, {}, 'train') })
  assert.match(lines.join('\n'), /train .*--dim L=6 --input-shape mask=\?,6/)
})
