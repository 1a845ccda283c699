import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { factored, type RoundingProblem, roundRows } from '../../src/quant/nearest-plane.ts'

const options = { damping: 0.01, order: 'given', sweeps: 0 } as const

/** Correlated inputs, random weights of `rows` rows with one step each. */
function problem(seed: number, n: number, rows: number, masked = false): RoundingProblem {
  const rng = new Rng(seed)
  const uniform = (): number => rng.uniform(-1, 1)
  const mix = Array.from({ length: n * n }, uniform)
  const gram = new Float64Array(n * n)
  for (let k = 0; k < n; k++)
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) gram[i * n + j]! += mix[k * n + i]! * mix[k * n + j]!
  return {
    ...{ n, gram, pull: null, target: Float64Array.from({ length: rows * n }, uniform) },
    mask: masked ? Float32Array.from({ length: rows * n }, () => (rng.chance(0.4) ? 0 : 1)) : null,
    stepOf: Int32Array.from({ length: rows * n }, (_, at) => Math.floor(at / n)),
  }
}

const gridOf = (rows: number, bits: number) => ({
  lo: new Float64Array(rows).fill(-(2 ** (bits - 1))),
  hi: new Float64Array(rows).fill(2 ** (bits - 1) - 1),
})

function errorOf({ n, gram, target }: RoundingProblem, row: number, values: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++)
      sum += (target[row * n + i]! - values[i]!) * (target[row * n + j]! - values[j]!) * gram[i * n + j]!
  return sum
}

const damped = (p: RoundingProblem): RoundingProblem => {
  const { n } = p
  const gram = p.gram.slice()
  let trace = 0
  for (let i = 0; i < n; i++) trace += p.gram[i * n + i]!
  for (let i = 0; i < n; i++) gram[i * n + i]! += (options.damping * trace) / n
  return { ...p, gram }
}

test('the errors are those of the values, masked or not, in either order, with sweeps or without', () => {
  for (const masked of [false, true])
    for (const order of ['given', 'activation'] as const)
      for (const sweeps of [0, 3]) {
        const p = problem(3, 9, 4, masked)
        const f = factored(p, { ...options, order })
        const steps = Float64Array.of(0.3, 0.2, 0.15, 0.4)
        const { integers, errors } = roundRows(f, steps, gridOf(4, 4), sweeps)
        for (let row = 0; row < 4; row++) {
          const values = new Float64Array(9)
          for (let i = 0; i < 9; i++) values[f.order[i]!] = integers[row * 9 + i]! * steps[row]!
          assert.ok(Math.abs(errors[row]! - errorOf(damped(p), row, values)) < 1e-9)
          for (let i = 0; i < 9; i++) if (p.mask?.[row * 9 + i] === 0) assert.equal(values[i], 0)
          for (const q of integers) assert.ok(Number.isInteger(q) && q >= -8 && q <= 7)
        }
      }
})

test('feedback by the factor of the inverse, as GPTQ is published, gives the same integers', () => {
  for (let seed = 1; seed <= 10; seed++) {
    const p = problem(seed, 7, 3)
    const f = factored(p, options)
    const steps = new Float64Array(3).fill(0.35)
    const { integers } = roundRows(f, steps, gridOf(3, 3), 0)
    const { n } = p
    // OBS one column at a time, from the last: the inverse of what is left, by elimination
    for (let row = 0; row < 3; row++) {
      const w = Array.from(p.target.subarray(row * n, (row + 1) * n))
      const gram = damped(p).gram
      for (let j = n - 1; j >= 0; j--) {
        const inverse = inverted(gram, n, j + 1)
        const size = j + 1
        const q = Math.min(3, Math.max(-4, Math.round(w[j]! / steps[row]!)))
        assert.equal(integers[row * n + j], q === 0 ? 0 : q, `seed ${seed}, row ${row}, column ${j}`)
        const error = (w[j]! - q * steps[row]!) / inverse[j * size + j]!
        for (let i = 0; i < j; i++) w[i]! -= error * inverse[i * size + j]!
      }
    }
  }
})

/** Inverse of the leading block of `size`, by Gauss and Jordan. */
function inverted(a: Float64Array, n: number, size: number): Float64Array {
  const m = new Float64Array(size * size)
  const out = new Float64Array(size * size)
  for (let i = 0; i < size; i++) for (let j = 0; j < size; j++) m[i * size + j] = a[i * n + j]!
  for (let i = 0; i < size; i++) out[i * size + i] = 1
  for (let c = 0; c < size; c++) {
    const pivot = m[c * size + c]!
    for (let j = 0; j < size; j++) {
      m[c * size + j]! /= pivot
      out[c * size + j]! /= pivot
    }
    for (let i = 0; i < size; i++) {
      const factor = m[i * size + c]!
      if (i === c) continue
      for (let j = 0; j < size; j++) {
        m[i * size + j]! -= factor * m[c * size + j]!
        out[i * size + j]! -= factor * out[c * size + j]!
      }
    }
  }
  return out
}

test('sweeps never make it worse, and together come near the best of all integers', () => {
  let [nearest, plane, swept, best] = [0, 0, 0, 0]
  for (let seed = 1; seed <= 20; seed++) {
    const p = problem(seed, 4, 1)
    const f = factored(p, { ...options, order: 'activation' })
    const [steps, grid] = [Float64Array.of(0.5), gridOf(1, 3)]
    const without = roundRows(f, steps, grid, 0).errors[0]!
    const withSweeps = roundRows(f, steps, grid, 5).errors[0]!
    assert.ok(withSweeps <= without + 1e-12)
    plane += without
    swept += withSweeps
    const values = [0, 0, 0, 0]
    let least = Number.POSITIVE_INFINITY
    for (let k = 0; k < 8 ** 4; k++) {
      for (let i = 0; i < 4; i++) values[i] = 0.5 * (((k >> (3 * i)) & 7) - 4)
      least = Math.min(least, errorOf(damped(p), 0, values))
    }
    assert.ok(least <= withSweeps + 1e-12)
    best += least
    const near = Array.from(p.target, (w) => 0.5 * Math.min(3, Math.max(-4, Math.round(w / 0.5))))
    nearest += errorOf(damped(p), 0, near)
  }
  assert.ok(plane < 0.7 * nearest, `${plane} of ${nearest}`)
  assert.ok(swept < 1.6 * best, `${swept}, best ${best}`)
})

test('pulled weights approach the least squares solution for the other inputs', () => {
  const p = problem(5, 6, 2)
  const change = problem(6, 6, 2).target
  const f = factored({ ...p, pull: change }, options)
  // (target' - target) H = change
  const { gram } = damped(p)
  for (let row = 0; row < 2; row++)
    for (let j = 0; j < 6; j++) {
      let sum = 0
      for (let i = 0; i < 6; i++) sum += (f.target[row * 6 + i]! - p.target[row * 6 + i]!) * gram[i * 6 + j]!
      assert.ok(Math.abs(sum - change[row * 6 + j]!) < 1e-9)
    }
})

test('inputs that were never other than zero: rounded to nearest', () => {
  const p = { ...problem(7, 4, 1), gram: new Float64Array(16) }
  const { integers } = roundRows(factored(p, options), Float64Array.of(0.25), gridOf(1, 4), 3)
  assert.deepEqual(
    Array.from(integers, (q) => q + 0),
    Array.from(p.target, (w) => Math.max(-8, Math.min(7, Math.round(w / 0.25))) + 0),
  )
})
