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
 * A real signal of n = 2 m points comes from one side of its bins, of which the other is the conjugates, by an inverse transform
 * of m points that gives the even ones as real and the odd ones as imaginary parts (Cooley, Lewis, Welch 1970):
 *
 *   Z_k = (X_k + X*_(m-k)) / 2 + i e^(2 pi i k / n) (X_k - X*_(m-k)) / 2
 *
 * Values are [rows, 2, points], real parts before imaginary ones, or [rows, 1, points], real. Angles are of double precision; tables of more than 16 K
 * numbers are made when the graph runs.
 */
import { graphAttribute } from '../../graph/attribute.ts'
import type { Builder } from '../../graph/builder.ts'
import { Graph, type Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type ElementType, elementTypes } from '../../graph/types.ts'
import { notFolded, product, range, reshape, transpose, typed } from './emit.ts'
import { elemOf } from './rules.ts'

/** Points that one matrix transforms: as many products a point, and 16 K numbers. */
const MOST_POINTS = 64
/** A prime factor up to this is still a matrix: of 256 KB. */
const MOST_PRIME = 128
/** Numbers in the tables that are constants. */
const SMALL_TABLE = 2 ** 14
/** Points of a line whose transform takes little whatever their number is: some megabytes. */
const SMALL_LINE = 2 ** 16
/** Numbers that are transformed at a time: 1 MB. */
const PIECE = 2 ** 18

export interface Lines {
  readonly rows: number
  readonly n: number
  readonly inverse: boolean
  readonly elem: ElementType
}

/**
 * Whether `rows` lines of n points are transformed in less room than the engine takes: what a length with a large prime factor takes for
 * one line of that factor is a few times that of its tensors, so that counts where the line is most of what there is.
 */
export function isDivisible(rows: number, n: number): boolean {
  let rest = n
  for (let p = 2; p <= MOST_PRIME; p++) while (rest % p === 0) rest /= p
  return rest <= SMALL_LINE || 8 * rest <= rows * n
}

/** The transform of [rows, 2 or 1, n]: [rows, 2, n]. */
export function longTransform(b: Builder, v: Value, lines: Lines): Value {
  const { n } = lines
  if (n <= MOST_POINTS) return byMatrix(b, v, lines)
  const r = factorOf(n)
  if (r === n) return byMatrix(b, v, lines)
  return r === null ? byConvolution(b, v, lines) : byFactor(b, v, lines, r)
}

/** The real signals [rows, 1, n] whose bins from 0 to n/2 are [rows, 2, n/2 + 1]. */
export function toSignal(b: Builder, bins: Value, lines: Lines): Value {
  const { rows, n, elem } = lines
  const size = Math.floor(n / 2) + 1
  const [re, im] = b.ops('Split', [bins, b.ints([1, 1])], 2, { axis: 1 }) as [Value, Value]
  const cut = (v: Value, from: number, to: number): Value =>
    b.op('Slice', [v, b.ints([from]), b.ints([to]), b.ints([2])])
  /** `length` elements, from `from` down. */
  const reversed = (v: Value, from: number, length: number): Value => {
    const end = from >= length ? from - length : -size - 1
    return b.op('Slice', [v, b.ints([from]), b.ints([end]), b.ints([2]), b.ints([-1])])
  }
  const join = (parts: readonly Value[], axis: number, length: number): Value =>
    typed(b.op('Concat', parts, { axis }), [rows, 2, length], elem)
  // each bin but the first, and for even n the last, is read twice; of those the imaginary part is not
  const twins = Math.ceil(n / 2) - 1
  const inner = cut(im, 1, 1 + twins)
  const zeros = (v: Value, before: number, after: number): Value =>
    b.op('Pad', [v, b.ints([0, 0, before, 0, 0, after])])
  if (n % 2 === 1) {
    const real = b.op('Concat', [re, reversed(re, size - 1, twins)], { axis: 2 })
    const imaginary = b.op('Concat', [zeros(inner, 1, 0), b.op('Neg', [reversed(inner, twins - 1, twins)])], {
      axis: 2,
    })
    return cutParts(b, longTransform(b, join([real, imaginary], 1, n), { ...lines, inverse: true }))
  }
  const m = n / 2
  const ahead = join([cut(re, 0, m), zeros(inner, 1, 0)], 1, m)
  const behind = join([reversed(re, m, m), zeros(b.op('Neg', [reversed(inner, twins - 1, twins)]), 1, 0)], 1, m)
  const half = b.scalar(0.5, elem)
  const halves = (op: 'Add' | 'Sub'): Value => typed(b.op('Mul', [b.op(op, [ahead, behind]), half]), [rows, 2, m], elem)
  const wave = waveOf(
    b,
    bins,
    [1, m],
    elem,
    `halves_${n}`,
    (k) => k / m,
    (data) => count(b, m, data, bins.dims, 1 / m),
  )
  const odd = times(b, reshape(b, halves('Sub'), [rows, 1, 2, m]), [rows, 1, m], elem, wave, true)
  const [oddRe, oddIm] = b.ops('Split', [odd, b.ints([1, 1])], 2, { axis: 1 }) as [Value, Value]
  const z = b.op('Add', [halves('Add'), b.op('Concat', [b.op('Neg', [oddIm]), oddRe], { axis: 1 })])
  const pairs = longTransform(b, typed(z, [rows, 2, m], elem), { ...lines, n: m, inverse: true })
  return reshape(b, typed(transpose(b, pairs, [0, 2, 1]), [rows, m, 2], elem), [rows, 1, n])
}

const cutParts = (b: Builder, v: Value): Value => b.op('Slice', [v, b.ints([0]), b.ints([1]), b.ints([1])])

/** The largest divisor that makes a matrix, else a prime that does; null where there is none. */
function factorOf(n: number): number | null {
  for (let r = MOST_POINTS; r > 1; r--) if (n % r === 0) return r
  for (let r = MOST_POINTS; r <= MOST_PRIME; r++) if (n % r === 0) return r
  return null
}

/** The matrix of [re, im] or, of one part, re to re and im of each bin. */
function matrix(b: Builder, { inverse, elem }: Lines, r: number, parts: number, apart = false): Value {
  const values = new Float64Array(2 * r * parts * r)
  const width = parts * r
  for (let k = 0; k < r; k++)
    for (let j = 0; j < r; j++) {
      const t = (2 * Math.PI * ((j * k) % r)) / r
      const [cos, sin] = inverse ? [Math.cos(t) / r, -Math.sin(t) / r] : [Math.cos(t), Math.sin(t)]
      const [re, im] = apart ? [k, k + r] : [2 * k, 2 * k + 1]
      values[re * width + j] = cos
      values[im * width + j] = -sin
      if (parts === 1) continue
      values[re * width + j + r] = sin
      values[im * width + j + r] = cos
    }
  const name = `turns_${r}_${parts}${inverse ? '_back' : ''}${apart ? '_apart' : ''}_${elem}`
  return b.shared(name, Tensor.from(elem, [2 * r, width], values))
}

function byMatrix(b: Builder, v: Value, lines: Lines): Value {
  const { rows, n, elem } = lines
  const parts = v.dims[1]!
  const turned = b.op('MatMul', [matrix(b, lines, n, parts, true), reshape(b, v, [rows, parts * n, 1])])
  return reshape(b, typed(turned, [rows, 2 * n, 1], elem), [rows, 2, n])
}

function byFactor(b: Builder, v: Value, lines: Lines, r: number): Value {
  const { rows, n, elem } = lines
  const m = n / r
  const parts = v.dims[1]!
  const inner = b.op('MatMul', [matrix(b, lines, r, parts), reshape(b, v, [rows, parts * r, m])])
  const all = typed(inner, [rows, 2 * r, m], elem)
  const each = rows * r
  const count = steps(each, m)
  const done =
    count === 1
      ? outer(b, reshape(b, all, [each, 2, m]), lines, r, null)
      : inSteps(b, all, [count, each / count, 2, m], lines, r)
  const apart = reshape(b, typed(done, [each, 2, m], elem), [rows, r, 2, m])
  return reshape(b, typed(transpose(b, apart, [0, 2, 3, 1]), [rows, 2, m, r], elem), [rows, 2, n])
}

/** Into how many equal parts `count` lines of `m` complex numbers are taken, so that each is at most a piece. */
function steps(count: number, m: number): number {
  let parts = Math.max(1, Math.ceil((2 * count * m) / PIECE))
  while (parts < count && count % parts > 0) parts++
  return Math.min(parts, count)
}

/** Some of the outer sums at a time. */
function inSteps(b: Builder, v: Value, dims: readonly number[], lines: Lines, r: number): Value {
  const [count, each, , m] = dims as [number, number, number, number]
  const k = Tensor.from(
    'float64',
    [count, each, 1],
    range(count * each).map((i) => i % r),
  )
  return scan(b, [reshape(b, v, dims), b.shared(`k_${r}_${count}_${each}`, k)], (body, [part, k]) =>
    outer(body, typed(part!, [each, 2, m], lines.elem), { ...lines, rows: each / r }, r, k!),
  )
}

/** What `step` makes of each element of the first axis of `inputs`, one after the other. */
function scan(b: Builder, inputs: readonly Value[], step: (b: Builder, parts: readonly Value[]) => Value): Value {
  const body = new Graph('body', b.graph)
  body.inheritNames(b.graph)
  const parts = inputs.map((v) => body.addInput(body.freshName('part'), { elem: elemOf(v), dims: v.dims.slice(1) }))
  body.addOutput(step(body.append(), parts))
  // no value around it may get a name of one within
  b.graph.reserve(body)
  return b.op('Scan', inputs, { body: graphAttribute(body), num_scan_inputs: inputs.length })
}

/** The outer sums of [lines, 2, m]: those of rows one after the other, or of the k1 that are given, one a line. */
function outer(b: Builder, v: Value, { rows, n, inverse, elem }: Lines, r: number, k: Value | null): Value {
  const m = n / r
  const each = v.dims[0]!
  const at = (i: number): number => (2 * Math.floor(i / m) * (i % m)) / n
  const angles = (data: Value): Value => {
    const column = k ?? b.initializer('k', Tensor.from('float64', [r, 1], range(r)))
    return b.op('Mul', [column, count(b, m, data, v.dims, 2 / n)])
  }
  const wave = k ? waveAt(b, angles(v), [each, m], elem) : waveOf(b, v, [r, m], elem, `turn_${n}_${r}`, at, angles)
  const same = k ? 1 : rows
  const turned = times(b, reshape(b, v, [same, each / same, 2, m]), [same, each / same, m], elem, wave, inverse)
  return longTransform(b, turned, { rows: each, n: m, inverse, elem })
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
  return waveAt(b, angles(data), dims, elem)
}

function waveAt(b: Builder, angles: Value, dims: readonly number[], elem: ElementType): Wave {
  const t = b.op('Mul', [angles, b.scalar(Math.PI, 'float64')])
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

/** [rows, size, 2, m] times cos - i sin (plus for `conjugate`) of dims [size, m]: [rows * size, 2, m]. */
function times(
  b: Builder,
  v: Value,
  [rows, size, m]: readonly [number, number, number],
  elem: ElementType,
  wave: Wave,
  conjugate: boolean,
): Value {
  const [re, im] = b.ops('Split', [v, b.ints([1, 1])], 2, { axis: 2 }) as [Value, Value]
  const [cos, sin] = [wave.cos, wave.sin].map((w) => reshape(b, w, [size, 1, m])) as [Value, Value]
  const mul = (x: Value, y: Value): Value => b.op('Mul', [x, y])
  const [real, imaginary] = conjugate ? (['Sub', 'Add'] as const) : (['Add', 'Sub'] as const)
  const parts = [b.op(real, [mul(re, cos), mul(im, sin)]), b.op(imaginary, [mul(im, cos), mul(re, sin)])]
  return reshape(b, typed(b.op('Concat', parts, { axis: 2 }), [rows, size, 2, m], elem), [rows * size, 2, m])
}

function byConvolution(b: Builder, x: Value, { rows, n, inverse, elem }: Lines): Value {
  const v = x.dims[1] === 2 ? x : typed(b.op('Pad', [x, b.ints([0, 0, 0, 0, 1, 0])]), [rows, 2, n], elem)
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
  const convolved = (b: Builder, part: Value, size: number, [w, by]: readonly [Wave, Wave]): Value => {
    const turn = (x: Value, length: number, wave: Wave, conjugate: boolean): Value =>
      times(
        b,
        reshape(b, typed(x, [size, 2, length], elem), [size, 1, 2, length]),
        [size, 1, length],
        elem,
        wave,
        conjugate,
      )
    const padded = b.op('Pad', [turn(part, n, w, inverse), b.ints([0, 0, 0, 0, 0, points - n])])
    const there = longTransform(b, typed(padded, [size, 2, points], elem), { ...long, rows: size, inverse: false })
    const back = longTransform(b, turn(there, points, by, false), { ...long, rows: size, inverse: true })
    return turn(b.op('Slice', [back, b.ints([0]), b.ints([n]), b.ints([2])]), n, w, inverse)
  }
  const parts = steps(rows, points)
  const each = rows / parts
  const all =
    parts === 1
      ? convolved(b, v, rows, [chirp, by])
      : scan(b, [reshape(b, v, [parts, each, 2, n])], (body, [part]) => convolved(body, part!, each, [chirp, by]))
  const whole = reshape(b, typed(all, [parts, each, 2, n], elem), dims)
  return inverse ? typed(b.op('Mul', [whole, b.scalar(1 / n, elem)]), dims, elem) : whole
}

/** The least number from `least` on that has no prime factor but 2, 3 and 5. */
function smooth(least: number): number {
  for (let n = least; ; n++) {
    let rest = n
    for (const p of [2, 3, 5]) while (rest % p === 0) rest /= p
    if (rest === 1) return n
  }
}
