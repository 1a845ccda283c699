/**
 * What a step of a random model can use (random-graph.ts), and the layers: operators with weights, in the forms that
 * exporters write.
 */
import type { Rng } from '../../src/base/rng.ts'
import { type AttributeLike, float } from '../../src/graph/attribute.ts'
import type { Value } from '../../src/graph/graph.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { Site } from './random-graph.ts'

export type Dims = readonly number[]
export type Attributes = Readonly<Record<string, AttributeLike>>
export type Result = readonly [Value, Dims]

/** No value is larger, the batch not counted. */
export const LARGEST = 1024

export class Step {
  readonly site: Site
  readonly rng: Rng

  constructor(site: Site, rng: Rng) {
    this.site = site
    this.rng = rng
  }

  pick<T>(items: readonly T[]): T {
    return items[this.rng.integer(items.length)]!
  }

  /** A value that `test` takes, mostly one of the newest; null where there is none. */
  value(test: (dims: Dims, v: Value) => boolean = () => true): Result | null {
    const fit = [...this.site.values].filter(([v, dims]) => test(dims, v))
    if (fit.length === 0) return null
    const back = this.rng.chance(0.7) ? Math.min(2, fit.length) : fit.length
    return fit[fit.length - 1 - this.rng.integer(back)]!
  }

  op(op: string, inputs: readonly (Value | null)[], attributes: Attributes = {}): Value {
    return this.site.graph.append().op(op, inputs, attributes, { name: this.site.name(op.toLowerCase()) })
  }

  floats(base: string, dims: Dims, low: number, high: number, asNode = this.rng.chance(0.1)): Value {
    return this.site.constant(base, dims, () => this.rng.uniform(low, high), asNode)
  }

  ints(values: readonly number[]): Value {
    const tensor = Tensor.int64([values.length], values)
    return this.rng.chance(0.5) ? this.site.graph.append().ints(values) : this.op('Constant', [], { value: tensor })
  }

  /** Over the axes given; they became an input in opset 18. */
  mean(x: Value, axes: readonly number[], keepdims: number): Value {
    return this.site.opset < 18
      ? this.op('ReduceMean', [x], { axes, keepdims })
      : this.op('ReduceMean', [x, this.ints(axes)], { keepdims })
  }

  /** Weights that keep the size of values; now and then shared with another layer, or behind an Identity. */
  weight(dims: Dims, fanIn: number): Value {
    const same = [...this.site.graph.initializers()].filter(
      (v) => v.name.includes('weight') && v.constant!.dims.join() === dims.join(),
    )
    if (same.length > 0 && this.rng.chance(0.15)) return this.pick(same)
    const limit = Math.sqrt(3 / fanIn) * this.rng.uniform(0.7, 1.5)
    const w = this.floats('weight', dims, -limit, limit)
    return this.rng.chance(0.05) ? this.op('Identity', [w]) : w
  }

  bias(dims: Dims, chance = 0.6): Value | null {
    return this.rng.chance(chance) ? this.floats('bias', dims, -0.5, 0.5) : null
  }

  /** A scalar limit as exporters write it: an initializer or a Constant node, of no dims. */
  limit(value: number): Value {
    return this.site.constant('limit', [], () => value, this.rng.chance(0.5))
  }
}

export const count = (dims: Dims): number => dims.reduce((n, d) => n * d, 1)
export const isMap = (dims: Dims): boolean => dims.length === 3
export const isVector = (dims: Dims): boolean => dims.length === 1
export const isSequence = (dims: Dims): boolean => dims.length === 2
export const ones = (dims: Dims): number[] => dims.map(() => 1)

/** Kernel, padding, stride and dilation, and what they make of a length. */
function geometry(s: Step, length: number, kernels: readonly number[]) {
  const k = s.pick(kernels.filter((n) => n <= length))
  const dilation = k > 1 && 2 * (k - 1) < length && s.rng.chance(0.15) ? 2 : 1
  const span = dilation * (k - 1)
  const before = s.rng.chance(0.7) ? Math.floor(span / 2) : 0
  const after = s.rng.chance(0.9) ? before : Math.min(before + 1, span)
  const stride = s.rng.chance(0.25) ? 2 : 1
  const out = Math.floor((length + before + after - span - 1) / stride) + 1
  return { k, dilation, before, after, stride, out }
}

export function conv(s: Step, group: (channels: number) => number): Result | null {
  const found = s.value((d) => isMap(d) && d[1]! >= 1)
  if (!found) return null
  const [x, [c, h, w]] = found as [Value, [number, number, number]]
  const g = group(c)
  const out = g === c && c > 1 ? c * s.pick([1, 1, 2]) : g * s.pick([1, 2, 4, 8].filter((n) => n * g <= 16))
  const [a, b] = [geometry(s, h, [1, 3, 3, 5]), geometry(s, w, [1, 3, 3])]
  const weight = s.weight([out, c / g, a.k, b.k], (c / g) * a.k * b.k)
  const attributes: Record<string, AttributeLike> = {
    ...(s.rng.chance(0.7) && { kernel_shape: [a.k, b.k] }),
    pads: [a.before, b.before, a.after, b.after],
    ...((a.stride > 1 || b.stride > 1 || s.rng.chance(0.5)) && { strides: [a.stride, b.stride] }),
    ...((a.dilation > 1 || b.dilation > 1) && { dilations: [a.dilation, b.dilation] }),
    ...((g > 1 || s.rng.chance(0.5)) && { group: g }),
  }
  return [s.op('Conv', [x, weight, s.bias([out])], attributes), [out, a.out, b.out]]
}

export function convTranspose(s: Step): Result | null {
  const found = s.value((d) => isMap(d) && count(d) * 8 <= LARGEST)
  if (!found) return null
  const [x, [c, h, w]] = found as [Value, [number, number, number]]
  const out = s.pick([2, 4])
  const k = s.pick([2, 3])
  const weight = s.weight([c, out, k, k], c)
  return [
    s.op('ConvTranspose', [x, weight, s.bias([out])], { strides: [2, 2], kernel_shape: [k, k] }),
    [out, 2 * (h - 1) + k, 2 * (w - 1) + k],
  ]
}

export function gemm(s: Step): Result | null {
  const found = s.value(isVector)
  if (!found) return null
  const [x, [n]] = found as [Value, [number]]
  const out = s.pick([1, 4, 8, 10])
  const transposed = s.rng.chance(0.6)
  const weight = s.weight(transposed ? [out, n] : [n, out], n)
  const attributes: Record<string, AttributeLike> = {
    ...((transposed || s.rng.chance(0.3)) && { transB: transposed ? 1 : 0 }),
    ...(s.rng.chance(0.1) && { alpha: float(0.5) }),
    ...(s.rng.chance(0.1) && { beta: float(0.5) }),
  }
  return [s.op('Gemm', [x, weight, s.bias(s.pick([[out], [out], [1, out]]))], attributes), [out]]
}

/** MatMul with [in, out] weights, which PyTorch writes as a Transpose of its own; an Add as bias. */
export function matMul(s: Step): Result | null {
  const found = s.value((d) => isVector(d) || isSequence(d))
  if (!found) return null
  const [x, dims] = found
  const n = dims.at(-1)!
  const out = s.pick([4, 8, n])
  const w = s.rng.chance(0.2) ? s.op('Transpose', [s.weight([out, n], n)], { perm: [1, 0] }) : s.weight([n, out], n)
  const y = s.op('MatMul', [x, w])
  const b = s.bias([out])
  const sum = b && s.op('Add', s.rng.chance(0.5) ? [y, b] : [b, y])
  return [sum ?? y, [...dims.slice(0, -1), out]]
}

export function layer(s: Step): Result | null {
  const kinds = [() => conv(s, () => 1), () => gemm(s), () => matMul(s)]
  const first = s.rng.integer(kinds.length)
  for (let i = 0; i < kinds.length; i++) {
    const made = kinds[(first + i) % kinds.length]!()
    if (made) return made
  }
  return null
}

/** x + f(x), f a layer that keeps the shape between activations. */
export function residual(s: Step): Result | null {
  const found = s.value((d) => isMap(d) || isVector(d))
  if (!found) return null
  const [x, dims] = found
  const [c] = dims as [number]
  const inner = s.rng.chance(0.5) ? s.op('Relu', [x]) : x
  const y = isMap(dims)
    ? s.op('Conv', [inner, s.weight([c, c, 3, 3], 9 * c), s.bias([c])], { pads: [1, 1, 1, 1], kernel_shape: [3, 3] })
    : s.op('Gemm', [inner, s.weight([c, c], c), s.bias([c])], { transB: 1 })
  const sum = s.op('Add', s.rng.chance(0.5) ? [y, x] : [x, y])
  return [s.rng.chance(0.5) ? s.op('Relu', [sum]) : sum, dims]
}
