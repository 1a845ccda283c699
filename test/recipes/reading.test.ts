/** How a recipe's data are read: classes, memory, notes. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { after } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { readModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { readClassOrder } from '../../src/graph/class-names.ts'
import { mnc } from '../cli/run-mnc.ts'
import { Sink } from '../cli/sink.ts'
import { npy, npz } from '../support/data-files.ts'

const folder = mkdtempSync(join(tmpdir(), 'mnc-reading-'))
after(() => rmSync(folder, { recursive: true }))
const at = (name: string): string => join(folder, name)

const SIZE = 12
const COUNT = 20
const rng = new Rng(1)
const bytes = (length: number, below: number): Uint8Array => Uint8Array.from({ length }, () => rng.integer(below))
const floats = (length: number): Float32Array => Float32Array.from(bytes(length, 256), (b) => b / 255)
/** Three of five classes. */
writeFileSync(
  at('set.npz'),
  npz({
    images: npy(floats(COUNT * SIZE * SIZE), [COUNT, SIZE, SIZE]),
    labels: npy(bytes(COUNT, 3), [COUNT]),
  }),
)
const NAMES = ['ant', 'bee', 'cat', 'dog', 'eel']
const one = { 'max-steps': 1, batch: 4, augment: 'none', workers: 0 }
const net = { family: 'densenet-bc', depth: 10, growth: 2, size: SIZE, channels: 1, classes: 5 }
const recipe = (reading: object, more: object = {}): object => ({
  ...{ name: 'small', data: `npz:${at('set.npz')}`, reading, defaults: { train: one } },
  stages: [
    { name: 'net', build: net, train: {}, ...more },
    { name: 'rounded', from: 'net', passes: [{ quantize: { limit: 8 } }] },
  ],
})

async function run(recipe: object, work: string, ...flags: readonly string[]) {
  writeFileSync(at('recipe.json'), JSON.stringify(recipe))
  return mnc('run', at('recipe.json'), '--workdir', at(work), ...flags)
}

test('classes of a recipe, a stage or the command line; notes are shown once', async () => {
  writeFileSync(at('names.txt'), NAMES.join('\n'))
  const without = await run(recipe({}), 'without')
  assert.equal(without.code, 2)
  assert.match(without.err, /5 classes, but npz:.* has 3/)

  const reading = { classes: at('names.txt') }
  const first = await run(recipe(reading), 'whole')
  assert.equal(first.code, 0, first.err)
  assert.equal(first.err.match(/note: pixels are/g)?.length, 1, first.err)
  for (const name of ['net', 'rounded'])
    assert.deepEqual(readClassOrder(await readModel(at(`whole/${name}.onnx`))), NAMES)
  assert.doesNotMatch((await run(recipe(reading), 'whole')).err, /\] \w+: (?!up to date)/)

  const ways: Readonly<Record<string, [object, ...string[]]>> = {
    stage: [recipe({ classes: 'nowhere.txt' }, { reading }), '--until', 'net'],
    flag: [recipe({ classes: 'nowhere.txt' }), '--classes', at('names.txt'), '--until', 'net'],
  }
  for (const [what, [given, ...flags]] of Object.entries(ways)) {
    const { code, err: stderr } = await run(given, what, ...flags)
    assert.equal(code, 0, `${what}: ${stderr}`)
    assert.deepEqual(readFileSync(at(`${what}/net.onnx`)), readFileSync(at('whole/net.onnx')), what)
  }
  const missing = await run(recipe({ classes: 'nowhere.txt' }), 'missing')
  assert.deepEqual([missing.code, /nowhere\.txt/.test(missing.err)], [2, true], missing.err)

  writeFileSync(at('names.txt'), NAMES.toReversed().join('\n'))
  assert.match((await run(recipe(reading), 'whole')).err, /net: .*names\.txt, from which it was made, has changed/)
})

test('a stage gives the bytes of the single commands, with the flags that a dry run shows', async () => {
  writeFileSync(at('names.txt'), NAMES.join('\n'))
  const given = recipe({ classes: at('names.txt'), 'data-memory': 7 })
  assert.equal((await run(given, 'twin', '--until', 'net')).code, 0)
  const flags = ['--data', `npz:${at('set.npz')}`, '--classes', at('names.txt'), '--data-memory', '7']
  const { family, ...options } = net
  const spec = [family, ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])]
  assert.equal((await mnc('build', ...spec, '-o', at('built.onnx'))).code, 0)
  const own = Object.entries(one).flatMap(([name, value]) => [`--${name}`, String(value)])
  assert.equal((await mnc('train', at('built.onnx'), ...own, ...flags, '-o', at('net.onnx'))).code, 0)
  assert.deepEqual(readFileSync(at('net.onnx')), readFileSync(at('twin/net.onnx')))
  const [stdout, stderr] = [new Sink(), new Sink()]
  await runCommandLine(['run', at('recipe.json'), '--dry-run', '--workdir', at('dry')], { stdout, stderr })
  assert.ok(stdout.text.includes(flags.join(' ')), stdout.text)
  assert.ok(!existsSync(at('dry')))
})

test('the memory of a recipe is that of its data sets', async () => {
  writeFileSync(at('names.txt'), NAMES.join('\n'))
  const side = 300
  const large = {
    images: npy(new Uint8Array(COUNT * side * side), [COUNT, side, side]),
    labels: npy(bytes(COUNT, 3), [COUNT]),
  }
  writeFileSync(at('large.npz'), npz(large))
  const given = { ...recipe({ classes: at('names.txt'), 'data-memory': 1 }), data: `npz:${at('large.npz')}` }
  const { code, err: stderr } = await run(given, 'large')
  assert.equal(code, 2)
  assert.match(stderr, /large\.npz.* takes 2 MB of memory, more than the 1 MB for images/)
  assert.equal((await run(given, 'large', '--data-memory', '50', '--until', 'net')).code, 0)
  const odd = await run(recipe({ 'data-memoy': 1 }), 'odd')
  assert.match(odd.err, /reading: unknown 'data-memoy', did you mean 'data-memory'/)
})
