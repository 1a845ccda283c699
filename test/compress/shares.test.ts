/** Work done beforehand in shares: the run finds it, and gives the bytes of a run that did all by itself. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import test from 'node:test'
import { mnc } from '../cli/run-mnc.ts'
import { mnc as built, run } from '../support/mpi.ts'
import { at, netAndData } from './nets.ts'

const { net, data } = await netAndData()
// more is asked of the outputs than any width gives: else 4 bits everywhere would be enough
const words = (out: string, work = `${out}.work`): string[] => [
  ...['compress', net, '--data', data, '--goal', 'bytes=9KB', '--target', 'size', '--effort', 'fast', '--batch', '10'],
  ...['--no-labels', '--min-cosine', '0.999999', '--limit', '8', '--held', '20', '--workers', '0', '--threads', '1'],
  ...['-o', at(`${out}.onnx`), '--work', at(work)],
]
const bytesOf = (name: string): Buffer => readFileSync(at(name))

/** What was asked for may be out of reach: the nearest file is written all the same. */
const made = async (...given: readonly string[]): Promise<string> => {
  const { code, err } = await mnc(...given)
  assert.ok(code === 0 || code === 3, err)
  return err
}

await made(...words('single'))
assert.ok(existsSync(at('single.work/layers.json')), 'the goal takes a split of the bytes')

const sameAsSingle = (name: string): void => {
  for (const end of ['onnx', 'recipe.json'])
    assert.equal(
      bytesOf(`${name}.${end}`).toString('hex'),
      bytesOf(`single.${end}`)
        .toString('hex')
        .replaceAll(Buffer.from('single').toString('hex'), Buffer.from(name).toString('hex')),
      `${name}.${end}`,
    )
}

test('shares on several machines, one work folder', async () => {
  for (const i of [3, 1, 2]) {
    const { code, out, err } = await mnc(...words('shared'), '--shard', `${i}/3`, '--json')
    assert.equal(code, 0, err)
    assert.ok(JSON.parse(out).items > 0)
    assert.ok(!existsSync(at('shared.onnx')))
  }
  await made(...words('shared'))
  // all that layers cost was known
  assert.ok(existsSync(at('shared.work/layers.2-of-3.json')) && !existsSync(at('shared.work/layers.json')))
  sameAsSingle('shared')
})

test('a share of another run does not count', async () => {
  const other = words('other').with(words('other').indexOf('10'), '12')
  // items are far more than that: one candidate, or one layer at one width
  assert.equal((await mnc(...other, '--shard', '2/15')).code, 0)
  assert.ok(existsSync(at('other.work/layers.2-of-15.json')))
  const { code, err } = await mnc(...words('other'), '--shard', '1/40')
  assert.equal(code, 0, err)
  assert.match(err, /holds points of another model, data or effort: they are replaced/)
  assert.ok(!existsSync(at('other.work/layers.2-of-15.json')))
})

test('--jobs', async () => {
  const { code, err } = await run([...built, ...words('jobs'), '--jobs', '2'])
  assert.ok(code === 0 || code === 3, err)
  assert.ok(existsSync(at('jobs.work/layers.1-of-2.json')) && !existsSync(at('jobs.work/layers.json')))
  sameAsSingle('jobs')
})
