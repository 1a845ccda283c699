/**
 * Cholesky's factor of a symmetric matrix and what is solved with it: square matrices are Float64Arrays of n * n, row by
 * row, of which the lower triangle counts.
 *
 *   A = L L'      L_ij = (A_ij - sum over k < j of L_ik L_jk) / L_jj
 *
 * Four rows by four columns at a time, so that each number that is loaded serves four products: n = 4608 (512 channels of 3x3)
 * takes 15 s on one core.
 *
 * Does not pivot: for matrices that are positive definite, as a sum of x x' plus something on the diagonal is.
 */

/** Rows and columns at a time. */
const TILE = 4

/** Replaces the lower triangle of `a` by L. False where `a` is not positive definite (`a` is then overwritten). */
export function choleskyInPlace(a: Float64Array, n: number): boolean {
  for (let j = 0; j < n; j += TILE) {
    const width = Math.min(TILE, n - j)
    for (let i = j; i < n; i += TILE) subtractProducts(a, n, i, Math.min(TILE, n - i), j, width)
    for (let c = j; c < j + width; c++) {
      let pivot = a[c * n + c]!
      for (let k = j; k < c; k++) pivot -= a[c * n + k]! ** 2
      if (!(pivot > 0)) return false
      const root = Math.sqrt(pivot)
      a[c * n + c] = root
      for (let i = c + 1; i < n; i++) {
        let sum = a[i * n + c]!
        for (let k = j; k < c; k++) sum -= a[i * n + k]! * a[c * n + k]!
        a[i * n + c] = sum / root
      }
    }
  }
  return true
}

/** a[i + r][j + c] -= sum over k < j of a[i + r][k] * a[j + c][k], for the rows and columns of a tile. */
function subtractProducts(a: Float64Array, n: number, i: number, height: number, j: number, width: number): void {
  if (height === TILE && width === TILE) {
    subtractTile(a, n, i, j)
    return
  }
  for (let r = i; r < i + height; r++)
    for (let c = j; c < j + width; c++) {
      let sum = 0
      for (let k = 0; k < j; k++) sum += a[r * n + k]! * a[c * n + k]!
      a[r * n + c]! -= sum
    }
}

/** `subtractProducts` of a whole tile: sixteen sums in registers. */
function subtractTile(a: Float64Array, n: number, i: number, j: number): void {
  const [r0, r1, r2, r3] = [i * n, (i + 1) * n, (i + 2) * n, (i + 3) * n]
  const [c0, c1, c2, c3] = [j * n, (j + 1) * n, (j + 2) * n, (j + 3) * n]
  let [s00, s01, s02, s03] = [0, 0, 0, 0]
  let [s10, s11, s12, s13] = [0, 0, 0, 0]
  let [s20, s21, s22, s23] = [0, 0, 0, 0]
  let [s30, s31, s32, s33] = [0, 0, 0, 0]
  for (let k = 0; k < j; k++) {
    const x0 = a[r0 + k]!
    const x1 = a[r1 + k]!
    const x2 = a[r2 + k]!
    const x3 = a[r3 + k]!
    const y0 = a[c0 + k]!
    const y1 = a[c1 + k]!
    const y2 = a[c2 + k]!
    const y3 = a[c3 + k]!
    s00 += x0 * y0
    s01 += x0 * y1
    s02 += x0 * y2
    s03 += x0 * y3
    s10 += x1 * y0
    s11 += x1 * y1
    s12 += x1 * y2
    s13 += x1 * y3
    s20 += x2 * y0
    s21 += x2 * y1
    s22 += x2 * y2
    s23 += x2 * y3
    s30 += x3 * y0
    s31 += x3 * y1
    s32 += x3 * y2
    s33 += x3 * y3
  }
  const sums = [s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33]
  for (let t = 0; t < sums.length; t++) a[(i + (t >> 2)) * n + j + (t & 3)]! -= sums[t]!
}

/** Solves x L L' = b for each of the rows of `b`, in place. */
export function solveRows(factor: Float64Array, n: number, b: Float64Array): void {
  for (let row = 0; row < b.length; row += n) {
    for (let j = 0; j < n; j++) {
      let sum = b[row + j]!
      for (let k = 0; k < j; k++) sum -= b[row + k]! * factor[j * n + k]!
      b[row + j] = sum / factor[j * n + j]!
    }
    for (let i = n - 1; i >= 0; i--) {
      const x = b[row + i]! / factor[i * n + i]!
      b[row + i] = x
      for (let j = 0; j < i; j++) b[row + j]! -= x * factor[i * n + j]!
    }
  }
}

/** out += a b for rows of `a` (any number of n) and a square `b`. */
export function multiplyRows(a: Float64Array, b: Float64Array, n: number, out: Float64Array): void {
  for (let row = 0; row < a.length; row += n)
    for (let k = 0; k < n; k++) {
      const x = a[row + k]!
      if (x === 0) continue
      for (let j = 0; j < n; j++) out[row + j]! += x * b[k * n + j]!
    }
}
