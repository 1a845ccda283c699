/** The TypeScript of docs/training.md, pasted into a file and run against the library's index. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import test from 'node:test'
import { pathToFileURL } from 'node:url'
import { readModel } from '../../src/codec/codec.ts'
import { prepareImports } from '../../src/config/imports.ts'
import { scratch } from './fixtures.ts'

const at = scratch()

test('the example in docs/training.md trains and writes a model', async (t) => {
  const code = /```ts\n([\s\S]*?)```/.exec(readFileSync('docs/training.md', 'utf8'))![1]!
  const out = at('lenet.trained.onnx')
  assert.ok(code.includes("from 'mnc'") && code.includes("'lenet.trained.onnx'"))
  const file = at('example.mts')
  writeFileSync(file, code.replace("'lenet.trained.onnx'", JSON.stringify(out)))
  prepareImports()
  const lines: unknown[][] = []
  t.mock.method(console, 'log', (...line: unknown[]) => void lines.push(line))
  await import(pathToFileURL(file).href)
  assert.deepEqual(
    lines.filter(([word]) => word === 'epoch').map(([, epoch]) => epoch),
    [0, 1],
  )
  const last = lines.at(-1)!
  assert.equal(last[0], 'accuracy on the training images')
  assert.ok(Number(last[1]) > 0.4, `top-1 ${last[1]}`)
  assert.ok((await readModel(out)).graph.find('fc3.weight'))
})
