/** What a recipe's results depend on: every file that is read is remembered, and a change of any of them is seen. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import test, { after } from 'node:test'
import { readText } from '../../src/base/files.ts'
import { packageFile } from '../../src/base/package-files.ts'
import { Once, recordReads } from '../../src/base/reads.ts'
import { Rng } from '../../src/base/rng.ts'
import { writeModel } from '../../src/codec/codec.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { parseRecipe } from '../../src/recipes/load.ts'
import type { StageRecord } from '../../src/recipes/record.ts'
import { runRecipe } from '../../src/recipes/run.ts'
import { idx } from '../support/data-files.ts'
import { watchReads } from '../support/watch-reads.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-reads-'))
after(() => rmSync(folder, { recursive: true }))
const at = (...names: readonly string[]): string => join(folder, ...names)

/** A split of a set of 10 classes in IDX files, 12x12. */
function writeSplit(split: 'train' | 't10k', size: number, seed: number): void {
  const rng = new Rng(seed)
  const pixels = Uint8Array.from({ length: size * 144 }, () => rng.integer(256))
  const labels = Uint8Array.from({ length: size }, (_, i) => i % 10)
  mkdirSync(at('data'), { recursive: true })
  writeFileSync(at('data', `${split}-images-idx3-ubyte`), idx([size, 12, 12], pixels))
  writeFileSync(at('data', `${split}-labels-idx1-ubyte`), idx([size], labels))
}

writeSplit('train', 60, 1)
writeSplit('t10k', 30, 2)
writeFileSync(at('policy.json'), '{"flip": 0.5}')
await writeModel(buildNetwork({ family: 'lenet', size: 12 }), at('net.onnx'))

const recipe = {
  name: 'reads',
  data: `mnist:${at('data')}`,
  stages: [
    { name: 'measured', from: at('net.onnx') },
    { name: 'trained', from: 'measured', train: { 'max-steps': 1, batch: 8, augment: at('policy.json'), workers: 0 } },
    { name: 'rounded', from: 'trained', passes: [{ quantize: { limit: 8, ops: ['Gemm'] } }], check: [{ limit: 10 }] },
  ],
}
const run = async () => runRecipe(await parseRecipe(recipe), { workdir: at('work') })
const statuses = async (): Promise<string> => (await run()).stages.map((s) => s.status).join()
const recordOf = (stage: string): StageRecord => JSON.parse(readFileSync(at('work', `${stage}.json`), 'utf8'))

test('all that is opened while stages are made and measured is in their records', async () => {
  const { opened } = await watchReads(run)
  const known = new Set<string>()
  for (const { name } of recipe.stages) {
    const { reads } = recordOf(name)
    for (const path of Object.keys({ ...reads?.make, ...reads?.measure })) known.add(resolve(at('work'), path))
  }
  const own = (path: string): boolean => path.startsWith(at('work'))
  const shipped = (path: string): boolean => !relative(packageFile(''), path).startsWith('..')
  const forgotten = [...opened].filter((path) => !own(path) && !shipped(path) && !known.has(path))
  assert.deepEqual(forgotten, [])
  const images = ['train-images-idx3-ubyte', 't10k-images-idx3-ubyte'].map((f) => at('data', f))
  for (const path of [at('net.onnx'), at('policy.json'), ...images]) assert.ok(known.has(path), path)
})

test('a change of the training images reaches what is made from them, and what is measured with their statistics', async () => {
  assert.equal(await statuses(), 'skipped,skipped,skipped')
  const now = new Date()
  for (const file of ['train-images-idx3-ubyte', 't10k-images-idx3-ubyte']) utimesSync(at('data', file), now, now)
  assert.equal(await statuses(), 'skipped,skipped,skipped', 'another time, the same content')
  writeSplit('train', 60, 3)
  // the first stage's model says nothing of pixels, so it is measured with the statistics of the training part
  assert.equal(await statuses(), 'measured,made,made')
  writeSplit('t10k', 30, 4)
  assert.equal(await statuses(), 'measured,measured,measured')
  writeFileSync(at('policy.json'), '{"flip": 0.25}')
  assert.match(await statuses(), /^skipped,made,/)
  assert.equal(await statuses(), 'skipped,skipped,skipped')
})

test('work that is done once counts as read for everyone who asks', async () => {
  let times = 0
  const once = new Once(async () => {
    times++
    return readText(at('policy.json'))
  })
  for (let i = 0; i < 2; i++) {
    const { result, reads } = await recordReads(() => once.get())
    assert.equal(result, '{"flip": 0.25}')
    assert.deepEqual([...reads], [at('policy.json')])
  }
  const outer = await recordReads(async () => recordReads(() => readText(at('net.onnx'))))
  assert.deepEqual([...outer.reads], [at('net.onnx')])
  assert.equal(times, 1)
})
