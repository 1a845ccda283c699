import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { choleskyInPlace, multiplyRows, solveRows } from '../../src/quant/linear-algebra.ts'

const SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 64, 101]

function randomMatrix(rng: Rng, rows: number, columns: number): Float64Array {
  return Float64Array.from({ length: rows * columns }, () => rng.uniform(-1, 1))
}

/** x x' of more rows than columns: positive definite. */
function definite(rng: Rng, n: number): Float64Array {
  const x = randomMatrix(rng, 2 * n + 1, n)
  const a = new Float64Array(n * n)
  for (let r = 0; r < x.length; r += n)
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) a[i * n + j]! += x[r + i]! * x[r + j]!
  return a
}

test('the factor times its transpose is the matrix', () => {
  const rng = new Rng(1)
  for (const n of SIZES) {
    const a = definite(rng, n)
    const l = a.slice()
    assert.ok(choleskyInPlace(l, n))
    for (let i = 0; i < n; i++)
      for (let j = 0; j <= i; j++) {
        let sum = 0
        for (let k = 0; k <= j; k++) sum += l[i * n + k]! * l[j * n + k]!
        assert.ok(Math.abs(sum - a[i * n + j]!) < 1e-9 * n, `n ${n}, [${i}, ${j}]`)
      }
  }
})

test('a matrix that is not positive definite has no factor', () => {
  assert.equal(choleskyInPlace(Float64Array.of(1, 2, 2, 1), 2), false)
  assert.equal(choleskyInPlace(new Float64Array(25), 5), false)
})

test('rows solved and multiplied again are what they were', () => {
  const rng = new Rng(2)
  for (const n of SIZES) {
    const a = definite(rng, n)
    const factor = a.slice()
    choleskyInPlace(factor, n)
    const wanted = randomMatrix(rng, 3, n)
    const x = wanted.slice()
    solveRows(factor, n, x)
    const back = new Float64Array(3 * n)
    multiplyRows(x, a, n, back)
    const worst = back.reduce((w, v, i) => Math.max(w, Math.abs(v - wanted[i]!)), 0)
    assert.ok(worst < 1e-7, `n ${n}: ${worst}`)
  }
})
