import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeModel } from '../../src/codec/codec.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { randomFeeds } from '../passes/golden.ts'
import { randomGraph, smallest, stepCount } from './random-graph.ts'

const SEEDS = Array.from({ length: 150 }, (_, i) => i)

test('random models are sound, run with the dims that they declare, and use every kind of operator', async () => {
  const seen = new Map<string, number>()
  for (const seed of SEEDS) {
    const model = randomGraph(seed)
    verifyModel(model)
    const session = await ortExecutor().load(model, { optimization: 'disabled', threads: 1 })
    const out = await session.run(randomFeeds(model, seed))
    await session.dispose()
    for (const v of model.graph.outputs) {
      const declared = v.type!.dims!.map((d) => (d === 'N' ? 3 : d))
      assert.deepEqual(out[v.name]!.dims, declared, `seed ${seed}, ${v.name}`)
      for (const x of out[v.name]!.toFloat32()) assert.ok(Math.abs(x) < 1e6, `seed ${seed}, ${v.name}: ${x}`)
    }
    for (const op of new Set(Array.from(model.graph.nodes(), (n) => n.op))) seen.set(op, (seen.get(op) ?? 0) + 1)
  }
  const rare = [...seen].filter(([, n]) => n < 2).map(([op, n]) => `${op} ${n}`)
  assert.ok(seen.size >= 37, [...seen.keys()].join(' '))
  assert.deepEqual(rare, [])
})

test('the same seed gives the same bytes, another seed another model, without its last step the beginning of itself', () => {
  const bytes = SEEDS.map((seed) => Buffer.from(encodeModel(randomGraph(seed))).toString('base64'))
  assert.deepEqual(
    SEEDS.map((seed) => Buffer.from(encodeModel(randomGraph(seed))).toString('base64')),
    bytes,
  )
  assert.equal(new Set(bytes).size, SEEDS.length)
  for (const seed of SEEDS) {
    const n = stepCount(seed)
    const whole = Array.from(randomGraph(seed).graph.nodes(), (node) => node.op)
    const part = Array.from(randomGraph(seed, { without: new Set([n - 1]) }).graph.nodes(), (node) => node.op)
    assert.deepEqual(whole.slice(0, part.length), part, `seed ${seed}`)
  }
})

test('the smallest model that still has what is looked for', async () => {
  const has = async (seed: number): Promise<boolean> =>
    [...randomGraph(seed).graph.nodes()].some((n) => n.op === 'MaxPool')
  let tried = 0
  for (const seed of SEEDS) {
    if (!(await has(seed)) || tried === 5) continue
    tried++
    const options = await smallest(seed, async (m) => [...m.graph.nodes()].some((n) => n.op === 'MaxPool'))
    const nodes = [...randomGraph(seed, options).graph.nodes()].map((n) => n.op)
    assert.ok(nodes.includes('MaxPool') && nodes.length < [...randomGraph(seed).graph.nodes()].length, `seed ${seed}`)
  }
  assert.equal(tried, 5)
})
