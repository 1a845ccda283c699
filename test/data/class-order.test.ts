/** Which output is which class: the model's metadata, a file, or the data's own order. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { checkSameOrder, inClassOrder, inModelOrder, loadClassOrder } from '../../src/data/class-order.ts'
import { Dataset, sharedBytes } from '../../src/data/index.ts'
import { readClassOrder, writeClassOrder } from '../../src/graph/class-names.ts'
import { marks } from '../../src/graph/marks.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { Sink } from '../cli/sink.ts'
import { npy, npz } from '../support/data-files.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-classes-'))
after(() => rmSync(scratch, { recursive: true }))
const lenet = (classes: number) => buildNetwork({ family: 'lenet', classes }, { seed: 1 })
const set = (classNames?: string[], labels = [0, 1, 2, 1]) =>
  new Dataset({
    ...{ name: 'few', split: 'test', classes: 3, channels: 1, height: 2, width: 2, classNames },
    ...{ images: sharedBytes(4 * labels.length), labels: Int32Array.from(labels) },
  })

test('data is brought into the order of names, or refused with the names that are not in it', () => {
  const abc = set(['a', 'b', 'c'])
  assert.deepEqual([...inClassOrder(abc, ['c', 'x', 'a', 'b'], 'it').labels], [2, 3, 0, 3])
  assert.equal(inClassOrder(abc, ['c', 'x', 'a', 'b'], 'it').classes, 4)
  assert.equal(inClassOrder(abc, ['a', 'b', 'c'], 'it'), abc)
  assert.throws(() => inClassOrder(abc, ['a', 'B', 'c'], 'the model'), /classes that the model does not name: 'b'; it/)
  const nameless = inClassOrder(set(), ['c', 'b', 'a', 'x'], 'it')
  assert.deepEqual([[...nameless.labels], nameless.classes], [[0, 1, 2, 1], 4])
  assert.throws(
    () => inClassOrder(set(), ['a', 'b'], 'the model'),
    /has labels up to 2, in one of its splits, but the model names 2 classes, 0 to 1/,
  )
})

test('names in metadata: its own, and as other tools write them', async () => {
  const model = lenet(2)
  assert.equal(readClassOrder(model), null)
  for (const [key, text] of [
    ['names', "{0: 'fire truck', 1: \"driver's seat\"}"],
    ['id2label', '{"1": "driver\'s seat", "0": "fire truck"}'],
    ['classes', '["fire truck", "driver\'s seat"]'],
  ] as const) {
    model.metadata.set(key, text)
    assert.deepEqual(readClassOrder(model), ['fire truck', "driver's seat"], key)
    model.metadata.delete(key)
  }
  for (const text of ['', '[]', '[1]', '["a","a"]', '{0: "a", 2: "b"}', '{"a": 0, "b": 0}', 'people', '5', 'null']) {
    model.metadata.set('labels', text)
    assert.equal(readClassOrder(model), null, text)
  }
  marks.classes.set(model, [1])
  assert.throws(() => readClassOrder(model), /mnc\.classes is malformed/)
  writeClassOrder(model, ['b', 'a'])
  assert.deepEqual(
    [
      ...inModelOrder(
        model,
        new Dataset({
          ...set(['a', 'b', 'c']),
          classes: 2,
          classNames: ['a', 'b'],
          images: sharedBytes(8),
          labels: Int32Array.of(0, 1),
        }),
      ).labels,
    ],
    [1, 0],
  )
  const other = lenet(2)
  checkSameOrder(model, other, 'it')
  writeClassOrder(other, ['a', 'b'])
  assert.throws(
    () => checkSameOrder(model, other, 'the teacher'),
    /the teacher numbers its classes differently: 'a', 'b' ins/,
  )
})

test('--classes FILE: lines, a list, and both kinds of dictionary', () => {
  const file = join(scratch, 'names')
  for (const text of ['dog\ncat\r\n\n', '["dog", "cat"]', '{"cat": 1, "dog": 0}', ' {"0": "dog", "1": "cat"}']) {
    writeFileSync(file, text)
    assert.deepEqual(loadClassOrder(file), ['dog', 'cat'])
  }
  for (const text of ['', 'a\na', '{"a": 1}', '[]', '["a", 1]', '{"a": 0', '{"a": 1e9}']) {
    writeFileSync(file, text)
    assert.throws(() => loadClassOrder(file), /does not contain a list of distinct names/, text)
  }
  assert.throws(() => loadClassOrder(scratch), { blame: 'user', file: scratch })
  assert.throws(() => loadClassOrder(join(scratch, 'none')), { blame: 'user', file: join(scratch, 'none') })
})

test('training records the order; data in another order is mapped, other data is refused', async () => {
  const model = join(scratch, 'net.onnx')
  await writeModel(lenet(3), model)
  const pixels = Uint8Array.from({ length: 12 * 784 }, (_, i) => (i * 37) % 256)
  const data = join(scratch, 'data.npz')
  const labels = Uint8Array.from({ length: 12 }, (_, i) => i % 3)
  writeFileSync(data, npz({ images: npy(pixels, [12, 28, 28]), labels: npy(labels, [12]) }))
  const names = join(scratch, 'order')
  writeFileSync(names, 'zebra\nant\ncow\n')
  const run = async (...args: string[]) => {
    const [stdout, stderr] = [new Sink(), new Sink()]
    const code = await runCommandLine(args, { stdout, stderr })
    return { code, out: stdout.text, err: stderr.text }
  }
  const trained = join(scratch, 'trained.onnx')
  const common = ['--data', `npz:${data}`, '--batch', '4', '--classes', names]
  const made = await run('train', model, ...common, '--max-steps', '1', '--workers', '0', '-o', trained)
  assert.equal(made.code, 0, made.err)
  assert.deepEqual(readClassOrder(await readModel(trained)), ['zebra', 'ant', 'cow'])
  const shown = await run('eval', trained, '--data', `npz:${data}`, '--json')
  assert.deepEqual(JSON.parse(shown.out).data.classNames, ['zebra', 'ant', 'cow'])
  assert.match(shown.err, /12 images of 3 classes: 0 zebra, 1 ant, 2 cow/)
  assert.match((await run('info', trained)).out, /classes\s+3: zebra, ant, cow/)
  writeFileSync(names, 'zebra\nant\n')
  const refused = await run('eval', trained, ...common)
  assert.deepEqual(
    [refused.code, /has labels up to 2, .*but --classes .*order names 2 classes/.test(refused.err)],
    [2, true],
    refused.err,
  )
  assert.equal(readFileSync(names, 'utf8'), 'zebra\nant\n')
})

test('a loss that is not a number is an error, not an accuracy', async () => {
  const network = lenet(3)
  const weight = [...network.graph.initializers()].at(-1)!
  weight.constant!.view('float32').fill(Number.NaN)
  const model = join(scratch, 'nan.onnx')
  await writeModel(network, model)
  const data = join(scratch, 'some.npz')
  const images = npy(
    new Uint8Array(3 * 784).map((_, i) => i),
    [3, 28, 28],
  )
  writeFileSync(data, npz({ images, labels: npy(Uint8Array.of(0, 1, 2), [3]) }))
  const stderr = new Sink()
  assert.equal(await runCommandLine(['eval', model, '--data', `npz:${data}`], { stdout: new Sink(), stderr }), 2)
  assert.match(stderr.text, /nan\.onnx: the loss is NaN: scores of some of the 3 images are NaN or infinite/)
})
