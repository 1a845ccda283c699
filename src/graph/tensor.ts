/**
 * A constant tensor: element type, dims and little-endian bytes, row-major, sub-byte types packed low nibble first
 * (ONNX raw_data layout). Bytes may be lazy: a large tensor stays in its file until its bytes are asked for, and is
 * better asked for them in pieces. Tensors are values: nobody writes to the bytes of a tensor that a graph holds; make a
 * new one instead.
 *
 * Over 150 lines because every way to look at the elements is here.
 */
import { type Bytes, isLazy, type LazyBytes, load, pieces, sameBytes, slice } from '../base/bytes.ts'
import type { FileSlice } from '../base/data-file.ts'
import { bugError, modelError } from '../base/errors.ts'
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../base/float16.ts'
import {
  byteLength,
  type ElementType,
  elementCount,
  elementTypes,
  formatType,
  sizeInBytes,
  type TensorType,
} from './types.ts'

export type TypedArray =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array

const viewOf = {
  float32: Float32Array,
  float64: Float64Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as const
type Viewable = keyof typeof viewOf
const converted = ['int64', 'uint64', 'float16', 'bfloat16'] as const
/** Types whose elements are numbers as JavaScript has them. */
type Numeric = Exclude<Viewable, (typeof converted)[number]>
const isNumeric = (type: ElementType): type is Numeric => type in viewOf && !converted.some((t) => t === type)
export type ViewOf<T extends Viewable> = InstanceType<(typeof viewOf)[T]>

const subByte: Partial<Record<ElementType, { bits: 2 | 4; signed: boolean }>> = {
  uint4: { bits: 4, signed: false },
  int4: { bits: 4, signed: true },
  uint2: { bits: 2, signed: false },
  int2: { bits: 2, signed: true },
}

/** Bytes of the largest tensor that is made: inputs of models that files declare. */
const LARGEST = 2 ** 31

/** A model error if a tensor of that type would be larger than anyone runs: files can declare any dims. */
export function requireHoldable(type: TensorType, what: string): void {
  const bytes = sizeInBytes(type) ?? 0
  if (bytes <= LARGEST) return
  const size = `${(bytes / 2 ** 30).toLocaleString('en', { maximumFractionDigits: 0 })} GiB`
  throw modelError('too-large', `${what} of type ${formatType(type)} would take ${size}`, {
    next: 'declare smaller dimensions',
  })
}

export interface TensorOrigin {
  /** The codec's own record of how the tensor was written, kept so that an untouched tensor is written back the same. */
  readonly proto?: unknown
  /** The same for a tensor that the file holds in sparse form. */
  readonly sparse?: unknown
  /** Where a tensor of a file with external data lies; kept so that untouched tensors can be referred to. */
  readonly external?: FileSlice
}

/** Numbers of one type and shape, row-major; read from their file when they are needed. */
export class Tensor {
  readonly type: ElementType
  readonly dims: readonly number[]
  /** Only on tensors that a codec read and nobody changed. */
  readonly origin: TensorOrigin | undefined
  #bytes: Bytes | (() => Uint8Array)

  /** `bytes`: at once, in a file, or a function that is called when they are first asked for. */
  constructor(type: ElementType, dims: readonly number[], bytes: Bytes | (() => Uint8Array), origin?: TensorOrigin) {
    this.type = type
    this.dims = dims
    this.origin = origin
    this.#bytes = bytes
    if (typeof bytes !== 'function') this.#check(bytes)
  }

  get size(): number {
    return elementCount(this.dims)
  }

  get byteLength(): number {
    return byteLength(this.type, this.size)
  }

  /** The bytes in memory. What lies in a file is read again each time, so that walking over a large model stays flat. */
  get bytes(): Uint8Array {
    return load(this.data)
  }

  /** The bytes, in memory or not: for code that reads in pieces. */
  get data(): Bytes {
    if (typeof this.#bytes !== 'function') return this.#bytes
    const bytes = this.#bytes()
    this.#check(bytes)
    this.#bytes = bytes
    return bytes
  }

  /** Whether the bytes are not in memory. */
  get isLazy(): boolean {
    return typeof this.#bytes !== 'function' && isLazy(this.#bytes)
  }

  /** The elements in order, as flat tensors: one where they are in memory, else of 256 KiB, each gone with the next. */
  *parts(): Generator<Tensor, void, undefined> {
    const { bits } = elementTypes[this.type]
    if (!this.isLazy || bits === 0) {
      if (this.size > 0) yield this
      return
    }
    let left = this.size
    for (const piece of pieces(this.data)) {
      const count = Math.min(left, (piece.length * 8) / bits)
      left -= count
      yield new Tensor(this.type, [count], piece)
    }
  }

  /** `count` elements from `first` on, as a flat tensor. Not for types of less than a byte, nor strings. */
  range(first: number, count: number): Tensor {
    const size = elementTypes[this.type].bits / 8
    const [start, end] = [first * size, (first + count) * size]
    return new Tensor(this.type, [count], slice(this.data, start, end))
  }

  /**
   * A float tensor of the same dims, each element made by `change` from this tensor's, in place and in float32; `first`
   * is the index of the first. In memory at once where this one is; else each time that a part is asked for.
   */
  mapFloats(type: ElementType, change: (values: Float32Array, first: number) => void): Tensor {
    if (this.isLazy) return new Tensor(type, this.dims, new MappedFloats(this, type, change))
    const values = Float32Array.from(this.toFloat32())
    change(values, 0)
    return Tensor.float32(this.dims, values).as(type)
  }

  /** Rounded to another float type. */
  as(type: ElementType): Tensor {
    return type === this.type ? this : Tensor.from(type, this.dims, this.toFloat32())
  }

  #check(bytes: Bytes): void {
    if (this.type !== 'string' && bytes.length !== this.byteLength)
      throw modelError(
        'tensor-length',
        `a tensor of type ${this.type}[${this.dims.join(',')}] needs ${this.byteLength} bytes but has ${bytes.length}`,
      )
  }

  /** The bytes as a typed array of the tensor's own type (16-bit floats as their bits); a copy only where misaligned. */
  view<T extends Viewable>(type: T): ViewOf<T> {
    if (type !== this.type) throw bugError(`a ${this.type} tensor was read as ${type}`)
    const View = viewOf[type]
    const { bytes } = this
    const aligned = bytes.byteOffset % View.BYTES_PER_ELEMENT === 0
    // not bytes.slice(): on a Buffer that is a view of the same memory
    const { buffer, byteOffset } = aligned ? bytes : new Uint8Array(bytes)
    return new View(buffer as ArrayBuffer, byteOffset, this.size) as ViewOf<T>
  }

  /** Elements as numbers in float32 precision; every real type but strings. Not a copy when the tensor is float32. */
  toFloat32(): Float32Array {
    return this.type === 'float32' ? this.view('float32') : Float32Array.from(this.toNumbers())
  }

  /** Elements as numbers; int64 beyond 2^53 loses digits (use view('int64') where that matters). */
  toNumbers(): ArrayLike<number> {
    const { type } = this
    const packed = subByte[type]
    if (packed) return unpackBits(this.bytes, this.size, packed.bits, packed.signed)
    switch (type) {
      case 'int64':
      case 'uint64':
        return Array.from(this.view(type), Number)
      case 'float16':
        return Float64Array.from(this.view(type), float16ToNumber)
      case 'bfloat16':
        return Float64Array.from(this.view(type), bfloat16ToNumber)
      default:
        if (isNumeric(type)) return this.view(type)
        throw modelError('tensor-type', `elements of type ${type} cannot be read as numbers`)
    }
  }

  /** The single element of a tensor of size 1. */
  item(): number {
    if (this.size !== 1) throw bugError(`item() of a tensor of ${this.size} elements`)
    return this.toNumbers()[0]!
  }

  reshape(dims: readonly number[]): Tensor {
    return new Tensor(this.type, dims, this.data)
  }

  /** From numbers, rounded to the type (integers: half to even, saturated). */
  static from(type: ElementType, dims: readonly number[], values: ArrayLike<number>): Tensor {
    const n = elementCount(dims)
    if (values.length !== n) throw bugError(`Tensor.from: ${values.length} values for dims [${dims.join(',')}]`)
    const packed = subByte[type]
    if (packed) return new Tensor(type, dims, packBits(values, packed.bits))
    switch (type) {
      case 'int64':
      case 'uint64': {
        const out = new viewOf[type](n)
        // 2^63 - 1 (a slice's open end) is not a double: as a number it is 2^63, which must not wrap to -2^63
        const [lo, hi] = type === 'int64' ? [-(2n ** 63n), 2n ** 63n - 1n] : [0n, 2n ** 64n - 1n]
        for (let i = 0; i < n; i++) {
          const x = BigInt(values[i]!)
          out[i] = x < lo ? lo : x > hi ? hi : x
        }
        return Tensor.of(type, dims, out)
      }
      case 'float16':
        return Tensor.of(type, dims, Uint16Array.from(values, numberToFloat16))
      case 'bfloat16':
        return Tensor.of(type, dims, Uint16Array.from(values, numberToBfloat16))
      default:
        if (isNumeric(type)) return Tensor.of(type, dims, viewOf[type].from(values))
        throw bugError(`Tensor.from cannot make elements of type ${type}`)
    }
  }

  /** Wraps a typed array without copying it. */
  static of(type: ElementType, dims: readonly number[], data: TypedArray): Tensor {
    return new Tensor(type, dims, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
  }

  static float32(dims: readonly number[], values: ArrayLike<number>): Tensor {
    return values instanceof Float32Array ? Tensor.of('float32', dims, values) : Tensor.from('float32', dims, values)
  }

  static int64(dims: readonly number[], values: ArrayLike<number>): Tensor {
    return Tensor.from('int64', dims, values)
  }

  static scalar(value: number, type: ElementType = 'float32'): Tensor {
    return Tensor.from(type, [], [value])
  }

  /** Same type, dims and bytes (so 0 and -0 differ). */
  equals(other: Tensor): boolean {
    if (this.type !== other.type || this.dims.join() !== other.dims.join()) return false
    return sameBytes(this.data, other.data)
  }
}

/** The bytes of a tensor that is made from one in a file. */
class MappedFloats implements LazyBytes {
  readonly length: number
  readonly #source: Tensor
  readonly #type: ElementType
  readonly #change: (values: Float32Array, first: number) => void

  constructor(source: Tensor, type: ElementType, change: (values: Float32Array, first: number) => void) {
    this.length = byteLength(type, source.size)
    this.#source = source
    this.#type = type
    this.#change = change
  }

  read(start: number, end: number, into?: Uint8Array): Uint8Array {
    const size = elementTypes[this.#type].bits / 8
    const from = elementTypes[this.#source.type].bits / 8
    const [first, count] = [start / size, (end - start) / size]
    const { data } = this.#source
    if (!Number.isInteger(first) || !Number.isInteger(count) || !isLazy(data))
      throw bugError('a part is not a whole number of elements')
    const aligned = into && into.byteOffset % 4 === 0 ? into : undefined
    const read = data.read(first * from, (first + count) * from, aligned)
    const part = new Tensor(this.#source.type, [count], read)
    const values = part.toFloat32()
    this.#change(values, first)
    return Tensor.float32([count], values).as(this.#type).bytes
  }
}

/** Integers out of packed sub-byte storage, first element in the low bits. */
export function unpackBits(bytes: Uint8Array, count: number, bits: 2 | 4, signed: boolean): Int8Array | Uint8Array {
  const out = signed ? new Int8Array(count) : new Uint8Array(count)
  const perByte = 8 / bits
  const mask = (1 << bits) - 1
  const signBit = signed ? 1 << (bits - 1) : 0
  for (let i = 0; i < count; i++) {
    const v = (bytes[Math.floor(i / perByte)]! >> ((i % perByte) * bits)) & mask
    out[i] = (v ^ signBit) - signBit
  }
  return out
}

/** Integers into packed sub-byte storage, first element in the low bits; values must be in range. */
export function packBits(values: ArrayLike<number>, bits: 2 | 4): Uint8Array {
  const perByte = 8 / bits
  const mask = (1 << bits) - 1
  const out = new Uint8Array(Math.ceil(values.length / perByte))
  for (let i = 0; i < values.length; i++) {
    const at = Math.floor(i / perByte)
    out[at] = out[at]! | ((values[i]! & mask) << ((i % perByte) * bits))
  }
  return out
}

/** How many elements are zero. Works for every real type; -0 counts as zero. */
export function countZeros(t: Tensor): number {
  let zeros = 0
  for (const part of t.parts()) {
    const values = part.toNumbers()
    for (let i = 0; i < values.length; i++) if (values[i] === 0) zeros++
  }
  return zeros
}
