import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'

const draw = (rng: Rng, n: number) => Array.from({ length: n }, () => rng.next32())

test('the generator is xoshiro128**: its published first outputs for state 1, 2, 3, 4', () => {
  const rng = Rng.restore({ words: [1, 2, 3, 4], spare: null })
  assert.deepEqual(draw(rng, 6), [11520, 0, 5927040, 70819200, 2031721883, 1637235492])
})

test('streams differ by each key, and the same keys give the same numbers', () => {
  const keys = [[0], [1], [0, 0], [0, 1], [1, 0], [2 ** 32], [2 ** 40], [-1], [0, 0, 0]]
  const firsts = keys.map((k) => draw(new Rng(...k), 4).join())
  assert.equal(new Set(firsts).size, keys.length)
  assert.deepEqual(
    keys.map((k) => draw(new Rng(...k), 4).join()),
    firsts,
  )
})

test('a restored state continues the stream, spare normal included', () => {
  const rng = new Rng(7, 3)
  rng.normal()
  const saved = JSON.parse(JSON.stringify(rng.state))
  const on = [rng.normal(), rng.uniform(), rng.integer(1000), rng.normal()]
  const again = Rng.restore(saved)
  assert.deepEqual([again.normal(), again.uniform(), again.integer(1000), again.normal()], on)
})

test('moments of uniform and normal, and a fair integer', () => {
  const rng = new Rng(11)
  const n = 200_000
  let [u, z, zz] = [0, 0, 0]
  const counts = new Array<number>(7).fill(0)
  for (let i = 0; i < n; i++) {
    u += rng.uniform()
    const x = rng.normal(1, 2)
    z += x
    zz += (x - 1) ** 2
    counts[rng.integer(7)]!++
  }
  // Five standard errors each.
  assert.ok(Math.abs(u / n - 0.5) < (5 * 0.2887) / Math.sqrt(n))
  assert.ok(Math.abs(z / n - 1) < (5 * 2) / Math.sqrt(n))
  assert.ok(Math.abs(zz / n - 4) < (5 * 5.7) / Math.sqrt(n))
  for (const c of counts) assert.ok(Math.abs(c - n / 7) < 5 * Math.sqrt(n / 7), String(counts))
})

test('a permutation holds each index once and its first places are fair', () => {
  const first = new Array<number>(5).fill(0)
  for (let i = 0; i < 5000; i++) {
    const p = new Rng(3, i).permutation(5)
    assert.deepEqual([...p].sort(), [0, 1, 2, 3, 4])
    first[p[0]!]!++
  }
  for (const c of first) assert.ok(Math.abs(c - 1000) < 150, String(first))
})
