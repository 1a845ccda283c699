/** `mnc run --jobs`: the files of a run by itself, stages that do not wait for each other side by side. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import test from 'node:test'
import { parseRecipe } from '../../src/recipes/load.ts'
import { neededBy } from '../../src/recipes/needs.ts'
import { mnc as built, run } from '../support/mpi.ts'
import { scratch } from '../train/fixtures.ts'

const at = scratch()
const train = { 'max-steps': 2, batch: 8, limit: 32, augment: 'none', threads: 1, workers: 0 }

const quantize = { 'weight-bits': 4, 'activation-bits': 0, ops: ['Conv', 'Gemm'] }

/** Two branches, and a stage behind both. `most`: what the first branch may lose. */
const recipe = (most: number): object => ({
  ...{ name: 'branches', data: 'embedded', defaults: { train, eval: { limit: 20, threads: 1 } } },
  stages: [
    { name: 'net', build: { family: 'lenet', size: 12, channels: 1 }, train: {} },
    { name: 'half', from: 'net', teacher: 'net', passes: [{ quantize }], train: { loss: 'kl' } },
    { name: 'tenth', from: 'net', passes: [{ prune: { sparsity: 0.9 } }], eval: { limit: 20, 'min-accuracy': most } },
    {
      name: 'packed',
      from: 'half',
      export: { format: 'packed' },
      check: [{ against: 'tenth', limit: 20 }],
    },
  ],
})

const file = (name: string, json: object): string => {
  writeFileSync(at(name), JSON.stringify(json))
  return at(name)
}
const runIn = (path: string, workdir: string, ...more: readonly string[]) =>
  run([...built, 'run', path, '--workdir', at(workdir), ...more])

test('a stage waits for the stages whose files it reads', async () => {
  const { stages } = await parseRecipe(recipe(0))
  assert.deepEqual(
    stages.map((s) => [s.name, [...new Set(neededBy(s))].sort()]),
    [
      ['net', []],
      ['half', ['net']],
      ['tenth', ['net']],
      ['packed', ['half', 'tenth']],
    ],
  )
})

test('--jobs makes the same files', async () => {
  const path = file('recipe.json', recipe(0))
  const [alone, shared] = [await runIn(path, 'alone'), await runIn(path, 'shared', '--jobs', '2')]
  assert.equal(alone.code, 0, alone.err)
  assert.equal(shared.code, 0, shared.err)
  assert.match(shared.err, /half: in a process of its own/)
  for (const name of ['net', 'half', 'tenth', 'packed'])
    assert.ok(readFileSync(at(`alone/${name}.onnx`)).equals(readFileSync(at(`shared/${name}.onnx`))), name)
  assert.match(shared.err, /\[4\/4\] packed: up to date/)
})

test('a gate that fails ends the run, and the stages that wait for it are not made', async () => {
  const { code, err } = await runIn(file('gated.json', recipe(0.99)), 'gated', '--jobs', '2')
  assert.equal(code, 3, err)
  assert.match(err, /below min-accuracy 99.00 %/)
  assert.ok(existsSync(at('gated/half.onnx')) && !existsSync(at('gated/packed.onnx')))
})
