/**
 * Writes weights into a graph in the form chosen for their storage, with standard operators of opset 18 or earlier that
 * restore them.
 *
 * A group's masks are one uint8 tensor, bit i of byte k standing for element 8k+i of all members one after the other;
 * the non-zeros of all members are another tensor. One decode serves the group:
 *
 *   bits   = BitwiseAnd(mask[:,None], [1,2,4,...,128]) -> Cast bool -> Cast int32 -> Reshape [-1]
 *   high   = Floor(bytes / 16),  low = bytes - 16 high
 *   values = Concat(0, low, high) - 8                 (2, 3, 5, 6, 7 bits: bit planes, MatMul with [1,2,..,-2^(b-1)])
 *   all    = Gather(values, CumSum(bits) * bits)      the n-th set bit takes the n-th value, a clear bit the 0 in front
 *   w      = Reshape(Split(all)) * scale
 *
 * onnxruntime folds all of it at load. Not NonZero with ScatterND, which it leaves to run on every call; not
 * DequantizeLinear, for the same reason. A model-local function for the last line would save 20 bytes per tensor and put
 * a second operator domain into the file.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementTypes } from '../../graph/types.ts'
import type { StorageGroup, StoragePlan } from './storage.ts'
import type { Weight } from './weights.ts'

const FLOAT = elementTypes.float32.code

/** Emits nodes whose outputs have names as short as can be: names are a large part of a small decode. */
class Terse {
  readonly b: Builder
  constructor(b: Builder) {
    this.b = b
  }
  op(op: string, inputs: readonly Value[], attributes: Readonly<Record<string, number>> = {}): Value {
    return this.ops(op, inputs, 1, attributes)[0]!
  }
  ops(op: string, inputs: readonly Value[], count: number, attributes: Readonly<Record<string, number>> = {}): Value[] {
    const outputs = this.names(count)
    return this.b.node({ op, inputs, outputs, attributes }).outputs.map((v) => v!)
  }
  constant(tensor: Tensor): Value {
    return this.b.initializer(this.names(1)[0]!, tensor)
  }
  #next = 0
  names(count: number): string[] {
    const out: string[] = []
    while (out.length < count) {
      const name = `_${(this.#next++).toString(36)}`
      if (!this.b.graph.find(name)) out.push(name)
    }
    return out
  }
}

/** Emits every weight of the plan where `b` inserts; returns the value for each. */
export function emitWeights(b: Builder, plan: StoragePlan): Map<Weight, Value> {
  const t = new Terse(b)
  const unscaled = emitIntegers(t, plan)
  const out = new Map<Weight, Value>()
  for (const { weight, kind } of plan.choices) {
    const v = unscaled.get(weight)!
    out.set(weight, kind === 'raw' ? v : scaled(t, v, weight))
  }
  return out
}

/** As int8 tensors of ints * multiplier (broadcast), which must stay within [-128, 127]. */
export function emitInt8(b: Builder, plan: StoragePlan, multipliers: ReadonlyMap<Weight, Tensor>): Map<Weight, Value> {
  const t = new Terse(b)
  const out = new Map<Weight, Value>()
  for (const [weight, v] of emitIntegers(t, plan)) {
    const scaled = t.op('Mul', [v, t.constant(multipliers.get(weight)!)])
    out.set(weight, t.op('Cast', [scaled], { to: elementTypes.int8.code }))
  }
  return out
}

/** Every weight as float32 of its dims, before the scale. */
function emitIntegers(t: Terse, plan: StoragePlan): Map<Weight, Value> {
  const out = new Map<Weight, Value>()
  for (const group of plan.groups) for (const [w, v] of emitGroup(t, group)) out.set(w, v)
  for (const { weight, kind } of plan.choices) {
    if (kind === 'raw') out.set(weight, t.constant(Tensor.float32(weight.dims, rawValues(weight))))
    else if (kind === 'int8')
      out.set(weight, t.op('Cast', [t.constant(Tensor.from(kind, weight.dims, weight.ints!))], { to: FLOAT }))
  }
  return out
}

/** The floats of a weight that is stored raw; integers are multiplied out. */
export function rawValues(w: Weight): Float32Array {
  const { ints, scale, axis, dims } = w
  if (!ints) return w.floats
  const inner = axis === null ? 1 : dims.slice(axis + 1).reduce((a, b) => a * b, 1)
  const count = axis === null ? 1 : dims[axis]!
  return Float32Array.from(ints, (q, i) => q * scale[Math.floor(i / inner) % count]!)
}

function scaled(t: Terse, v: Value, w: Weight): Value {
  if (!w.ints || w.scale.every((s) => s === 1)) return v
  const one = w.scale.every((s) => s === w.scale[0])
  const scale = one ? t.b.scalar(w.scale[0]!) : t.constant(Tensor.float32(w.scaleDims, w.scale))
  return t.op('Mul', [v, scale])
}

function emitGroup(t: Terse, group: StorageGroup): Map<Weight, Value> {
  const { members, bits, kind } = group
  const total = members.reduce((n, w) => n + w.size, 0)
  const all = new Float32Array(total)
  let at = 0
  for (const w of members) {
    all.set(w.ints ?? w.floats, at)
    at += w.size
  }
  const emit = { packed: emitSparse, planes: emitPlanes, nibbles: emitNibbles }[kind]
  const flat = emit(t, all, bits)
  const together = kind === 'nibbles' ? 2 : 8
  const padding = Math.ceil(total / together) * together - total
  const sizes = [...members.map((w) => w.size), ...(padding > 0 ? [padding] : [])]
  const parts = sizes.length === 1 ? [flat] : t.ops('Split', [flat, t.b.ints(sizes)], sizes.length, { axis: 0 })
  const shapes = new Map<string, Value>()
  return new Map(
    members.map((w, i) => {
      const key = w.dims.join()
      const shape = shapes.get(key) ?? t.constant(Tensor.int64([w.dims.length], w.dims))
      shapes.set(key, shape)
      return [w, t.op('Reshape', [parts[i]!, shape])]
    }),
  )
}

/** The mask's length in bits, a multiple of 8, is the length of the result. */
function emitSparse(t: Terse, all: Float32Array, bits: number): Value {
  const mask = new Uint8Array(Math.ceil(all.length / 8))
  const nonZeros: number[] = []
  for (let i = 0; i < all.length; i++) {
    if (all[i] === 0) continue
    mask[i >> 3]! |= 1 << (i & 7)
    nonZeros.push(all[i]!)
  }
  // an empty tensor would not reshape; the value is never read
  if (nonZeros.length === 0) nonZeros.push(0)
  const set = t.op('Cast', [unpack(t, mask, [-1])], { to: elementTypes.int32.code })
  const values = t.op('Concat', [t.constant(Tensor.float32([1], [0])), emitValues(t, nonZeros, bits)], { axis: 0 })
  const index = t.op('Mul', [t.op('CumSum', [set, t.b.scalar(0, 'int64')]), set])
  return t.op('Gather', [values, index], { axis: 0 })
}

/** At least the values, as float32 in one dimension; nibbles and bit planes may add up to 7 more after them. */
function emitValues(t: Terse, values: readonly number[], bits: number): Value {
  if (bits === 32) return t.constant(Tensor.float32([values.length], values))
  if (bits === 8) return t.op('Cast', [t.constant(Tensor.from('int8', [values.length], values))], { to: FLOAT })
  return bits === 4 ? emitNibbles(t, values) : emitPlanes(t, Float32Array.from(values), bits)
}

/** Two values of -8..7 per byte, each plus 8: the first half of them in the low bits, the second in the high ones. */
function emitNibbles(t: Terse, values: ArrayLike<number>): Value {
  const half = Math.ceil(values.length / 2)
  const bytes = new Uint8Array(half)
  for (let i = 0; i < half; i++) bytes[i] = (values[i]! + 8) | (((values[half + i] ?? 0) + 8) << 4)
  const x = t.op('Cast', [t.constant(new Tensor('uint8', [half], bytes))], { to: FLOAT })
  const high = t.op('Floor', [t.op('Mul', [x, t.b.scalar(1 / 16)])])
  const low = t.op('Sub', [x, t.op('Mul', [high, t.b.scalar(16)])])
  return t.op('Sub', [t.op('Concat', [low, high], { axis: 0 }), t.b.scalar(8)])
}

/** Two's complement of `bits` bits, one plane after another: the top plane counts -2^(bits-1). */
function emitPlanes(t: Terse, values: Float32Array, bits: number): Value {
  const bytes = Math.ceil(values.length / 8)
  const planes = new Uint8Array(bits * bytes)
  for (let p = 0; p < bits; p++)
    for (let i = 0; i < values.length; i++) if ((values[i]! >> p) & 1) planes[p * bytes + (i >> 3)]! |= 1 << (i & 7)
  const weights = Array.from({ length: bits }, (_, p) => (p === bits - 1 ? -(2 ** p) : 2 ** p))
  const set = t.op('Cast', [unpack(t, planes, [bits, -1])], { to: FLOAT })
  return t.op('MatMul', [t.constant(Tensor.float32([bits], weights)), set])
}

/** Bits of bytes, first in the low bit, as bool of the given dims. */
function unpack(t: Terse, bytes: Uint8Array, dims: readonly number[]): Value {
  const column = t.constant(new Tensor('uint8', [bytes.length, 1], bytes))
  const lanes = t.constant(Tensor.from('uint8', [8], [1, 2, 4, 8, 16, 32, 64, 128]))
  const set = t.op('Cast', [t.op('BitwiseAnd', [column, lanes])], { to: elementTypes.bool.code })
  return t.op('Reshape', [set, t.b.ints(dims)])
}
