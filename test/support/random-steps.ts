/**
 * The steps of random models (random-graph.ts): each kind takes one or two values that fit, adds an operator or a small
 * group of them, and returns the dims of the result (after the batch, which stays the first axis). A kind that finds
 * no fitting value adds nothing.
 */
import type { Rng } from '../../src/base/rng.ts'
import { float } from '../../src/graph/attribute.ts'
import type { Value } from '../../src/graph/graph.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { Site } from './random-graph.ts'
import {
  type Attributes,
  conv,
  convTranspose,
  count,
  type Dims,
  gemm,
  isMap,
  isSequence,
  isVector,
  LARGEST,
  layer,
  matMul,
  ones,
  type Result,
  residual,
  Step,
} from './random-layers.ts'

/** A unary operator on any value. */
const unary =
  (op: string, attributes: (s: Step) => Attributes = () => ({})) =>
  (s: Step): Result | null => {
    const [x, dims] = s.value()!
    return [s.op(op, [x], attributes(s)), dims]
  }

/** Two computed values of one shape. */
const binary =
  (op: string) =>
  (s: Step): Result | null => {
    const [x, dims] = s.value()!
    const [y] = s.value((d) => d.join() === dims.join())!
    return [s.op(op, [x, y]), dims]
  }

/** With a constant: one number, or one a channel. */
const withConstant =
  (op: string, low: number, high: number) =>
  (s: Step): Result | null => {
    const [x, dims] = s.value()!
    const channels = isSequence(dims) ? [dims[1]!] : [dims[0]!, ...ones(dims.slice(1))]
    const c = s.floats('constant', s.pick([[], [1], channels]), low, high)
    const swapped = (op === 'Add' || op === 'Mul') && s.rng.chance(0.3)
    return [s.op(op, swapped ? [c, x] : [x, c]), dims]
  }

function clip(s: Step): Result | null {
  const [x, dims] = s.value()!
  const [least, most] = [s.pick([0, 0, -1, -0.3]), s.pick([6, 1, 0.7])]
  const form = s.rng.integer(4)
  const limits = form === 0 ? [s.limit(least)] : form === 1 ? [null, s.limit(most)] : [s.limit(least), s.limit(most)]
  return [s.op('Clip', [x, ...limits]), dims]
}

/** x * sigmoid(x), and what else multiplies a value with a gate of it. */
/** x times something between two numbers that is computed of x. */
function gate(s: Step): Result | null {
  const [x, dims] = s.value()!
  const form = s.pick(['one', 'one', 'hard', 'squeezed'])
  if (form === 'squeezed' && isMap(dims)) {
    const pooled = s.op('GlobalAveragePool', [x])
    const scores = s.op('Conv', [pooled, s.weight([dims[0]!, dims[0]!, 1, 1], dims[0]!), s.bias([dims[0]!])])
    return [s.op('Mul', [x, s.rng.chance(0.5) ? s.op('Sigmoid', [scores]) : hardSigmoid(s, scores)]), dims]
  }
  if (form !== 'hard') return [s.op('Mul', [x, s.op(s.pick(['Sigmoid', 'HardSigmoid', 'Tanh']), [x])]), dims]
  if (s.site.opset >= 14 && s.rng.chance(0.3)) return [s.op('HardSwish', [x]), dims]
  if (s.rng.chance(0.5)) return [s.op('Mul', [x, hardSigmoid(s, x)]), dims]
  // as older exporters of PyTorch write h-swish
  const clipped = s.op('Clip', [s.op('Add', [x, s.limit(3)]), s.limit(0), s.limit(6)])
  return [s.op('Div', [s.op('Mul', [x, clipped]), s.limit(6)]), dims]
}

/** clip((x + 3) / 6, 0, 1), in the forms of exporters. */
function hardSigmoid(s: Step, x: Value): Value {
  if (s.rng.chance(0.3)) return s.op('HardSigmoid', [x], { alpha: float(1 / 6), beta: float(0.5) })
  const clipped = s.op('Clip', [s.op('Add', [x, s.limit(3)]), s.limit(0), s.limit(6)])
  return s.rng.chance(0.5) ? s.op('Div', [clipped, s.limit(6)]) : s.op('Mul', [clipped, s.limit(1 / 6)])
}

function batchNorm(s: Step): Result | null {
  const found = s.value((d) => isMap(d) || isVector(d))
  if (!found) return null
  const [x, dims] = found
  const part = (name: string, low: number, high: number): Value => s.floats(name, [dims[0]!], low, high)
  const parts = [part('gamma', -0.5, 1.5), part('beta', -0.5, 0.5), part('mean', -0.5, 0.5), part('var', 0.5, 1.5)]
  return [s.op('BatchNormalization', [x, ...parts], { epsilon: float(1e-3) }), dims]
}

/** In single operators, as exporters wrote it before opset 17. */
function layerNorm(s: Step): Result | null {
  const found = s.value((d) => isSequence(d) || isVector(d))
  if (!found || found[1].at(-1)! < 2) return null
  const [x, dims] = found
  const centred = s.op('Sub', [x, s.mean(x, [-1], 1)])
  const square = s.op('Mul', [centred, centred])
  const variance = s.mean(square, [-1], 1)
  const root = s.op('Sqrt', [s.op('Add', [variance, s.limit(1e-3)])])
  const y = s.op('Mul', [s.op('Div', [centred, root]), s.floats('gain', [dims.at(-1)!], 0.5, 1.5)])
  return [s.op('Add', [y, s.floats('shift', [dims.at(-1)!], -0.5, 0.5)]), dims]
}

const pool =
  (op: 'MaxPool' | 'AveragePool') =>
  (s: Step): Result | null => {
    const found = s.value((d) => isMap(d) && d[1]! >= 2 && d[2]! >= 2)
    if (!found) return null
    const [x, [c, h, w]] = found as [Value, [number, number, number]]
    const k = s.pick([2, 3].filter((n) => n <= Math.min(h, w)))
    const p = k === 3 ? 1 : 0
    const stride = s.pick([1, 2])
    const out = (n: number): number => Math.floor((n + 2 * p - k) / stride) + 1
    const attributes = { kernel_shape: [k, k], strides: [stride, stride], pads: [p, p, p, p] }
    return [s.op(op, [x], attributes), [c, out(h), out(w)]]
  }

function globalPool(s: Step): Result | null {
  const found = s.value(isMap)
  if (!found) return null
  const [x, [c]] = found as [Value, [number, number, number]]
  const pooled = s.rng.chance(0.2) ? s.op('GlobalMaxPool', [x]) : s.op('GlobalAveragePool', [x])
  return s.rng.chance(0.6) ? [s.op('Flatten', [pooled]), [c]] : [pooled, [c, 1, 1]]
}

function flatten(s: Step): Result | null {
  const found = s.value((d) => !isVector(d) && count(d) <= 256)
  if (!found) return null
  const [x, dims] = found
  const y = s.rng.chance(0.5) ? s.op('Flatten', [x], { axis: 1 }) : s.op('Reshape', [x, s.ints([0, count(dims)])])
  return [y, [count(dims)]]
}

/** [N, C, H, W] -> [N, H W, C], as before attention; or back into a map. */
function sequence(s: Step): Result | null {
  const found = s.value((d) => isMap(d) || isSequence(d))
  if (!found) return null
  const [x, dims] = found
  const turn = (v: Value): Value => s.op('Transpose', [v], { perm: [0, 2, 1] })
  if (isMap(dims)) {
    const flat = s.op('Reshape', [x, s.ints([0, dims[0]!, dims[1]! * dims[2]!])])
    return [turn(flat), [dims[1]! * dims[2]!, dims[0]!]]
  }
  const [length, c] = dims as [number, number]
  return [s.op('Reshape', [turn(x), s.ints([0, c, length, 1])]), [c, length, 1]]
}

function transpose(s: Step): Result | null {
  const found = s.value((d) => isMap(d) || isSequence(d))
  if (!found) return null
  const [x, dims] = found
  const order = s.rng.permutation(dims.length)
  const y = s.op('Transpose', [x], { perm: [0, ...Array.from(order, (k) => k + 1)] })
  return [y, Array.from(order, (k) => dims[k]!)]
}

function reshape(s: Step): Result | null {
  const [x, dims] = s.value()!
  const size = count(dims)
  const to = [[size], [2, size / 2], [size / 4, 4], [size / 4, 2, 2], [1, size]].filter((d) =>
    d.every(Number.isInteger),
  )
  const shape = s.pick(to)
  return [s.op('Reshape', [x, s.ints([s.rng.chance(0.5) ? 0 : -1, ...shape])]), shape]
}

function squeeze(s: Step): Result | null {
  const found = s.value((d) => d.length > 1 && d.includes(1))
  if (found) {
    const [x, dims] = found
    const at = dims.indexOf(1)
    return [s.op('Squeeze', [x, s.ints([at + 1])]), dims.filter((_, i) => i !== at)]
  }
  const other = s.value((d) => d.length < 3)
  return other && [s.op('Unsqueeze', [other[0], s.ints([1])]), [1, ...other[1]]]
}

function concat(s: Step): Result | null {
  const [x, dims] = s.value()!
  const axis = isSequence(dims) ? 1 : 0
  const rest = (d: Dims): string => d.filter((_, i) => i !== axis).join()
  const [y, other] = s.value((d) => d.length === dims.length && rest(d) === rest(dims))!
  const sum = dims[axis]! + other[axis]!
  if (count(dims) + count(other) > LARGEST) return null
  return [s.op('Concat', [x, y], { axis: axis + 1 }), dims.map((d, i) => (i === axis ? sum : d))]
}

function split(s: Step): Result | null {
  const found = s.value((d) => d[0]! % 2 === 0)
  if (!found) return null
  const [x, dims] = found
  const half = [dims[0]! / 2, ...dims.slice(1)]
  const sizes = s.ints([half[0]!, half[0]!])
  const names = { name: s.site.name('split') }
  const [a, b] = s.site.graph.append().ops('Split', [x, sizes], 2, { axis: 1 }, names)
  s.site.values.set(a!, half)
  return [b!, half]
}

function slice(s: Step): Result | null {
  const found = s.value((d) => d.at(-1)! > 2)
  if (!found) return null
  const [x, dims] = found
  const inputs = [s.ints([1]), s.ints([dims.at(-1)!]), s.ints([dims.length])]
  return [s.op('Slice', [x, ...inputs]), [...dims.slice(0, -1), dims.at(-1)! - 1]]
}

function pad(s: Step): Result | null {
  const found = s.value((d) => isMap(d) && d[1]! > 1 && d[2]! > 1 && count(d) * 2 <= LARGEST)
  if (!found) return null
  const [x, [c, h, w]] = found as [Value, [number, number, number]]
  const mode = s.pick(['constant', 'constant', 'reflect', 'edge'])
  return [s.op('Pad', [x, s.ints([0, 0, 1, 0, 0, 0, 0, 1])], { mode }), [c, h + 1, w + 1]]
}

function resize(s: Step): Result | null {
  const found = s.value((d) => isMap(d) && count(d) * 4 <= LARGEST)
  if (!found) return null
  const [x, [c, h, w]] = found as [Value, [number, number, number]]
  const scales = s.site.graph.append().shared('scales', Tensor.float32([4], [1, 1, 2, 2]))
  const form = s.rng.chance(0.5)
    ? { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' }
    : { mode: 'linear', coordinate_transformation_mode: 'half_pixel' }
  return [s.op('Resize', [x, null, scales], form), [c, 2 * h, 2 * w]]
}

function depthToSpace(s: Step): Result | null {
  const found = s.value((d) => isMap(d) && d[0]! % 4 === 0)
  if (!found) return null
  const [x, [c, h, w]] = found as [Value, [number, number, number]]
  return [s.op('DepthToSpace', [x], { blocksize: 2, mode: s.pick(['DCR', 'CRD']) }), [c / 4, 2 * h, 2 * w]]
}

/** softmax(x x^T) x */
function attention(s: Step): Result | null {
  const found = s.value(isSequence)
  if (!found) return null
  const [x, dims] = found
  const scores = s.op('MatMul', [x, s.op('Transpose', [x], { perm: [0, 2, 1] })])
  const scaled = s.op('Div', [scores, s.limit(Math.sqrt(dims[1]!))])
  return [s.op('MatMul', [s.op('Softmax', [scaled], { axis: -1 }), x]), dims]
}

function reduceMean(s: Step): Result | null {
  const found = s.value((d) => isMap(d) || isSequence(d))
  if (!found) return null
  const [x, dims] = found
  return [s.mean(x, isMap(dims) ? [2, 3] : [1], 0), [isMap(dims) ? dims[0]! : dims[1]!]]
}

const steps = {
  layer,
  conv: (s) => conv(s, () => 1),
  groupedConv: (s) => conv(s, (c) => (c % 2 === 0 ? 2 : 1)),
  depthwise: (s) => conv(s, (c) => c),
  convTranspose,
  gemm,
  matMul,
  residual,
  batchNorm,
  layerNorm,
  attention,
  relu: unary('Relu'),
  clip,
  leakyRelu: unary('LeakyRelu', () => ({ alpha: float(0.1) })),
  sigmoid: unary('Sigmoid'),
  tanh: unary('Tanh'),
  hardSigmoid: unary('HardSigmoid'),
  gate,
  softmax: unary('Softmax', () => ({ axis: -1 })),
  add: binary('Add'),
  sub: binary('Sub'),
  mul: binary('Mul'),
  max: binary('Max'),
  addConstant: withConstant('Add', -0.5, 0.5),
  subConstant: withConstant('Sub', -0.5, 0.5),
  mulConstant: withConstant('Mul', 0.5, 1.5),
  divConstant: withConstant('Div', 0.5, 1.5),
  maxPool: pool('MaxPool'),
  averagePool: pool('AveragePool'),
  globalPool,
  reduceMean,
  flatten,
  reshape,
  sequence,
  transpose,
  squeeze,
  concat,
  split,
  slice,
  pad,
  resize,
  depthToSpace,
  identity: unary('Identity'),
  dropout: unary('Dropout'),
} as const satisfies Record<string, (s: Step) => Result | null>

export type StepKind = keyof typeof steps
export const stepKinds = Object.keys(steps) as readonly StepKind[]

/** Adds a step of this kind; nothing where no value fits, or where values would grow too large. */
export function takeStep(site: Site, kind: StepKind, rng: Rng): void {
  const made = steps[kind](new Step(site, rng))
  if (made) site.values.set(made[0], made[1])
}
