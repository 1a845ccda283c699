/**
 * Writes weights into a graph in the form chosen for their storage, with standard operators of opset 18 or earlier that
 * restore them.
 *
 * A group's masks are one tensor of bits, the non-zeros of all members another. One decode serves the group:
 *
 *   values = Concat(0, non-zeros)
 *   all    = Gather(values, CumSum(mask) * mask)      the n-th set bit takes the n-th value, a clear bit the 0 in front
 *   w      = Reshape(Split(all)) * scale
 *
 * Bits lie in uint8 tensors, bit i of byte k standing for bit 8k+i:
 *
 *   bits   = BitwiseAnd(bytes[:,None], [1,2,4,...,128]) -> Cast bool -> Reshape [-1]
 *
 * Masks (several bits a symbol) and values are words of a prefix code (prefix-code.ts) where that takes fewer bytes; of each
 * level of the words
 *
 *   open   = Cast(code >= T)
 *   code   = code + open code + Gather([0, bits], CumSum(open) * open)
 *
 * and a table has the symbol of each word. Otherwise masks are plain, 4-bit values two a byte, 8-bit ones INT8.
 *
 * onnxruntime folds all of it at load. Not NonZero with ScatterND, which it leaves to run on every call; not
 * DequantizeLinear, for the same reason. A model-local function for the last line would save 20 bytes per tensor and put
 * a second operator domain into the file.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementTypes } from '../../graph/types.ts'
import { broadcastScales, scaleDims } from '../../layers/scale-layout.ts'
import { countMask, maskSymbols, storeMask, storeValues, valueSymbols } from './coding.ts'
import { codeBits, countSymbols, type PrefixCode } from './prefix-code.ts'
import type { StorageGroup, StoragePlan } from './storage.ts'
import { rawValues, type Weight } from './weights.ts'

const FLOAT = elementTypes.float32.code
const INT32 = elementTypes.int32.code

/** Emits nodes whose outputs have names as short as can be: names are a large part of a small decode. */
export class Terse {
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
  scalar(value: number, type: 'float32' | 'int32' | 'int64' = 'float32'): Value {
    return this.#shared(`${type} ${value}`, () => Tensor.from(type, [], [value]))
  }
  ints(values: readonly number[]): Value {
    return this.#shared(values.join(), () => Tensor.int64([values.length], values))
  }
  get lanes(): Value {
    return this.#shared('lanes', () => Tensor.from('uint8', [8], [1, 2, 4, 8, 16, 32, 64, 128]))
  }
  readonly #known = new Map<string, Value>()
  #shared(key: string, make: () => Tensor): Value {
    const value = this.#known.get(key) ?? this.constant(make())
    this.#known.set(key, value)
    return value
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

function scaled(t: Terse, v: Value, w: Weight): Value {
  if (!w.ints || w.scale.every((s) => s === 1)) return v
  const one = w.scale.every((s) => s === w.scale[0])
  if (one) return t.op('Mul', [v, t.scalar(w.scale[0]!)])
  if (w.block === 0) return t.op('Mul', [v, t.constant(Tensor.float32(w.broadcastDims, w.scale))])
  const blocks = t.constant(Tensor.float32(scaleDims(w.dims, w), w.scale))
  return t.op('Mul', [v, broadcastScales(t, blocks, w.dims, w)])
}

function emitGroup(t: Terse, group: StorageGroup): Map<Weight, Value> {
  const { members, bits, kind, coded } = group
  const total = members.reduce((n, w) => n + w.size, 0)
  const all = new Float32Array(total)
  let at = 0
  for (const w of members) {
    all.set(w.ints ?? w.floats, at)
    at += w.size
  }
  const { value, length } = kind === 'sparse' ? emitSparse(t, all, bits) : emitValues(t, all, bits, coded)
  const sizes = [...members.map((w) => w.size), ...(length > total ? [length - total] : [])]
  const parts = split(t, value, sizes)
  return new Map(members.map((w, i) => [w, t.op('Reshape', [parts[i]!, t.ints(w.dims)])]))
}

/** One dimension of at least as many elements as asked for. */
interface Flat {
  readonly value: Value
  readonly length: number
}

function split(t: Terse, v: Value, sizes: readonly number[]): Value[] {
  return sizes.length === 1 ? [v] : t.ops('Split', [v, t.ints(sizes)], sizes.length, { axis: 0 })
}

function emitSparse(t: Terse, all: Float32Array, bits: number): Flat {
  const mask = Uint8Array.from(all, (v) => (v === 0 ? 0 : 1))
  const nonZeros = all.filter((v) => v !== 0)
  // an empty tensor would not reshape; the value is never read
  const stored = nonZeros.length === 0 ? Float32Array.of(0) : nonZeros
  const set = emitMask(t, mask)
  const values = t.op('Concat', [t.constant(Tensor.float32([1], [0])), emitValues(t, stored, bits).value], { axis: 0 })
  const index = t.op('Mul', [t.op('CumSum', [set.value, t.scalar(0, 'int64')]), set.value])
  return { value: t.op('Gather', [values, index], { axis: 0 }), length: set.length }
}

/** A bit for each element, as int32. */
function emitMask(t: Terse, mask: Uint8Array): Flat {
  const stored = storeMask(countMask(mask)).code
  if (!stored) return unpack(t, mask)
  const { code, bits } = stored
  const symbols = maskSymbols(mask, bits)
  const rows = code.symbols.flatMap((s) => Array.from({ length: bits }, (_, k) => (s >> k) & 1))
  const table = t.constant(Tensor.from('uint8', [code.symbols.length, bits], rows))
  const patterns = t.op('Gather', [table, emitWords(t, symbols, code)], { axis: 0 })
  const set = t.op('Cast', [t.op('Reshape', [patterns, t.ints([-1])])], { to: INT32 })
  return { value: set, length: symbols.length * bits }
}

/** Integers of `bits` bits, or floats (32), as float32. */
function emitValues(t: Terse, values: Float32Array, bits: number, coded = true): Flat {
  const { length } = values
  if (bits === 32) return { value: t.constant(Tensor.float32([length], values)), length }
  const symbols = valueSymbols(values, bits)
  const code = coded ? storeValues(countSymbols(symbols, 2 ** bits), bits).code : null
  if (code) {
    const lowest = -(2 ** (bits - 1))
    const rows = code.symbols.map((s) => s + lowest)
    const table = t.constant(Tensor.from('int8', [rows.length], rows))
    const found = t.op('Gather', [table, emitWords(t, symbols, code)], { axis: 0 })
    return { value: t.op('Cast', [found], { to: FLOAT }), length }
  }
  if (bits > 4)
    return { value: t.op('Cast', [t.constant(Tensor.from('int8', [length], values))], { to: FLOAT }), length }
  return emitNibbles(t, values)
}

/** The number of each symbol's word, as int32. */
function emitWords(t: Terse, symbols: Uint8Array, code: PrefixCode): Value {
  const { bits, levels } = codeBits(symbols, code)
  const { value, length } = unpack(t, bits)
  const planes = Array.from({ length: code.shortest }, () => symbols.length)
  const padding = length > bits.length ? [length - bits.length] : []
  const parts = split(t, value, [...planes, ...levels, ...padding])
  let word = parts[0]!
  for (const plane of parts.slice(1, code.shortest)) word = t.op('Add', [t.op('Add', [word, word]), plane])
  for (let l = code.shortest; l < code.longest; l++) {
    const more = t.op('GreaterOrEqual', [word, t.scalar(code.open[l]!, 'int32')])
    const open = t.op('Cast', [more], { to: INT32 })
    const at = t.op('Mul', [t.op('CumSum', [open, t.scalar(0, 'int64')]), open])
    const bit = t.op('Gather', [parts[l]!, at], { axis: 0 })
    word = t.op('Add', [t.op('Add', [word, t.op('Mul', [word, open])]), bit])
  }
  return word
}

/** Two values of -8..7 per byte, each plus 8: the first half of them in the low bits, the second in the high ones. */
function emitNibbles(t: Terse, values: Float32Array): Flat {
  const half = Math.ceil(values.length / 2)
  const bytes = new Uint8Array(half)
  for (let i = 0; i < half; i++) bytes[i] = (values[i]! + 8) | (((values[half + i] ?? 0) + 8) << 4)
  const x = t.op('Cast', [t.constant(new Tensor('uint8', [half], bytes))], { to: FLOAT })
  const high = t.op('Floor', [t.op('Mul', [x, t.scalar(1 / 16)])])
  const low = t.op('Sub', [x, t.op('Mul', [high, t.scalar(16)])])
  return { value: t.op('Sub', [t.op('Concat', [low, high], { axis: 0 }), t.scalar(8)]), length: 2 * half }
}

/** Bits out of bytes, first in the low bit, as int32 in one dimension; up to 7 more than were stored. */
function unpack(t: Terse, bits: Uint8Array): Flat {
  const bytes = new Uint8Array(Math.ceil(bits.length / 8))
  for (let i = 0; i < bits.length; i++) bytes[i >> 3]! |= bits[i]! << (i & 7)
  const column = t.constant(new Tensor('uint8', [bytes.length, 1], bytes))
  const set = t.op('Cast', [t.op('BitwiseAnd', [column, t.lanes])], { to: elementTypes.bool.code })
  return { value: t.op('Cast', [t.op('Reshape', [set, t.ints([-1])])], { to: INT32 }), length: 8 * bytes.length }
}
