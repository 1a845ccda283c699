import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Rng } from '../../src/base/rng.ts'
import { estimate, isSignificant } from '../../src/latency/statistics.ts'

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)

test('the ranks of the interval are those of the published table', () => {
  // Conover, table A3: n = 6: 1st to 6th, 10: 2nd to 9th, 20: 6th to 15th, 50: 18th to 33rd
  const ranks = (n: number): number[] => [estimate(range(n)).low, estimate(range(n)).high]
  assert.deepEqual(ranks(6), [1, 6])
  assert.deepEqual(ranks(10), [2, 9])
  assert.deepEqual(ranks(20), [6, 15])
  assert.deepEqual(ranks(50), [18, 33])
  assert.deepEqual(ranks(3), [1, 3])
})

test('the interval holds the median, whatever the order and the number of values', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 1e-6, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 3000 }),
      (values) => {
        const { median, low, high } = estimate(values)
        assert.ok(low <= median && median <= high)
        assert.deepEqual(estimate([...values].reverse()), { median, low, high })
      },
    ),
    { numRuns: 50, seed: 1 },
  )
})

test('it holds the true median in 95 % of draws, of a skewed distribution too', () => {
  const rng = new Rng(4)
  let inside = 0
  for (let k = 0; k < 2000; k++) {
    // exponential: its median is ln 2
    const { low, high } = estimate(Array.from({ length: 31 }, () => -Math.log(1 - rng.uniform(0, 1))))
    if (low <= Math.LN2 && Math.LN2 <= high) inside++
  }
  assert.ok(inside / 2000 > 0.94 && inside / 2000 < 0.98, String(inside / 2000))
})

test('a ratio is a difference where its interval leaves out 1', () => {
  assert.equal(isSignificant({ median: 1.1, low: 1.01, high: 1.2 }), true)
  assert.equal(isSignificant({ median: 0.9, low: 0.8, high: 0.99 }), true)
  assert.equal(isSignificant({ median: 1.1, low: 1, high: 1.2 }), false)
})
