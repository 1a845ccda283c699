/** Files that are not loaded: the same models as from memory, and what happens to the file later. */
import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { type TestContext } from 'node:test'
import { PIECE } from '../../src/base/bytes.ts'
import { DataFile } from '../../src/base/data-file.ts'
import { MncError } from '../../src/base/errors.ts'
import { decodeModel, encodeModel, fingerprint, readModel, writeModel } from '../../src/codec/codec.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { countZeros, Tensor } from '../../src/graph/tensor.ts'
import { nodeTests, zoo } from './files.ts'

function scratch(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-lazy-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

test('a model read through a window is the one read from memory', (t) => {
  const files = [...zoo(), ...nodeTests().filter((_, i) => i % 20 === 0)]
  if (files.length === 0) return t.skip('files not there')
  let lazy = 0
  for (const file of files) {
    const where = { folder: dirname(file), file }
    const model = decodeModel(new DataFile(file), where)
    for (const v of model.graph.initializers()) if (v.constant!.isLazy) lazy++
    assert.ok(Buffer.from(encodeModel(model)).equals(encodeModel(decodeModel(readFileSync(file), where))), file)
  }
  assert.ok(lazy > 50 || zoo().length === 0, `${lazy} tensors stayed in their files`)
})

/** 9.6 MB in one tensor, every fifth element zero, and a small one. */
const SIDE = 1550
function large(): Model {
  const graph = new Graph('main')
  const values = Float32Array.from({ length: SIDE * SIDE }, (_, i) => i % 5)
  const x = graph.addInput('x', { elem: 'float32', dims: [1, SIDE] })
  const w = graph.addInitializer('w', Tensor.float32([SIDE, SIDE], values))
  graph.addOutput(graph.append().op('Add', [graph.append().op('MatMul', [x, w]), graph.append().scalar(1)]))
  return new Model(graph)
}
const weightOf = (m: Model): Tensor => m.graph.find('w')!.constant!

test('a large tensor stays in the file, is read in parts, and outlives the file that is written over it', async (t) => {
  const path = join(scratch(t), 'm.onnx')
  const before = encodeModel(large())
  await writeModel(large(), path)
  assert.ok(readFileSync(path).equals(before))
  const model = await readModel(path)
  const w = weightOf(model)
  assert.ok(w.isLazy && !model.graph.find('x')!.constant)
  const parts = [...w.parts()].map((p) => p.size)
  assert.deepEqual([parts[0], parts.reduce((a, b) => a + b)], [PIECE / 4, SIDE * SIDE])
  assert.equal(countZeros(w), Math.ceil((SIDE * SIDE) / 5))
  assert.ok(w.equals(weightOf(large())) && !w.equals(weightOf(large()).mapFloats('float32', (v) => v.fill(1, 0, 1))))

  // over itself: the tensor is copied from the old file, which the model still holds
  model.metadata.set('new', 'x'.repeat(100_000))
  await writeModel(model, path)
  assert.ok(statSync(path).size > before.length + 100_000)
  const [old, again] = [weightOf(model), weightOf(await readModel(path))]
  assert.ok(old.isLazy && again.isLazy && old.equals(again))

  // changed in place: an error, not other numbers
  const third = weightOf(await readModel(path))
  appendFileSync(path, 'x')
  assert.throws(
    () => third.bytes,
    (e: unknown) => e instanceof MncError && e.code === 'data-changed' && e.file === path,
  )
})

test('the fingerprint is that of the content, in a file or in memory, and samples large tensors', async (t) => {
  const path = join(scratch(t), 'm.onnx')
  await writeModel(large(), path)
  const print = fingerprint(large())
  assert.equal(fingerprint(await readModel(path)), print)
  // 9.6 MB are hashed whole: one element tells
  const changed = large()
  changed.graph.find('w')!.setConstant(weightOf(changed).mapFloats('float32', (v) => v.fill(9, 70_000, 70_001)))
  assert.notEqual(fingerprint(changed), print)
  // 4 x 9.6 MB are sampled, alike from a file and from memory
  const four = large()
  for (const name of ['a', 'b', 'c'])
    four.graph.addInitializer(
      name,
      weightOf(four).mapFloats('float32', (v) => v.fill(1, 0, 9)),
    )
  await writeModel(four, path)
  const sampled = fingerprint(four)
  assert.equal(fingerprint(await readModel(path)), sampled)
  four.graph.find('a')!.setConstant(weightOf(four))
  assert.notEqual(fingerprint(four), sampled)
})

test('what is derived from a tensor in a file is computed when it is written', async (t) => {
  const path = join(scratch(t), 'm.onnx')
  await writeModel(large(), path)
  const change = (values: Float32Array, first: number): void => {
    for (let i = 0; i < values.length; i++) values[i]! += (first + i) % 7
  }
  for (const type of ['float32', 'float16'] as const) {
    const model = await readModel(path)
    const lazy = weightOf(model).mapFloats(type, change)
    const eager = weightOf(large()).mapFloats(type, change)
    assert.deepEqual([lazy.isLazy, eager.isLazy], [true, false])
    assert.ok(lazy.equals(eager) && Buffer.compare(lazy.bytes, eager.bytes) === 0)
    model.graph.find('w')!.setConstant(lazy)
    await writeModel(model, path.replace('m.', 'changed.'))
    assert.ok(weightOf(await readModel(path.replace('m.', 'changed.'))).equals(eager))
  }
})
