/**
 * DFT and STFT. The gradient of a Fourier transform is one: over n points, with F the matrix of e^(-2 pi i j k / n) and
 * real and imaginary parts as the numbers that they are,
 *
 *   Y = F X       dX = conj(F) dY = n IDFT(dY)
 *   Y = IDFT(X)   dX = F dY / n = DFT(dY) / n
 *
 * The bins that `onesided` leaves out get no gradient: zeros after dY. The inverse of one side reads each bin but the
 * first and, for even n, the last twice, as the conjugates that are not there: dX = c DFT(dY) / n with c 1 or 2. What the
 * forward transform cut off or filled up, the gradient fills up or cuts off; a real signal takes the real part.
 *
 * For short lines the transform is a product with matrices of cosines and sines, as long as these have no more elements
 * than the lines: 2,000 lines of 400 points take 40 ms this way, and 912 ms by onnxruntime's DFT.
 *
 * Of many points a training step writes the transform in others of fewer (support/long-fourier.ts), unless their number is
 * a power of two: the engine's kernel takes minutes there, and 10 times its tensors.
 *
 * STFT is differentiated as frames, times a window, and their DFT; of a long signal's short frames as the convolution that it is, whose
 * kernels are the window times cosines and sines, and whose stride is the step: frames, which overlap, are never laid out.
 *
 * Forms: DFT 20 made the axis an input. Needs the length and the axis as constants.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import type { ElementType } from '../graph/types.ts'
import { defineOp, type GradientContext, noCost, type OpDef, outputSize, unsupportedNode } from './support/define-op.ts'
import { product, range, reshape, transpose, typed } from './support/emit.ts'
import { isDivisible, longTransform, toSignal } from './support/long-fourier.ts'
import { substitute } from './support/rewrite.ts'
import { axisFromFront, elemOf, scalarOf } from './support/rules.ts'

interface Transform {
  readonly axis: number
  /** Points of the transform. */
  readonly n: number
  readonly inverse: boolean
  readonly onesided: boolean
}

/** The conjugate bins that a real signal's transform repeats. */
const onesidedBins = (n: number): number => Math.floor(n / 2) + 1

function transformOf(node: Node): Transform {
  const x = node.input(0)
  const given = node.inputs[2] ? scalarOf(node.inputs[2]) : -2
  const length = node.inputs[1] ? scalarOf(node.inputs[1]) : undefined
  if (given === null || length === null) throw unsupportedNode(node, 'no gradient: its axis or length is computed')
  const axis = axisFromFront(given, x.dims.length)
  const [inverse, onesided] = [node.int('inverse', 0) === 1, node.int('onesided', 0) === 1]
  const points = x.dims[axis]!
  return { axis, n: length ?? (inverse && onesided ? 2 * (points - 1) : points), inverse, onesided }
}

/** Matrices up to this many elements are made whatever the size of the tensor: a quarter of a megabyte. */
const SMALL = 2 ** 16

/** The transform of `v`, real or complex, over `n` points along an axis: [.., bins, .., 2]. Has a gradient itself. */
function transformed(b: Builder, v: Value, { axis, n, inverse, onesided }: Transform): Value {
  const bins = onesided ? onesidedBins(n) : n
  if (n * bins <= Math.max(SMALL, product(v.dims))) return byMatrices(b, v, axis, [n, bins, inverse])
  const attributes = { inverse: inverse ? 1 : 0, onesided: onesided ? 1 : 0 }
  return b.op('DFT', [v, b.scalar(n, 'int64'), b.scalar(axis, 'int64')], attributes)
}

/** The same for a gradient; `count` 1: of the results the real parts alone. */
function transformedBack(b: Builder, v: Value, t: Transform, count: 1 | 2): Value {
  if (!isModest(v, t)) return byFactors(b, v, t, count)
  const both = transformed(b, v, t)
  return count === 2 ? both : b.op('Slice', [both, b.ints([0]), b.ints([1]), b.ints([v.dims.length - 1])])
}

type Size = readonly [points: number, bins: number, inverse: boolean]

/** Real and imaginary parts (null: none) with the axis last, cut or filled up to `n` points; and the way back. */
function asLines(b: Builder, v: Value, axis: number, n: number) {
  const { dims } = v
  const rank = dims.length
  const perm = [...range(rank - 1).filter((i) => i !== axis), rank - 1, axis]
  const parts = dims.at(-1) === 2 ? b.ops('Split', [v, b.ints([1, 1])], 2, { axis: rank - 1 }) : [v]
  const [re, im] = parts.map((p) => ofLength(b, b.op('Transpose', [p], { perm }), dims[axis]!, n, rank))
  const inverted = range(rank).map((i) => perm.indexOf(i))
  const back = (results: readonly Value[]): Value => {
    const turned = results.map((r) => b.op('Transpose', [r], { perm: inverted }))
    return turned.length === 1 ? turned[0]! : b.op('Concat', turned, { axis: rank - 1 })
  }
  return { re: re!, im: im ?? null, back }
}

/** real(k) = sum_j a cos t + b sin t, imag(k) = sum_j b cos t - a sin t; t = 2 pi j k / n turns for the inverse. */
function byMatrices(b: Builder, v: Value, axis: number, size: Size): Value {
  const { re, im, back } = asLines(b, v, axis, size[0])
  const [cos, sin] = [Math.cos, Math.sin].map((f) => wave(b, f, size, elemOf(v))) as [Value, Value]
  const by = (x: Value, m: Value): Value => b.op('MatMul', [x, m])
  if (!im) return back([by(re, cos), b.op('Neg', [by(re, sin)])])
  return back([b.op('Add', [by(re, cos), by(im, sin)]), b.op('Sub', [by(im, cos), by(re, sin)])])
}

/** [batch, 1, samples] to [batch, frames, 2 bins]: parts of bin k are sum_j window_j x_(step frame + j) (cos t, -sin t). */
function byConvolution(b: Builder, signal: Value, window: Value | null, size: Size, step: number): Value {
  const [n, bins] = size
  const dims = [2 * bins, 1, n]
  const values = new Float64Array(2 * bins * n)
  const [cos, sin] = [waveOf(Math.cos, size), waveOf(Math.sin, size)]
  for (let j = 0; j < n; j++)
    for (let k = 0; k < bins; k++) {
      values[2 * k * n + j] = cos[j * bins + k]!
      values[(2 * k + 1) * n + j] = -sin[j * bins + k]!
    }
  const waves = b.initializer(`waves_${n}_${bins}`, Tensor.from(elemOf(signal), dims, values))
  const kernels = window ? b.op('Mul', [waves, reshape(b, window, [1, 1, n])]) : waves
  return b.op('Transpose', [b.op('Conv', [signal, kernels], { strides: [step] })], { perm: [0, 2, 1] })
}

/** Columns k of rows j: [n, bins] of cos or sin, divided by n for the inverse. */
function wave(b: Builder, f: (t: number) => number, size: Size, elem: ElementType): Value {
  const [n, bins] = size
  return b.initializer(`wave_${n}_${bins}`, Tensor.from(elem, [n, bins], waveOf(f, size)))
}

function waveOf(f: (t: number) => number, [n, bins, inverse]: Size): Float64Array {
  const values = new Float64Array(n * bins)
  for (let j = 0; j < n; j++)
    for (let k = 0; k < bins; k++) {
      const t = (2 * Math.PI * ((j * k) % n)) / n
      values[j * bins + k] = f(inverse ? -t : t) / (inverse ? n : 1)
    }
  return values
}

const rowsOf = ({ dims }: Value, axis: number): number => product(dims.slice(0, -1)) / dims[axis]!

/**
 * Whether the engine's DFT of these lines takes little, or no more than transforms of fewer points: of short ones, and where
 * the number of points is a power of two. Others it fills up to more than twice their points, some times over.
 */
const isModest = (x: Value, { axis, n, onesided }: Transform): boolean =>
  Number.isInteger(Math.log2(n)) ||
  n * (onesided ? onesidedBins(n) : n) <= Math.max(SMALL, product(x.dims)) ||
  !isDivisible(rowsOf(x, axis), n)

/** Transposed; reshaped where only axes of one element move. */
function turned(b: Builder, v: Value, perm: readonly number[]): Value {
  const moved = perm.filter((i) => v.dims[i] !== 1)
  if (moved.some((i, k) => k > 0 && i < moved[k - 1]!)) return transpose(b, v, perm)
  return reshape(
    b,
    v,
    perm.map((i) => v.dims[i]!),
  )
}

/** In matrices and transforms of fewer points (long-fourier.ts); `parts` 1: of the results the real parts alone. */
function byFactors(b: Builder, v: Value, { axis, n, inverse, onesided }: Transform, parts: 1 | 2 = 2): Value {
  const { dims } = v
  const toReal = inverse && onesided
  const elem = elemOf(v)
  const rows = rowsOf(v, axis)
  const last = dims.length - 1
  const perm = [...range(last).filter((i) => i !== axis), last, axis]
  const read = toReal ? onesidedBins(n) : n
  const lines = ofLength(b, turned(b, v, perm), dims[axis]!, read, dims.length)
  const all = perm.slice(0, -1).map((i) => dims[i]!)
  const bare = reshape(b, typed(lines, [...all, read], elem), [rows, dims[last]!, read])
  const done = (toReal ? toSignal : longTransform)(b, bare, { rows, n, inverse, elem })
  const [out, count] = toReal ? [n, 1] : [onesided ? onesidedBins(n) : n, parts]
  const ends = [b.ints([0, 0]), b.ints([count, out]), b.ints([1, 2])]
  const kept = toReal || (count === 2 && out === n) ? done : b.op('Slice', [done, ...ends])
  const there = perm.map((i) => (i === axis ? out : i === last ? count : dims[i]!))
  const inverted = range(last + 1).map((i) => perm.indexOf(i))
  return turned(b, reshape(b, typed(kept, [rows, count, out], elem), there), inverted)
}

/** A training step's copy. */
function lower(node: Node): boolean {
  const known = [1, 2].every((i) => !node.inputs[i] || scalarOf(node.inputs[i]!) !== null)
  const x = node.input(0)
  const elem = elemOf(x)
  if (!known || (elem !== 'float32' && elem !== 'float64')) return false
  const t = transformOf(node)
  if (isModest(x, t)) return false
  substitute(node, [byFactors(node.graph.before(node), x, t)])
  return true
}

/** Cut or filled up with zeros from `size` to `n` points along the last axis. */
function ofLength(b: Builder, v: Value, size: number, n: number, rank: number): Value {
  if (size === n) return v
  if (size > n) return b.op('Slice', [v, b.ints([0]), b.ints([n]), b.ints([rank - 1])])
  return b.op('Pad', [v, b.ints([...Array<number>(2 * rank - 1).fill(0), n - size])])
}

function gradient({ node, dy: [dy], b }: GradientContext): (Value | null)[] {
  if (!dy) return []
  const x = node.input(0)
  const { axis, n, inverse, onesided } = transformOf(node)
  const g = typed(dy, node.output.dims, elemOf(x))
  const halved = inverse && onesided
  const back = transformedBack(b, g, { axis, n, inverse: !inverse, onesided: halved }, x.dims.at(-1) === 2 ? 2 : 1)
  const own = halved ? b.op('Mul', [back, timesRead(b, x, axis, n, onesidedBins(n))]) : back
  const scaled = b.op('Mul', [own, b.scalar(inverse ? 1 / n : n, elemOf(x))])
  return [fitted(b, scaled, x, axis, halved ? onesidedBins(n) : n)]
}

/** How often each of the first `bins` along `axis` is read. */
function timesRead(b: Builder, x: Value, axis: number, n: number, bins: number): Value {
  const times = Float64Array.from({ length: bins }, (_, k) => (k === 0 || 2 * k === n ? 1 : 2))
  const dims = x.dims.map((_, i) => (i === axis ? bins : 1))
  return b.shared(`times_read_${n}`, Tensor.from(elemOf(x), dims, times))
}

/** Cut or filled up with zeros from `points` to those of `x` along the axis. */
function fitted(b: Builder, v: Value, x: Value, axis: number, points: number): Value {
  const missing = x.dims[axis]! - points
  if (missing === 0) return v
  if (missing < 0) return b.op('Slice', [v, b.ints([0]), b.ints([x.dims[axis]!]), b.ints([axis])])
  return b.op('Pad', [v, b.ints([...x.dims.map(() => 0), ...x.dims.map((_, i) => (i === axis ? missing : 0))])])
}

/** Signals of this many frames' length are convolved with them. */
const LONG_SIGNAL = 8

function decomposeStft(node: Node): void {
  const b = node.graph.before(node)
  const x = node.input(0)
  const [batch, samples] = x.dims as [number, number]
  if (x.dims.length === 3 && x.dims[2] === 2) throw unsupportedNode(node, 'no gradient: a complex signal')
  const hop = scalarOf(node.inputs[1])
  const window = node.inputs[2] ?? null
  const n = node.inputs[3] ? scalarOf(node.inputs[3]) : (window?.dims[0] ?? null)
  if (hop === null || n === null) throw unsupportedNode(node, 'no gradient: its frame step or length is computed')
  const onesided = node.int('onesided', 1) === 1
  const frames = Math.floor((samples - n) / hop) + 1
  const bins = onesided ? onesidedBins(n) : n
  // of a few frames the kernel's gradient would be made of gaps between signals; onnxruntime's Conv does not take doubles
  const isLong = frames * hop >= LONG_SIGNAL * n
  if (isLong && elemOf(x) === 'float32' && n * bins <= Math.max(SMALL, batch * frames * n)) {
    const turned = byConvolution(b, reshape(b, x, [batch, 1, samples]), window, [n, bins, false], hop)
    substitute(node, [reshape(b, turned, [batch, frames, bins, 2])])
    return
  }
  const starts = b.initializer(
    'frame_starts',
    Tensor.from(
      'int32',
      [frames, 1],
      range(frames).map((i) => i * hop),
    ),
  )
  const within = b.initializer('frame', Tensor.from('int32', [1, n], range(n)))
  const index = typed(b.op('Add', [starts, within]), [frames, n], 'int32')
  const signal = reshape(b, x, [batch, samples])
  const cut = typed(b.op('Gather', [signal, index], { axis: 1 }), [batch, frames, n], elemOf(x))
  const seen = window ? typed(b.op('Mul', [cut, window]), cut.dims, elemOf(x)) : cut
  const lines = reshape(b, seen, [batch, frames, n, 1])
  substitute(node, [transformed(b, lines, { axis: 2, n, inverse: false, onesided })])
}

/** n log n products for each line of n points. */
const cost = (node: Node) => {
  const points = outputSize(node)
  return {
    ...noCost,
    mults: 2 * points * Math.ceil(Math.log2(Math.max(2, points))),
    adds: 3 * product(node.output.dims),
  }
}

const axis = (value: number) => ({ dims: [], type: 'int64' as const, values: [value] })

export const fourier: readonly OpDef[] = [
  defineOp({
    op: 'DFT',
    since: [17, 20],
    gradient,
    lower,
    cost,
    upgrades: [
      {
        to: 20,
        apply(node) {
          const at = node.int('axis', 1)
          node.setAttribute('axis', null)
          node.setInput(2, node.graph.before(node).scalar(at, 'int64'))
        },
      },
    ],
    samples: [
      { name: 'opset 17', inputs: [{ dims: [1, 4, 1] }], attributes: { axis: 1 }, opset: 17 },
      { name: 'complex, inverse', inputs: [{ dims: [2, 5, 2] }], attributes: { inverse: 1 } },
      { name: 'complex, filled up', inputs: [{ dims: [2, 3, 2] }, axis(7)] },
      { name: 'complex, cut off', inputs: [{ dims: [2, 7, 2] }, axis(4)], attributes: { inverse: 1 } },
      { name: 'one side, middle axis', inputs: [{ dims: [2, 6, 3, 1] }, null, axis(1)], attributes: { onesided: 1 } },
      { name: 'one side, odd', inputs: [{ dims: [2, 7, 1] }], attributes: { onesided: 1 } },
      { name: 'inverse of one side', inputs: [{ dims: [2, 4, 2] }], attributes: { inverse: 1, onesided: 1 } },
      {
        name: 'inverse of one side, odd length',
        inputs: [{ dims: [2, 4, 2] }, axis(7)],
        attributes: { inverse: 1, onesided: 1 },
      },
      { name: 'filled up', inputs: [{ dims: [1, 3, 1] }, axis(5), axis(1)] },
      { name: 'hundreds of points', inputs: [{ dims: [1, 500, 1] }, null, axis(1)], attributes: { onesided: 1 } },
    ],
  }),
  defineOp({
    op: 'STFT',
    since: [17],
    gradient: 'decompose',
    decompose: decomposeStft,
    cost,
    samples: [
      { name: 'window', inputs: [{ dims: [2, 12, 1] }, axis(3), { dims: [6], range: [0.2, 1] }] },
      { name: 'long signal', inputs: [{ dims: [2, 70, 1] }, axis(3), { dims: [7], range: [0.2, 1] }] },
      {
        name: 'long signal, both sides, no overlap',
        inputs: [{ dims: [1, 53, 1] }, axis(5), null, axis(4)],
        attributes: { onesided: 0 },
      },
      {
        name: 'frame length, both sides',
        inputs: [{ dims: [1, 10, 1] }, axis(2), null, axis(4)],
        attributes: { onesided: 0 },
      },
    ],
  }),
]
