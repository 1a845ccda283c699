/**
 * The weights of a graph as numbers: what every form of them (latent weights with mask and quantiser, an integer
 * initializer after a DequantizeLinear, a packed decode that mnc wrote, a plain float initializer) amounts to.
 *
 *   w[i] = ints[i] * scale[index(i)]     or, where there is no quantiser,     w[i] = floats[i]
 *
 * Zero points are subtracted. Weights whose integers leave [-128, 127], and those whose scales belong to blocks and that are
 * reshaped, stay as they are in the graph. Small tensors count too: the form of a layer in the file depends on its weight, and storage.ts leaves those
 * as floats that are not worth a decode.
 */
import type { Node, Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { elementCount } from '../../graph/types.ts'
import { isScaled } from '../../layers/activation-bits.ts'
import { constantValues, evaluateConstants } from '../../layers/constants.ts'
import { type ScaleLayout, scaleDims, scaleIndices } from '../../layers/scale-layout.ts'
import { dequantizeBehind, isDequantize } from '../../ops/facts.ts'
import { findOp, weightSlots } from '../../ops/index.ts'

interface Quantised extends ScaleLayout {
  readonly ints: Int8Array
  readonly scale: Float32Array
}

export class Weight {
  /** What the layers read. Replaced while the file is written. */
  value: Value
  readonly name: string
  readonly dims: readonly number[]
  /** Integers without zero point; null for weights that are not quantised. */
  readonly ints: Int8Array | null
  /** The weights of an unquantised tensor; empty otherwise. */
  floats: Float32Array
  /** One scale, one for each index of `axis`, or one for each block of it. */
  scale: Float32Array
  /** Axis of the scale; null for one scale. */
  axis: number | null
  /** Indices of the axis that share a scale; 0 where each has its own. */
  readonly block: number

  constructor(value: Value, dims: readonly number[], content: Quantised | Float32Array) {
    this.value = value
    this.name = value.name
    this.dims = dims
    const quantised = !(content instanceof Float32Array)
    this.ints = quantised ? content.ints : null
    this.floats = quantised ? new Float32Array(0) : content
    this.scale = quantised ? content.scale : Float32Array.of(1)
    this.axis = quantised ? content.axis : null
    this.block = quantised ? (content.block ?? 0) : 0
  }

  get size(): number {
    return this.dims.reduce((a, b) => a * b, 1)
  }

  get nonZeros(): number {
    const values = this.ints ?? this.floats
    let n = 0
    for (let i = 0; i < values.length; i++) if (values[i] !== 0) n++
    return n
  }

  /** Signed width that holds every integer; 32 for floats. */
  get bits(): number {
    if (!this.ints) return 32
    let bits = 1
    for (const v of this.ints) while (v < -(2 ** (bits - 1)) || v > 2 ** (bits - 1) - 1) bits++
    return bits
  }

  /** The only reader; null where several nodes share the weight or it is an output. */
  get reader(): Node | null {
    const [only, ...others] = this.value.uses
    return only && others.length === 0 && !this.value.isOutput ? only : null
  }

  /** Whether `multiply` along this axis can be taken into the scale. */
  canMultiply(axis: number): boolean {
    return !this.ints || this.axis === null || (this.axis === axis) === (this.block === 0)
  }

  /** Whether its scales are, or can become, one for each index of this axis. */
  canScaleAlong(axis: number): boolean {
    return this.block === 0 && this.canMultiply(axis)
  }

  /** Multiplies by one factor, or by one for each index of `axis`. */
  multiply(factors: Float32Array | Float64Array | number, axis = 0): void {
    if (typeof factors === 'number') {
      const f = factors
      if (this.ints) this.scale = this.scale.map((s) => s * f)
      else this.floats = this.floats.map((w) => w * f)
      return
    }
    if (this.block > 0) {
      const along = scaleIndices(scaleDims(this.dims, this), { axis })
      this.scale = this.scale.map((s, i) => s * factors[along[i]!]!)
      return
    }
    if (this.ints) {
      const old = this.scale
      this.scale = Float32Array.from(factors, (f, i) => f * (old.length === 1 ? old[0]! : old[i]!))
      this.axis = axis
      return
    }
    const inner = this.dims.slice(axis + 1).reduce((a, b) => a * b, 1)
    const count = this.dims[axis]!
    this.floats = this.floats.map((w, i) => w * factors[Math.floor(i / inner) % count]!)
  }

  /** Dims that broadcast the scale over the weight, where it has no blocks. */
  get broadcastDims(): readonly number[] {
    return this.axis === null ? [] : this.dims.slice(this.axis).map((d, i) => (i === 0 ? d : 1))
  }
}

const ONE = Float32Array.of(1)

/** The index of the scale that an element has. */
export function channelOf(w: Weight): (i: number) => number {
  const index = scaleIndices(w.dims, w)
  return (i) => index[i]!
}

/** The floats of a weight; integers are multiplied out. */
export function rawValues(w: Weight): Float32Array {
  if (!w.ints) return w.floats
  const of = channelOf(w)
  return Float32Array.from(w.ints, (q, i) => q * w.scale[of(i)]!)
}

/** All weights: constant float32 values that are layers' operands or dequantised. In graph order. */
export async function readWeights(model: Model): Promise<Weight[]> {
  const constant = constantValues(model.graph)
  const found = [...constant].filter((v) => isFrontier(v, constant))
  const needed = new Set<Value>(found)
  for (const v of found) for (const part of scaleParts(v)) needed.add(part)
  const contents = await evaluateConstants(model, [...needed])
  return found.flatMap((v) => weightOf(v, contents) ?? [])
}

function isFrontier(v: Value, constant: ReadonlySet<Value>): boolean {
  // what fills is small as it is and must not be materialised
  if (v.producer && findOp(v.producer)?.fills) return false
  const elem = v.constant?.type ?? v.type?.elem
  if (elem !== undefined && elem !== 'float32') return false
  const dequantised = dequantizeBehind(v) !== null
  for (const n of v.uses) {
    if (n.graph !== v.graph || n.outputs.every((o) => !o || constant.has(o))) continue
    if (dequantised || weightSlots(n).some((s) => n.inputs[s.input] === v)) return true
  }
  return false
}

/** The DequantizeLinear that gives a weight, with nothing between but what moves its elements (Transpose, Reshape). */
function dequantizeBehindMoves(v: Value): Node | null {
  let n = v.producer
  while (n && findOp(n)?.carries) n = n.input(0).producer
  return n && isDequantize(n) ? n : null
}

/** The values that hold the scale (and the integers, in a decode of ours) of a weight. */
function scaleParts(v: Value): Value[] {
  const n = v.producer
  const quantised = dequantizeBehindMoves(v)
  if (quantised) return [quantised.input(1)]
  return n && isScaled(n) ? [n.input(0), n.input(1)] : []
}

function weightOf(v: Value, contents: ReadonlyMap<Value, Tensor>): Weight | null {
  const tensor = contents.get(v)!
  if (tensor.type !== 'float32') return null
  const { dims } = tensor
  const floats = tensor.view('float32')
  const n = v.producer
  if (n && isDequantize(n)) {
    const scale = contents.get(n.input(1))!.toFloat32()
    const at = n.int('axis', 1)
    const axis = scale.length === 1 ? null : at < 0 ? at + dims.length : at
    const layout = { axis, block: axis === null ? 0 : n.int('block_size', 0) }
    const ints = integersOf(floats, dims, scale, layout)
    return ints ? new Weight(v, dims, { ints, scale, ...layout }) : null
  }
  const dequantize = dequantizeBehindMoves(v)
  const isBlocked = dequantize !== null && dequantize.int('block_size', 0) > 0
  const moved = isBlocked ? turnedBlocks(v, dequantize, tensor, contents) : movedIntegers(dequantize, tensor, contents)
  if (moved) return new Weight(v, dims, moved)
  if (isBlocked) return null
  const packed = n && isScaled(n) ? contents.get(n.input(0))! : null
  if (packed?.type === 'float32' && packed.dims.join() === dims.join()) {
    const ints = integersOf(packed.view('float32'), dims, ONE, { axis: null })
    const by = contents.get(n!.input(1))!
    const axis = broadcastAxis(by.dims, dims)
    if (ints && axis !== undefined) return new Weight(v, dims, { ints, scale: by.toFloat32(), axis })
  }
  const ints = integersOf(floats, dims, ONE, { axis: null })
  return new Weight(v, dims, ints ? { ints, scale: ONE, axis: null } : floats)
}

/** What a DequantizeLinear gave, in other dims: the scales run along the axis on which all weights are multiples of them. */
function movedIntegers(dequantize: Node | null, tensor: Tensor, contents: ReadonlyMap<Value, Tensor>) {
  const scale = dequantize && contents.get(dequantize.input(1))?.toFloat32()
  if (!scale) return null
  const { dims } = tensor
  const axes = scale.length === 1 ? [null] : dims.flatMap((d, k) => (d === scale.length ? [k] : []))
  for (const axis of axes) {
    const ints = integersOf(tensor.view('float32'), dims, scale, { axis })
    if (ints) return { ints, scale, axis }
  }
  return null
}

/** What a DequantizeLinear with blocks gave, its axes in another order; null where they became others. */
function turnedBlocks(v: Value, dequantize: Node, tensor: Tensor, contents: ReadonlyMap<Value, Tensor>) {
  const { dims } = tensor
  let from = dims.map((_, i) => i)
  for (let n = v.producer!; n !== dequantize; n = n.input(0).producer!) {
    const { carries, permutes } = findOp(n)!
    if (carries === 'shape') return null
    if (carries !== 'order') continue
    const order = permutes!(n, dims.length)
    from = from.map((axis) => order[axis]!)
  }
  const scales = contents.get(dequantize.input(1))!
  if (scales.dims.length !== dims.length) return null
  const at = dequantize.int('axis', 1)
  const axis = from.indexOf(at < 0 ? at + dims.length : at)
  const scale = permuted(scales, from)
  const layout = { axis, block: dequantize.int('block_size', 0) }
  const ints = integersOf(tensor.view('float32'), dims, scale, layout)
  return ints ? { ints, scale, ...layout } : null
}

/** The elements with axis `from[i]` of the tensor as axis i. */
function permuted(tensor: Tensor, from: readonly number[]): Float32Array {
  const { dims } = tensor
  const values = tensor.toFloat32()
  const strides = dims.map((_, i) => dims.slice(i + 1).reduce((a, b) => a * b, 1))
  const to = from.map((axis) => dims[axis]!)
  const at = to.map(() => 0)
  return values.map(() => {
    const value = values[at.reduce((sum, k, i) => sum + k * strides[from[i]!]!, 0)]!
    for (let i = to.length - 1; i >= 0 && ++at[i]! === to[i]; i--) at[i] = 0
    return value
  })
}

/** The axis that a per-channel factor runs along; null for a scalar, undefined for anything else. */
function broadcastAxis(by: readonly number[], dims: readonly number[]): number | null | undefined {
  const long = by.flatMap((d, i) => (d === 1 ? [] : [i]))
  if (long.length === 0) return null
  const at = long[0]! + dims.length - by.length
  return long.length === 1 && by[long[0]!] === dims[at] ? at : undefined
}

/** floats / scale where that gives integers of 8 bits that multiply back exactly; null otherwise. */
function integersOf(
  floats: Float32Array,
  dims: readonly number[],
  scale: Float32Array,
  layout: ScaleLayout,
): Int8Array | null {
  if (scale.length !== elementCount(scaleDims(dims, layout))) return null
  const index = scaleIndices(dims, layout)
  const ints = new Int8Array(floats.length)
  for (let i = 0; i < floats.length; i++) {
    const s = scale[index[i]!]!
    const q = s === 0 ? 0 : Math.round(floats[i]! / s)
    if (q < -128 || q > 127 || Math.fround(q * s) !== floats[i]) return null
    ints[i] = q
  }
  return ints
}
