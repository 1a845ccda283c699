/** Large steps are loaded from a folder the second time: the same numbers, and never from a file that is incomplete. */
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { after, test } from 'node:test'
import { Tensor } from '../../../src/graph/tensor.ts'
import { buildNetwork } from '../../../src/models/spec.ts'
import { ortExecutor } from '../../../src/runtime/ort/ort.ts'
import { cacheFolder, SessionCache } from '../../../src/runtime/ort/session-cache.ts'
import { hyperFeeds, optimizerDefaults } from '../../../src/train/step/optimizers.ts'
import { buildStep } from '../../../src/train/step/step-graph.ts'
import { StepRunner } from '../../../src/train/step/step-runner.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-cache-'))
after(() => rmSync(scratch, { recursive: true }))

const model = buildNetwork({ family: 'resnet', depth: 98, size: 8 }, { seed: 1 })
const step = await buildStep(
  model,
  {
    ...{ batch: 2, loss: 'ce', alpha: 1, temperature: 1, optimizer: optimizerDefaults, batchStatistics: true },
    learnScales: false,
  },
  () => false,
)

/** The weights after two steps. */
async function twoSteps(cache?: string): Promise<Float32Array> {
  const runner = await StepRunner.create(step, ortExecutor(), { threads: 1, cache })
  runner.loadFrom(model)
  const images = Tensor.float32(
    step.inputDims,
    Float32Array.from({ length: 2 * 3 * 8 * 8 }, (_, i) => Math.sin(i * i)),
  )
  const classes = step.classes!
  const targets = Tensor.float32(
    [2, classes],
    Float32Array.from({ length: 2 * classes }, (_, i) => (i % classes === 1 ? 1 : 0)),
  )
  for (let i = 0; i < 2; i++) {
    await runner.step([{ images, targets }], hyperFeeds(optimizerDefaults, 0.1, i))
    runner.commit()
  }
  const weights = runner.vector('weights').slice()
  await runner.dispose()
  return weights
}

test('a large step is loaded from the folder, to the bit the same', async () => {
  const folder = join(scratch, 'steps')
  const plain = await twoSteps()
  assert.deepEqual(await twoSteps(folder), plain)
  const [name = ''] = readdirSync(folder)
  assert.match(name, /^[0-9a-f]{32}-[0-9a-f]{32}\.onnx$/)
  const path = join(folder, name)
  utimesSync(path, 0, 0)
  assert.deepEqual(await twoSteps(folder), plain)
  assert.deepEqual(readdirSync(folder), [name])
  assert.ok(statSync(path).mtimeMs > 0, 'used lately')

  const damaged = readFileSync(path)
  damaged[damaged.length >> 1]! ^= 1
  writeFileSync(path, damaged)
  assert.deepEqual(await twoSteps(folder), plain)
  const [anew = '', ...more] = readdirSync(folder)
  assert.deepEqual(more, [])
  assert.ok(anew.startsWith(name.slice(0, 33)), 'the same step, made anew')
  assert.ok(!readFileSync(join(folder, anew)).equals(damaged))
})

test('a folder that cannot be written is not an error', async () => {
  const file = join(scratch, 'file')
  writeFileSync(file, '')
  const cache = new SessionCache(file)
  assert.equal(await cache.begin(), null)
  assert.equal(await cache.find('0'.repeat(32)), null)
})

test('the key tells graphs and engines apart; the least recently used files are removed', async () => {
  const folder = join(scratch, 'room')
  const cache = new SessionCache(folder, 250)
  const graph = new Uint8Array([1, 2, 3])
  assert.notEqual(cache.key(graph, 'a 1'), cache.key(graph, 'a 2'))
  assert.notEqual(cache.key(graph, 'a 1'), cache.key(new Uint8Array([1, 2, 4]), 'a 1'))
  const keys = ['a', 'b', 'c'].map((c) => c.repeat(32))
  for (const [i, key] of keys.entries()) {
    const path = (await cache.begin())!
    writeFileSync(path, new Uint8Array(100).fill(i))
    if (i === 2) assert.ok(await cache.find(keys[0]!), 'used lately')
    await cache.keep(key, path)
    const kept = readdirSync(folder).find((n) => n.startsWith(key))!
    utimesSync(join(folder, kept), i, i)
    if (i === 0) assert.deepEqual(await cache.find(key), readFileSync(join(folder, kept)))
  }
  assert.ok(await cache.find(keys[0]!))
  assert.equal(await cache.find(keys[1]!), null)
  assert.ok(await cache.find(keys[2]!))
})

test('what a killed process left behind is removed in time', async () => {
  const folder = join(scratch, 'killed')
  const cache = new SessionCache(folder)
  const [old, young, done] = [(await cache.begin())!, (await cache.begin())!, (await cache.begin())!]
  utimesSync(old, 0, 0)
  writeFileSync(done, 'x')
  await cache.keep('d'.repeat(32), done)
  const left = readdirSync(folder)
  assert.equal(left.length, 2)
  assert.ok(left.includes(basename(young)))
  await cache.abandon(young)
  assert.equal(readdirSync(folder).length, 1)
})

test('the folder that commands use', () => {
  assert.equal(cacheFolder({ MNC_CACHE: 'off' }), undefined)
  assert.equal(cacheFolder({ MNC_CACHE: '/x', XDG_CACHE_HOME: '/y' }), '/x')
  assert.equal(cacheFolder({ XDG_CACHE_HOME: '/y' }), join('/y', 'mnc'))
  assert.ok(cacheFolder({})?.endsWith(join('.cache', 'mnc')))
})
