/** Intervals of paired differences: against published figures, and against the truth in simulated experiments. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { pairedDifference, samplesNeeded, samplesToTell, wilson, Z } from '../../src/evaluate/paired.ts'

/** Samples by who is right: both, the first only, the second only, neither. */
function samples(a: number, b: number, c: number, d: number): [Uint8Array, Uint8Array] {
  const of = (x: readonly number[]): Uint8Array =>
    Uint8Array.from(x.flatMap((v, i) => new Array<number>([a, b, c, d][i]!).fill(v)))
  return [of([1, 1, 0, 0]), of([1, 0, 1, 0])]
}

test('the interval is the published one: Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10', () => {
  const { drop, low, high } = pairedDifference(...samples(36, 12, 2, 0))
  assert.deepEqual(
    [drop, low, high].map((x) => x.toFixed(4)),
    ['0.2000', '0.0569', '0.3404'],
  )
})

test('the interval holds the truth in about 95 of 100 experiments', () => {
  const rng = new Rng(1)
  const [n, both, first, second] = [400, 0.85, 0.05, 0.03]
  let held = 0
  const runs = 1000
  for (let k = 0; k < runs; k++) {
    const x = new Uint8Array(n)
    const y = new Uint8Array(n)
    for (let i = 0; i < n; i++) {
      const u = rng.uniform(0, 1)
      if (u < both) x[i] = y[i] = 1
      else if (u < both + first) x[i] = 1
      else if (u < both + first + second) y[i] = 1
    }
    const { low, high } = pairedDifference(x, y)
    if (low <= first - second && first - second <= high) held++
  }
  assert.ok(held / runs > 0.93 && held / runs < 0.98, `${held} of ${runs}`)
})

test('with as many samples as are needed the interval is as narrow as the drop', () => {
  for (const [drop, disagree] of [
    [0.01, 0.03],
    [0.002, 0.02],
  ] as const) {
    const n = samplesNeeded(drop, disagree)
    const half = Math.round((n * disagree) / 2)
    const [x, y] = samples(Math.round(n * 0.9), half, half, Math.round(n * (0.1 - disagree)))
    const { low, high } = pairedDifference(x, y)
    assert.ok(Math.abs((high - low) / 2 - drop) < 0.1 * drop, `${(high - low) / 2} for ${drop}`)
  }
  assert.equal(samplesNeeded(0), Number.POSITIVE_INFINITY)
})

test("Wilson's interval of 0 and all of n", () => {
  assert.deepEqual([wilson(0, 20).low, wilson(20, 20).high], [0, 1])
  assert.ok(Math.abs(wilson(0, 20).high - (Z * Z) / (20 + Z * Z)) < 1e-12)
})

test('what is said to tell is more than there are, where these do not', () => {
  for (const n of [10, 20, 40, 100, 300]) {
    const right = new Array<number>(n).fill(1)
    const alike = pairedDifference(right, right)
    assert.ok(alike.high > 0.01)
    assert.ok(samplesToTell(0.01, alike) > n, `${n}`)
    const other = pairedDifference(right.with(0, 0), right.with(1, 0))
    assert.ok(samplesToTell(0.01, other) > n, `${n}`)
  }
})
