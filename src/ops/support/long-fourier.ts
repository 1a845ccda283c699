/**
 * Fourier transforms of many points in standard operators, for lengths at which the engine's DFT takes many times its tensors
 * (those that are no power of two: 1.4 GB for 10 M points, and minutes).
 *
 * Of n = r m points (Cooley and Tukey, 1965), with j = j1 m + j2 and k = k1 + r k2:
 *
 *   X_k = sum_j2 e^(-2 pi i j2 k2 / m) e^(-2 pi i j2 k1 / n) sum_j1 e^(-2 pi i j1 k1 / r) x_j
 *
 * the inner sum as a product with a matrix of r x r cosines and sines, the outer one as r transforms of m points, some of the
 * r at a time, so that their intermediate values are a fraction of the tensor. Of n with no such factor (Bluestein, 1970):
 *
 *   X_k = w_k sum_j x_j w_j / w_(k-j),   w_j = e^(-pi i j^2 / n)
 *
 * a convolution, by transforms of at least 2n - 1 points of small factors. Inverse transforms have conjugates, and 1/n.
 *
 * Values are [rows, 2, points], real parts before imaginary ones. Angles are of double precision; tables of more than 64 K
 * numbers are made when the graph runs.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type ElementType, elementTypes } from '../../graph/types.ts'
import { notFolded, product, range, reshape, typed } from './emit.ts'

/** Points that one matrix transforms: as many products a point, and 64 K numbers. */
const MOST_POINTS = 128
/** A prime factor up to this is still a matrix: 8 MB. Bluestein's transform of larger ones is as fast. */
const MOST_PRIME = 512
/** Numbers in the tables that are constants. */
const SMALL_TABLE = 2 ** 16
/** Numbers that are transformed at a time: 4 MB, and up to this many pieces. */
const PIECE = 2 ** 20
const MOST_PIECES = 32

export interface Lines {
  readonly rows: number
  readonly n: number
  readonly inverse: boolean
  readonly elem: ElementType
}

/** The transform of [rows, 2, n]. */
export function longTransform(b: Builder, v: Value, lines: Lines): Value {
  const { n } = lines
  if (n <= MOST_POINTS) return byMatrix(b, v, lines)
  const r = factorOf(n)
  if (r === n) return byMatrix(b, v, lines)
  return r === null ? byConvolution(b, v, lines) : byFactor(b, v, lines, r)
}

/** The largest divisor that makes a matrix, else a prime that does; null where there is none. */
function factorOf(n: number): number | null {
  for (let r = MOST_POINTS; r > 1; r--) if (n % r === 0) return r
  for (let r = MOST_POINTS; r <= MOST_PRIME; r++) if (n % r === 0) return r
  return null
}

/** The matrix of [re, im] to [re, im], outputs down. */
function matrix(b: Builder, { inverse, elem }: Lines, r: number): Value {
  const values = new Float64Array(4 * r * r)
  for (let k = 0; k < r; k++)
    for (let j = 0; j < r; j++) {
      const t = (2 * Math.PI * ((j * k) % r)) / r
      const [cos, sin] = inverse ? [Math.cos(t) / r, -Math.sin(t) / r] : [Math.cos(t), Math.sin(t)]
      values[k * 2 * r + j] = values[(k + r) * 2 * r + j + r] = cos
      values[k * 2 * r + j + r] = sin
      values[(k + r) * 2 * r + j] = -sin
    }
  return b.shared(`turns_${r}${inverse ? '_back' : ''}_${elem}`, Tensor.from(elem, [2 * r, 2 * r], values))
}

function byMatrix(b: Builder, v: Value, lines: Lines): Value {
  const { rows, n, elem } = lines
  const turned = b.op('MatMul', [matrix(b, lines, n), reshape(b, v, [rows, 2 * n, 1])])
  return reshape(b, typed(turned, [rows, 2 * n, 1], elem), [rows, 2, n])
}

function byFactor(b: Builder, v: Value, lines: Lines, r: number): Value {
  const { rows, n, inverse, elem } = lines
  const m = n / r
  const product = b.op('MatMul', [matrix(b, lines, r), reshape(b, v, [rows, 2 * r, m])])
  const whole = reshape(b, typed(product, [rows, 2 * r, m], elem), [rows, 2, r, m])
  const sizes = inPieces(r, Math.min(MOST_PIECES, Math.ceil((2 * rows * n) / PIECE)))
  const pieces = sizes.length === 1 ? [whole] : b.ops('Split', [whole, b.ints(sizes)], sizes.length, { axis: 2 })
  let first = 0
  const done = pieces.map((piece, i) => {
    const size = sizes[i]!
    // e^(-2 pi i j2 k1 / n)
    const angles = (data: Value): Value => {
      const column = b.initializer(
        'k',
        Tensor.from(
          'float64',
          [size, 1],
          range(size).map((k) => first + k),
        ),
      )
      return b.op('Mul', [column, count(b, m, data, [rows, 2, size, m], 2 / n)])
    }
    const at = (i: number): number => (2 * (first + Math.floor(i / m)) * (i % m)) / n
    const wave = waveOf(
      b,
      typed(piece, [rows, 2, size, m], elem),
      [size, m],
      elem,
      `turn_${n}_${first}_${size}`,
      at,
      angles,
    )
    const turned = times(b, piece, [rows, size, m], elem, wave, inverse)
    first += size
    const sub = longTransform(b, turned, { rows: rows * size, n: m, inverse, elem })
    return reshape(b, sub, [rows, size, 2, m])
  })
  const all = done.length === 1 ? done[0]! : b.op('Concat', done, { axis: 1 })
  return reshape(b, typed(b.op('Transpose', [all], { perm: [0, 2, 3, 1] }), [rows, 2, m, r], elem), [rows, 2, n])
}

const inPieces = (size: number, count: number): number[] => {
  const each = Math.ceil(size / Math.min(size, count))
  return range(Math.ceil(size / each)).map((i) => Math.min(each, size - i * each))
}

interface Wave {
  readonly cos: Value
  readonly sin: Value
}

/** cos and sin of pi times `at` of each position of `dims`, or of what `angles` makes of that when the graph runs. */
function waveOf(
  b: Builder,
  data: Value,
  dims: readonly number[],
  elem: ElementType,
  name: string,
  at: (i: number) => number,
  angles: (data: Value) => Value,
): Wave {
  const size = product(dims)
  if (size <= SMALL_TABLE) {
    const table = (f: (x: number) => number, part: string): Value => {
      const values = Float64Array.from({ length: size }, (_, i) => f(Math.PI * at(i)))
      return b.shared(`${name}_${part}_${elem}`, Tensor.from(elem, dims, values))
    }
    return { cos: table(Math.cos, 'cos'), sin: table(Math.sin, 'sin') }
  }
  const t = b.op('Mul', [angles(data), b.scalar(Math.PI, 'float64')])
  const of = (f: 'Cos' | 'Sin'): Value =>
    typed(b.op('Cast', [b.op(f, [t])], { to: elementTypes[elem].code }), dims, elem)
  return { cos: of('Cos'), sin: of('Sin') }
}

/** 0 .. n-1 times `step`, made when the graph runs: [n] of doubles. */
function count(b: Builder, n: number, data: Value, dims: readonly number[], step: number): Value {
  const end = notFolded(b, b.scalar(n, 'int32'), data, dims)
  const up = b.op('Range', [b.scalar(0, 'int32'), end, b.scalar(1, 'int32')])
  return b.op('Mul', [b.op('Cast', [up], { to: elementTypes.float64.code }), b.scalar(step, 'float64')])
}

/**
 * [rows, 2, size, m] times cos - i sin (plus for `conjugate`) of dims [size, m] that broadcast: [rows * size, 2, m].
 */
function times(
  b: Builder,
  v: Value,
  [rows, size, m]: readonly [number, number, number],
  elem: ElementType,
  { cos, sin }: Wave,
  conjugate: boolean,
): Value {
  const [re, im] = b.ops('Split', [v, b.ints([1, 1])], 2, { axis: 1 }) as [Value, Value]
  const mul = (x: Value, y: Value): Value => b.op('Mul', [x, y])
  const [real, imaginary] = conjugate ? (['Sub', 'Add'] as const) : (['Add', 'Sub'] as const)
  const parts = [b.op(real, [mul(re, cos), mul(im, sin)]), b.op(imaginary, [mul(im, cos), mul(re, sin)])].map((p) =>
    reshape(b, typed(p, [rows, 1, size, m], elem), [rows, size, 1, m]),
  )
  return reshape(b, typed(b.op('Concat', parts, { axis: 2 }), [rows, size, 2, m], elem), [rows * size, 2, m])
}

function byConvolution(b: Builder, v: Value, { rows, n, inverse, elem }: Lines): Value {
  const points = smooth(2 * n - 1)
  // w_j, and 1 / w_d for d of either sign: the distance from either end of the line of `points`
  const squares = (d: Value): Value => {
    // d^2 mod 2n: up to the whole turn, by which a quotient that is rounded up is off
    const square = b.op('Mul', [d, d])
    const turns = b.op('Floor', [b.op('Mul', [square, b.scalar(0.5 / n, 'float64')])])
    const rest = b.op('Sub', [square, b.op('Mul', [turns, b.scalar(2 * n, 'float64')])])
    return b.op('Mul', [rest, b.scalar(1 / n, 'float64')])
  }
  const at = (d: number): number => ((d * d) % (2 * n)) / n
  const dims = [rows, 2, n]
  const chirp = waveOf(b, v, [n], elem, `chirp_${n}`, at, (data) => squares(count(b, n, data, dims, 1)))
  const around = (data: Value): Value => {
    const up = count(b, points, data, dims, 1)
    return squares(b.op('Min', [up, b.op('Sub', [b.scalar(points, 'float64'), up])]))
  }
  const kernel = waveOf(b, v, [points], elem, `chirps_${n}_${points}`, (i) => at(Math.min(i, points - i)), around)
  const filter = [kernel.cos, inverse ? b.op('Neg', [kernel.sin]) : kernel.sin]
  const line = b.op(
    'Concat',
    filter.map((p) => reshape(b, p, [1, 1, points])),
    { axis: 1 },
  )
  const long = { n: points, elem }
  const spectrum = longTransform(b, typed(line, [1, 2, points], elem), { ...long, rows: 1, inverse: false })
  const [real, imaginary] = b.ops('Split', [spectrum, b.ints([1, 1])], 2, { axis: 1 }) as [Value, Value]
  const by: Wave = { cos: reshape(b, real, [points]), sin: reshape(b, b.op('Neg', [imaginary]), [points]) }
  const sizes = inPieces(rows, Math.ceil((2 * rows * points) / PIECE))
  const parts = sizes.length === 1 ? [v] : b.ops('Split', [v, b.ints(sizes)], sizes.length, { axis: 0 })
  const done = parts.map((part, i) => {
    const size = sizes[i]!
    const turn = (x: Value, length: number, wave: Wave, conjugate: boolean): Value =>
      times(
        b,
        reshape(b, typed(x, [size, 2, length], elem), [size, 2, 1, length]),
        [size, 1, length],
        elem,
        wave,
        conjugate,
      )
    const padded = b.op('Pad', [turn(part, n, chirp, inverse), b.ints([0, 0, 0, 0, 0, points - n])])
    const there = longTransform(b, typed(padded, [size, 2, points], elem), { ...long, rows: size, inverse: false })
    const back = longTransform(b, turn(there, points, by, false), { ...long, rows: size, inverse: true })
    const own = b.op('Slice', [back, b.ints([0]), b.ints([n]), b.ints([2])])
    return turn(own, n, chirp, inverse)
  })
  const all = done.length === 1 ? done[0]! : typed(b.op('Concat', done, { axis: 0 }), dims, elem)
  return inverse ? typed(b.op('Mul', [all, b.scalar(1 / n, elem)]), dims, elem) : all
}

/** The least number from `least` on that has no prime factor but 2, 3 and 5. */
function smooth(least: number): number {
  for (let n = least; ; n++) {
    let rest = n
    for (const p of [2, 3, 5]) while (rest % p === 0) rest /= p
    if (rest === 1) return n
  }
}
