/** Folders of pictures without class folders: labelled by a file, or not at all. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { checkModels } from '../../src/check/check.ts'
import { checkBatches } from '../../src/check/check-data.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { calibrationData, openPictures, preprocessOf } from '../../src/data/index.ts'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import { png } from '../support/data-files.ts'
import { inMemory } from '../support/in-memory.ts'

const skip = (await import('sharp').catch(() => null)) ? false : 'the optional decoder sharp is not installed'
const scratch = mkdtempSync(join(tmpdir(), 'mnc-labels-'))
after(() => rmSync(scratch, { recursive: true }))

let folders = 0
/** Pictures by path, each of one value; texts as they are. */
function folder(files: Readonly<Record<string, number | string>>): string {
  const at = join(scratch, String(folders++))
  for (const [name, content] of Object.entries(files)) {
    const path = join(at, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, typeof content === 'string' ? content : png(4, 4, 3, new Uint8Array(48).fill(content)))
  }
  return `folder:${at}`
}
const open = (files: Readonly<Record<string, number | string>>, split: 'train' | 'test' = 'train') =>
  openPictures(folder(files), split)

/** First byte to class. */
async function contents(files: Readonly<Record<string, number | string>>, split: 'train' | 'test' = 'train') {
  const set = await inMemory(await open(files, split))
  const pairs = Array.from(set.labels, (label, i) => [set.image(i)[0]!, set.classNames?.[label] ?? label] as const)
  return { set, byPixel: Object.fromEntries(pairs) as Record<number, string | number> }
}

test('labels.csv and labels.json: names, heads, quotes, sub-folders, byte order marks', { skip }, async () => {
  const pictures = { 'a.png': 10, 'b,c.png': 20, 'deep/d.png': 30, 'e.png': 40 }
  const want = { 10: 'cat', 20: 'a "dog", old', 30: 'cat', 40: '10' }
  const csv = '\uFEFFfile,label\r\na.png,cat\r\n"b,c.png","a ""dog"", old"\r\n\r\ndeep/d.png, cat\r\n./e.png,10\r\n'
  const json = JSON.stringify({ 'a.png': 'cat', 'b,c.png': 'a "dog", old', 'deep/d.png': 'cat', 'e.png': 10 })
  const list = JSON.stringify(Object.entries(JSON.parse(json)))
  for (const [name, text] of [
    ['labels.csv', csv],
    ['labels.json', json],
    ['labels.json', list],
  ] as const) {
    const { set, byPixel } = await contents({ ...pictures, [name]: text, 'unlisted.png': 50 })
    assert.deepEqual(byPixel, want)
    // by code point
    assert.deepEqual(set.classNames, ['10', 'a "dog", old', 'cat'])
    assert.match(set.notes.join(), /left out: 1 pictures without a label/)
  }
})

test('labels that are whole numbers are output indices, up to the largest of both splits', { skip }, async () => {
  const files = {
    ...{ 'train/a.png': 10, 'train/b.png': 20, 'train/labels.csv': 'a.png,2\nb.png,0\n' },
    ...{ 'test/c.png': 30, 'test/labels.csv': 'c.png,4\n' },
  }
  const { set, byPixel } = await contents(files)
  assert.deepEqual([byPixel, set.classes, set.classNames], [{ 10: 2, 20: 0 }, 5, undefined])
  assert.deepEqual((await contents(files, 'test')).byPixel, { 30: 4 })
})

test('what is wrong with a file of labels is said with its line', { skip }, async () => {
  const cases: [Record<string, number | string>, RegExp][] = [
    [{ 'labels.csv': 'a.png,cat\nb.png,dog\n' }, /labels\.csv, line 2: there is no file 'b\.png'/],
    [{ 'labels.csv': 'a.png,cat\na.png,dog\n' }, /line 2: 'a\.png' is there twice/],
    [{ 'labels.csv': 'a.png,cat\n./a.png,dog\n' }, /line 2: '\.\/a\.png' is there twice/],
    [{ 'labels.csv': 'a.png\n' }, /line 1: 'a\.png' is not FILE,LABEL/],
    [{ 'labels.csv': 'a.png,"cat\n' }, /is not FILE,LABEL/],
    [{ 'labels.csv': 'a.png,\n' }, /line 1: 'a\.png' has no label/],
    [{ 'labels.csv': '../0/a.png,cat\n' }, /is not inside the folder/],
    [{ 'labels.csv': '' }, /labels\.csv is empty/],
    [{ 'labels.csv': 'file,label\n' }, /labels\.csv is empty/],
    [{ 'labels.csv': 'a.png,99999999\n' }, /is 99999999; a label is a whole number from 0/],
    [{ 'labels.json': '{"a.png": "cat"' }, /labels\.json is not JSON/],
    [{ 'labels.json': '{"a.png": ["cat"]}' }, /entry 1: it is not a file and its label/],
    [{ 'labels.json': '7' }, /entry 1: it is not a file and its label/],
    [{ 'labels.json': '{}', 'labels.csv': '' }, /has both labels\.csv and labels\.json/],
    [{ 'labels.csv': 'labels.csv,cat\n' }, /labels\.csv is not a readable image/],
  ]
  for (const [files, message] of cases) await assert.rejects(open({ 'a.png': 1, ...files }), message, String(message))
  const onlyTest = {
    'train/a.png': 1,
    'train/labels.csv': 'a.png,cat',
    'test/a.png': 2,
    'test/labels.csv': 'a.png,dog',
  }
  await assert.rejects(open(onlyTest), /test\/labels\.csv has classes that .*train\/labels\.csv lacks: 'dog'/)
  const mixed = { 'train/cat/a.png': 1, 'test/a.png': 2 }
  await assert.rejects(open(mixed), /come from class folders, those of .*test from nowhere/)
})

test('a plain folder of pictures calibrates and checks; accuracy needs labels', { skip }, async () => {
  const files = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`${i}.png`, i * 20]))
  const set = await open(files)
  assert.deepEqual([set.size, set.isLabelled, set.classes], [9, false, 0])
  assert.match(set.notes.join(), /has no class folders and no labels\.csv: its pictures have no labels/)
  const model = parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[N,3,4,4]
  init %axes = int64[2] [2, 3]
  %y : float32[N,3] = ReduceMean(%x, %axes) {keepdims=0}
  output %y
end
`)
  const pixels = { mean: [0, 0, 0], std: [1, 1, 1] }
  const seen: number[] = []
  for await (const { x } of (await calibrationData(model, set, { ...pixels, batch: 4 })).batches())
    for (let i = 0; i < x!.dims[0]!; i++) seen.push(x!.toFloat32()[i * 48]!)
  assert.deepEqual(
    seen,
    Array.from({ length: 9 }, (_, i) => Math.fround((i * 20) / 255)),
  )
  const preprocess = await preprocessOf(model, set, pixels)
  const checked = await checkModels(model, model, { batches: checkBatches(model, set, preprocess, 4) })
  assert.deepEqual([checked.samples, checked.reference.top1, checked.maxAbsError], [9, null, 0])
  await assert.rejects(evaluate(model, set, preprocess), /has no labels to measure accuracy with/)
  assert.deepEqual([set.take(3).isLabelled, set.select([1]).isLabelled], [false, false])
})
