/**
 * Tensors in the text form: `float32[2,2] [1, 2, 3, 4]` while small, else base64 of the raw bytes, or a hash where only
 * a summary is wanted. Values are written in the fewest digits that give the same bits back; where that fails (NaN
 * payloads, padding bits, element types without arithmetic) the bytes are written.
 */
import { createHash } from 'node:crypto'
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../base/float16.ts'
import { Tensor } from '../graph/tensor.ts'
import { type ElementType, formatType } from '../graph/types.ts'
import { packStrings, unpackStrings } from './codec-tensor.ts'

/** Tensors up to this size are written as values. */
const VALUES_LIMIT = 64
/** Hex digits of SHA-256 in a summary: enough that two tensors of a golden file never collide by chance. */
const HASH_DIGITS = 16

export const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')

/** A string's text where it is UTF-8, undefined otherwise. */
export function utf8(bytes: Uint8Array): string | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    return text
  } catch {
    return undefined
  }
}

/** The shortest decimal that `round` turns into the same number. */
function shortest(x: number, round: (x: number) => number): string {
  if (Number.isNaN(x)) return 'nan'
  if (!Number.isFinite(x)) return x > 0 ? 'inf' : '-inf'
  if (Object.is(x, -0)) return '-0'
  for (let digits = 1; digits < 17; digits++) {
    const text = String(Number(x.toPrecision(digits)))
    if (round(Number(text)) === x) return text
  }
  return String(x)
}

export const formatFloat32 = (x: number): string => shortest(x, Math.fround)

const roundTo: Partial<Record<ElementType, (x: number) => number>> = {
  float32: Math.fround,
  float16: (x) => float16ToNumber(numberToFloat16(x)),
  bfloat16: (x) => bfloat16ToNumber(numberToBfloat16(x)),
}

/** Element types that Tensor.toNumbers and Tensor.from handle; 64-bit integers go through bigint. */
const numeric = /^(u?int(2|4|8|16|32)|bool|float(16|32|64)|bfloat16)$/

function valuesOf(t: Tensor): string[] | undefined {
  if (t.type === 'string') {
    const texts = unpackStrings(t).map(utf8)
    return texts.some((s) => s === undefined) ? undefined : texts.map((s) => JSON.stringify(s))
  }
  if (t.type === 'int64' || t.type === 'uint64') return Array.from<bigint, string>(t.view(t.type), String)
  if (!numeric.test(t.type)) return undefined
  const round = roundTo[t.type] ?? ((x: number) => x)
  return Array.from(t.toNumbers(), (x) => shortest(x, round))
}

export function printTensor(t: Tensor, how: 'full' | 'summary'): string {
  const type = formatType({ elem: t.type, dims: t.dims })
  if (t.size <= VALUES_LIMIT) {
    const values = valuesOf(t)
    if (values && tensorOfValues(t.type, t.dims, values)?.equals(t)) return `${type} [${values.join(', ')}]`
  }
  if (how === 'full') return `${type} base64 "${base64(t.bytes)}"`
  return `${type} sha256 ${createHash('sha256').update(t.bytes).digest('hex').slice(0, HASH_DIGITS)}`
}

export function numberOf(text: string): number {
  if (text === 'nan') return Number.NaN
  if (text === 'inf' || text === '-inf') return text === 'inf' ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY
  return Number(text)
}

const range: Record<'int64' | 'uint64', (bits: number, x: bigint) => bigint> = {
  int64: BigInt.asIntN,
  uint64: BigInt.asUintN,
}

/** A tensor of printed values (strings still quoted); undefined where a value does not fit the type. */
export function tensorOfValues(type: ElementType, dims: readonly number[], values: string[]): Tensor | undefined {
  if (type === 'string')
    return new Tensor(type, dims, packStrings(values.map((v) => new TextEncoder().encode(JSON.parse(v) as string))))
  if (type === 'int64' || type === 'uint64') {
    if (!values.every((v) => /^-?\d+$/.test(v) && range[type](64, BigInt(v)) === BigInt(v))) return undefined
    const view = type === 'int64' ? BigInt64Array : BigUint64Array
    return Tensor.of(type, dims, view.from(values.map(BigInt)))
  }
  if (!numeric.test(type)) return undefined
  const numbers = values.map(numberOf)
  const tensor = Tensor.from(type, dims, numbers)
  // Integers that were cut to their type, and words that are not numbers, do not come back.
  const back = tensor.toNumbers()
  const exact = /int|bool/.test(type)
  const fits = numbers.every((x, i) => (exact ? back[i] === x : !Number.isNaN(x) || values[i] === 'nan'))
  return fits ? tensor : undefined
}
