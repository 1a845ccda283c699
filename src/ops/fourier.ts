/**
 * DFT and STFT as products with matrices of cosines and sines, which is how they are differentiated. Over n points, with
 * x = a + i b and the angle t = 2 pi j k / n (its sign turns for the inverse, which divides by n):
 *
 *   real(k) = sum_j a cos t + b sin t        imag(k) = sum_j b cos t - a sin t
 *
 * Forms: DFT 20 made the axis an input. Needs the length and the axis as constants.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { defineOp, noCost, type OpDef, outputSize, unsupportedNode } from './define-op.ts'
import { product, range, typed } from './emit.ts'
import { substitute } from './rewrite.ts'
import { axisFromFront, elemOf, scalarOf } from './rules.ts'

/** Columns k of rows j: [n, bins] of cos or sin, divided by n for the inverse. */
function wave(b: Builder, f: (t: number) => number, n: number, bins: number, inverse: boolean, like: Value): Value {
  const values = new Float64Array(n * bins)
  for (let j = 0; j < n; j++)
    for (let k = 0; k < bins; k++) {
      const t = (2 * Math.PI * ((j * k) % n)) / n
      values[j * bins + k] = f(inverse ? -t : t) / (inverse ? n : 1)
    }
  return b.initializer(`wave_${n}_${bins}`, Tensor.from(elemOf(like), [n, bins], values))
}

/** The last axis is the time, of exactly `n` points; both parts of the result, the last axis the frequency. */
function transform(
  b: Builder,
  real: Value,
  imaginary: Value | null,
  [n, bins, inverse]: readonly [number, number, boolean],
): [Value, Value] {
  const [cos, sin] = [Math.cos, Math.sin].map((f) => wave(b, f, n, bins, inverse, real)) as [Value, Value]
  const by = (v: Value, m: Value): Value => b.op('MatMul', [v, m])
  if (!imaginary) return [by(real, cos), b.op('Neg', [by(real, sin)])]
  return [b.op('Add', [by(real, cos), by(imaginary, sin)]), b.op('Sub', [by(imaginary, cos), by(real, sin)])]
}

/** The conjugate bins that a real signal's transform repeats. */
const onesidedBins = (n: number): number => Math.floor(n / 2) + 1

function decomposeDft(node: Node): void {
  const b = node.graph.before(node)
  const x = node.input(0)
  const rank = x.dims.length
  const given = node.inputs[2] ? scalarOf(node.inputs[2]) : -2
  const length = node.inputs[1] ? scalarOf(node.inputs[1]) : undefined
  if (given === null || length === null) throw unsupportedNode(node, 'no gradient: its axis or length is computed')
  const axis = axisFromFront(given, rank)
  const [inverse, onesided] = [node.int('inverse', 0) === 1, node.int('onesided', 0) === 1]
  const whole = inverse && onesided
  const n = length ?? (whole ? 2 * (x.dims[axis]! - 1) : x.dims[axis]!)
  const bins = onesided ? onesidedBins(n) : n
  const complex = x.dims.at(-1) === 2
  const parts = complex ? b.ops('Split', [x, b.ints([1, 1])], 2, { axis: rank - 1 }) : [x]
  const lead = range(rank - 1).filter((i) => i !== axis)
  const perm = [...lead, rank - 1, axis]
  const points = whole ? bins : n
  const moved = parts.map((p) => fitted(b, b.op('Transpose', [p], { perm }), x.dims[axis]!, points, rank))
  const results = whole
    ? [fromOneSide(b, moved[0]!, moved[1]!, n)]
    : transform(b, moved[0]!, moved[1] ?? null, [n, bins, inverse])
  const back = range(rank).map((i) => perm.indexOf(i))
  const turned = results.map((r) => b.op('Transpose', [r], { perm: back }))
  substitute(node, [b.op('Concat', turned, { axis: rank - 1 })])
}

/**
 * The real signal of n points whose transform has these bins: the others are their conjugates, so all but the first and,
 * for even n, the last count twice.
 */
function fromOneSide(b: Builder, real: Value, imaginary: Value, n: number): Value {
  const bins = onesidedBins(n)
  const matrix = (f: (t: number) => number): Value => {
    const values = new Float64Array(bins * n)
    for (let k = 0; k < bins; k++)
      for (let j = 0; j < n; j++) {
        const times = k === 0 || 2 * k === n ? 1 : 2
        values[k * n + j] = (times * f((2 * Math.PI * ((j * k) % n)) / n)) / n
      }
    return b.initializer(`wave_${bins}_${n}`, Tensor.from(elemOf(real), [bins, n], values))
  }
  return b.op('Sub', [b.op('MatMul', [real, matrix(Math.cos)]), b.op('MatMul', [imaginary, matrix(Math.sin)])])
}

/** Cut or filled up with zeros to `n` points along the last axis. */
function fitted(b: Builder, v: Value, size: number, n: number, rank: number): Value {
  if (size === n) return v
  if (size > n) return b.op('Slice', [v, b.ints([0]), b.ints([n]), b.ints([rank - 1])])
  return b.op('Pad', [v, b.ints([...Array<number>(2 * rank - 1).fill(0), n - size])])
}

function decomposeStft(node: Node): void {
  const b = node.graph.before(node)
  const x = node.input(0)
  const [batch, samples] = x.dims as [number, number]
  if (x.dims.length === 3 && x.dims[2] === 2) throw unsupportedNode(node, 'no gradient: a complex signal')
  const hop = scalarOf(node.inputs[1])
  const window = node.inputs[2] ?? null
  const n = node.inputs[3] ? scalarOf(node.inputs[3]) : (window?.dims[0] ?? null)
  if (hop === null || n === null) throw unsupportedNode(node, 'no gradient: its frame step or length is computed')
  const frames = Math.floor((samples - n) / hop) + 1
  const bins = node.int('onesided', 1) === 1 ? onesidedBins(n) : n
  const at = range(frames * n).map((i) => Math.floor(i / n) * hop + (i % n))
  const signal = b.op('Reshape', [x, b.ints([batch, samples])])
  const index = b.initializer('frames', Tensor.int64([frames, n], at))
  const cut = typed(b.op('Gather', [signal, index], { axis: 1 }), [batch, frames, n], elemOf(x))
  const [real, imaginary] = transform(b, window ? b.op('Mul', [cut, window]) : cut, null, [n, bins, false])
  const column = b.ints([batch, frames, bins, 1])
  substitute(node, [
    b.op('Concat', [b.op('Reshape', [real, column]), b.op('Reshape', [imaginary, column])], { axis: 3 }),
  ])
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
    gradient: 'decompose',
    decompose: decomposeDft,
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
      { name: 'one side, middle axis', inputs: [{ dims: [2, 6, 3, 1] }, null, axis(1)], attributes: { onesided: 1 } },
      { name: 'inverse of one side', inputs: [{ dims: [2, 4, 2] }], attributes: { inverse: 1, onesided: 1 } },
      { name: 'filled up', inputs: [{ dims: [1, 3, 1] }, axis(5), axis(1)] },
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
      {
        name: 'frame length, both sides',
        inputs: [{ dims: [1, 10, 1] }, axis(2), null, axis(4)],
        attributes: { onesided: 0 },
      },
    ],
  }),
]
