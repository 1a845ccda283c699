/** Element and tensor types of ONNX. Codes are TensorProto.DataType (ONNX 1.22, onnx.proto). */

interface ElementInfo {
  readonly code: number
  /** Bits one element takes in raw_data; 0 for strings. */
  readonly bits: number
}

export const elementTypes = {
  float32: { code: 1, bits: 32 },
  uint8: { code: 2, bits: 8 },
  int8: { code: 3, bits: 8 },
  uint16: { code: 4, bits: 16 },
  int16: { code: 5, bits: 16 },
  int32: { code: 6, bits: 32 },
  int64: { code: 7, bits: 64 },
  string: { code: 8, bits: 0 },
  bool: { code: 9, bits: 8 },
  float16: { code: 10, bits: 16 },
  float64: { code: 11, bits: 64 },
  uint32: { code: 12, bits: 32 },
  uint64: { code: 13, bits: 64 },
  complex64: { code: 14, bits: 64 },
  complex128: { code: 15, bits: 128 },
  bfloat16: { code: 16, bits: 16 },
  float8e4m3fn: { code: 17, bits: 8 },
  float8e4m3fnuz: { code: 18, bits: 8 },
  float8e5m2: { code: 19, bits: 8 },
  float8e5m2fnuz: { code: 20, bits: 8 },
  uint4: { code: 21, bits: 4 },
  int4: { code: 22, bits: 4 },
  float4e2m1: { code: 23, bits: 4 },
  float8e8m0: { code: 24, bits: 8 },
  uint2: { code: 25, bits: 2 },
  int2: { code: 26, bits: 2 },
} as const satisfies Record<string, ElementInfo>

/** Name of a type of numbers, as ONNX has them. */
export type ElementType = keyof typeof elementTypes

/** Floats that compute in float32. */
export const isNarrowFloat = (type: ElementType | undefined): boolean => type === 'float16' || type === 'bfloat16'

const byCode = new Map<number, ElementType>(
  Object.entries(elementTypes).map(([name, info]) => [info.code, name as ElementType]),
)

/** The element type of a TensorProto.DataType code; undefined for codes that ONNX 1.22 does not define. */
export const elementTypeOf = (code: number): ElementType | undefined => byCode.get(code)

/** Bytes that `count` elements take as raw_data: sub-byte types are packed, the last byte padded. */
export const byteLength = (type: ElementType, count: number): number => Math.ceil((count * elementTypes[type].bits) / 8)

/** A dimension: its size, a symbolic name, or null where nothing is known. */
export type Dim = number | string | null

/** `dims` is null where not even the rank is known. */
export interface TensorType {
  readonly elem: ElementType
  readonly dims: readonly Dim[] | null
}

export const isStatic = (dims: readonly Dim[] | null): dims is readonly number[] =>
  dims?.every((d) => typeof d === 'number') ?? false

/** Bytes of a tensor of a fully known type; null where a dim is open. May be more than any memory holds. */
export const sizeInBytes = (t: TensorType | null): number | null =>
  t && isStatic(t.dims) ? byteLength(t.elem, elementCount(t.dims)) : null

export const elementCount = (dims: readonly number[]): number => dims.reduce((n, d) => n * d, 1)

/** `float32[64,3,32,32]`, as error messages and the text form print it. */
export const formatType = (t: TensorType | null): string =>
  t === null ? '?' : `${t.elem}${t.dims === null ? '[...]' : `[${t.dims.map((d) => d ?? '?').join(',')}]`}`
