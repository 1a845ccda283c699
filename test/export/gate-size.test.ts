/** An export that is not worth its file is a gate: exit 3 and no file, unless it is allowed. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { writeModel } from '../../src/codec/codec.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { mnc } from '../cli/run-mnc.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-gate-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

/** Layers of size x size. */
async function write(name: string, size: number, options: { externalData?: boolean } = {}): Promise<string> {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const rng = new Rng(size)
  let x = graph.addInput('x', { elem: 'float32', dims: ['N', size] })
  for (const name of ['first', 'second']) {
    const values = Float32Array.from({ length: size * size }, () => rng.normal())
    x = b.op('MatMul', [x, b.initializer(`${name}.w`, Tensor.float32([size, size], values))], {}, { name })
  }
  graph.addOutput(x)
  await writeModel(model, at(name), options)
  return at(name)
}

const quantize = (from: string, to: string, ...more: string[]) =>
  mnc('pass', 'quantize', from, '--ops', 'MatMul', '--activation-bits', '0', '-o', to, ...more)

const formats = [['packed'], ['int4'], ['int8'], ['int8', '--packed-weights']]

test('nothing compressed: no file, no JSON, the reason and what to do', async () => {
  const model = await write('float.onnx', 40)
  for (const [format, ...more] of formats) {
    const argv = ['export', model, '--format', format!, ...more, '-o', at('out.onnx')]
    const refused = await mnc(...argv, '--json')
    assert.deepEqual([refused.code, JSON.parse(refused.out).error.code], [2, 'nothing-compressed'])
    assert.match(refused.err, /compresses nothing: the largest weight, first \(1,600\): its weights are not quantised/)
    assert.match(refused.err, /--allow-larger/)
    assert.ok(!existsSync(at('out.onnx')))
    const allowed = await mnc(...argv, '--allow-larger', '--json')
    assert.equal(allowed.code, 0)
    assert.match(allowed.err, /^WARNING: .*compresses nothing/m)
    assert.equal(JSON.parse(allowed.out).left.weights, 3200)
    rmSync(at('out.onnx'))
  }
  assert.deepEqual(readdirSync(folder).sort(), ['float.onnx'])
})

test('larger than its input: small graphs, packed files as int8, exports of exports', async () => {
  await quantize(await write('small.onnx', 4), at('small.q.onnx'))
  const small = await mnc('export', at('small.q.onnx'), '-o', at('small.packed.onnx'))
  assert.equal(small.code, 3)
  assert.match(small.err, /compresses nothing: .* it is so small that its decoder would take more/)
  await quantize(await write('wide.onnx', 64), at('q.onnx'))
  for (const [format, ...more] of formats) {
    const { code, err } = await mnc('export', at('q.onnx'), '--format', format!, ...more, '-o', at('e.onnx'))
    assert.equal(code, 0, err)
    assert.ok(statSync(at('e.onnx')).size < statSync(at('q.onnx')).size / 4)
  }
  assert.equal((await mnc('export', at('q.onnx'), '-o', at('packed.onnx'))).code, 0)
  const before = readFileSync(at('packed.onnx'))
  for (const [format, ...more] of formats) {
    const again = await mnc('export', at('packed.onnx'), '--format', format!, ...more, '-o', at('packed.onnx'))
    assert.equal(again.code, 3, `${format}: ${again.err}`)
    assert.match(
      again.err,
      /it is already an export \(packed\), and as \w+ it takes [\d,]+ bytes, more than its [\d,]+/,
    )
    assert.deepEqual(readFileSync(at('packed.onnx')), before, 'a file of the same name stays')
  }
})

test('the size of the input is that of its file: with external data, without the text form', async () => {
  const model = await write('external.onnx', 64, { externalData: true })
  assert.ok(statSync(model).size < 2000)
  await quantize(model, at('external.q.onnx'))
  assert.equal((await mnc('convert', at('external.q.onnx'), '--external-data', '-o', at('moved.onnx'))).code, 0)
  assert.equal((await mnc('export', at('moved.onnx'), '-o', at('moved.packed.onnx'))).code, 0)
  assert.equal((await mnc('convert', at('packed.onnx'), '--text', '-o', at('packed.txt'))).code, 0)
  assert.ok(statSync(at('packed.txt')).size > statSync(at('packed.onnx')).size + 300)
  assert.equal((await mnc('export', at('packed.txt'), '-o', at('from-text.onnx'))).code, 3)
})

test('a recipe stops at the gate, and goes on where the stage allows it', async () => {
  const recipe = (more: object): string => {
    const stages = [{ name: 'small', from: at('float.onnx'), export: { format: 'packed', ...more } }]
    writeFileSync(at('recipe.json'), JSON.stringify({ name: 'gate', stages }))
    return at('recipe.json')
  }
  const stopped = await mnc('run', recipe({}), '--workdir', at('work'))
  assert.equal(stopped.code, 2, stopped.err)
  assert.match(stopped.err, /compresses nothing/)
  assert.ok(!existsSync(at('work/small.onnx')))
  const { code, err } = await mnc('run', recipe({ 'allow-larger': true }), '--workdir', at('work'))
  assert.equal(code, 0, err)
  assert.ok(existsSync(at('work/small.onnx')))
})

test('integer weights of another tool: the bytes of the input decide', async () => {
  const model = new Model()
  const { graph } = model
  const b = graph.append()
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 40] })
  const ints = Tensor.from(
    'int8',
    [40, 40],
    Array.from({ length: 1600 }, (_, i) => ((i * 37) % 255) - 127),
  )
  const w = b.op('DequantizeLinear', [b.initializer('w', ints), b.scalar(0.01), b.scalar(0, 'int8')])
  graph.addOutput(b.op('MatMul', [x, w], {}, { name: 'layer' }))
  await writeModel(model, at('foreign.onnx'))
  const { code, err } = await mnc('export', at('foreign.onnx'), '--format', 'int8', '-o', at('foreign.int8.onnx'))
  assert.equal(code, 3)
  assert.match(err, /as int8 it takes [\d,]+ bytes, more than its [\d,]+: all but its weights \(nodes.*\) takes [\d,]+/)
})
