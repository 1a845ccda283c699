/**
 * Which prefix code, if any, stores masks or values in fewer bytes than the plain form, the nodes that undo it included.
 *
 * A mask's symbols are patterns of 2 to 6 neighbours: at 75 % zeros patterns of 3 take 0.8 bits an element. Values of a
 * width are their own symbols: non-zeros of 4 bits take about 3.4.
 */
import { countSymbols, type PrefixCode, prefixCode } from './prefix-code.ts'

/** Bytes of the nodes of a decode: what there is besides levels (planes, table), and a level. Measured on encoded files. */
const DECODE = 170
const LEVEL = 200
/** Bytes a symbol that a level holds while onnxruntime folds it (measured), and what all levels of a decode may hold. */
const HELD = 60
const MAY_HOLD = 2 ** 27
const LONGEST = 12

/** Neighbours that a symbol of a mask may stand for. */
const PATTERNS = [2, 3, 4, 5, 6] as const

/** How often each pattern of a mask occurs, for each number of neighbours; and how long the mask is. */
export interface MaskCounts {
  readonly elements: number
  readonly patterns: readonly Uint32Array[]
}

export interface Stored<T> {
  /** null: plain. */
  readonly code: T | null
  /** With the nodes that undo a code. */
  readonly bytes: number
}

export interface MaskCode {
  readonly code: PrefixCode
  /** Elements a symbol. */
  readonly bits: number
}

export function countMask(mask: Uint8Array): MaskCounts {
  const patterns = PATTERNS.map((bits) => countSymbols(maskSymbols(mask, bits), 2 ** bits))
  return { elements: mask.length, patterns }
}

/** Neighbours as one symbol, the first in the low bit; 0 behind the last. */
export function maskSymbols(mask: Uint8Array, bits: number): Uint8Array {
  const symbols = new Uint8Array(Math.ceil(mask.length / bits))
  for (let i = 0; i < mask.length; i++) symbols[Math.floor(i / bits)]! |= mask[i]! << (i % bits)
  return symbols
}

/** Symbols of `bits` bits from 0. */
export const valueSymbols = (values: ArrayLike<number>, bits: number): Uint8Array =>
  Uint8Array.from(values, (v) => v + 2 ** (bits - 1))

/** Plain: one bit an element. */
export function storeMask({ elements, patterns }: MaskCounts): Stored<MaskCode> {
  let best: Stored<MaskCode> = { code: null, bytes: Math.ceil(elements / 8) }
  for (const [k, bits] of PATTERNS.entries()) {
    const found = cheapest(patterns[k]!, bits)
    if (found && found.bytes < best.bytes) best = { code: { code: found.code, bits }, bytes: found.bytes }
  }
  return best
}

/** Plain: two values a byte for 4 bits, a byte each for 8; other widths have no plain form. */
export function storeValues(counts: Uint32Array, bits: number): Stored<PrefixCode> {
  const n = counts.reduce((a, b) => a + b, 0)
  if (n === 0) return { code: null, bytes: 0 }
  const plain = bits === 4 || bits === 8 ? Math.ceil((n * bits) / 8) : Number.POSITIVE_INFINITY
  const found = cheapest(counts, 1)
  return found && found.bytes < plain ? found : { code: null, bytes: plain }
}

/** Of the codes limited to each length the one with the fewest bytes, `width` of them an entry of its table. */
function cheapest(counts: Uint32Array, width: number): { code: PrefixCode; bytes: number } | null {
  const n = counts.reduce((a, b) => a + b, 0)
  const present = counts.filter((c) => c > 0).length
  let best: { code: PrefixCode; bytes: number } | null = null
  for (let longest = Math.max(1, Math.ceil(Math.log2(present))); longest <= LONGEST; longest++) {
    const code = prefixCode(counts, longest)
    if (!code) continue
    const levels = code.longest - code.shortest
    if (best && n * levels * HELD > MAY_HOLD) break
    const bytes = Math.ceil(code.bits / 8) + DECODE + levels * LEVEL + width * code.symbols.length
    if (!best || bytes < best.bytes) best = { code, bytes }
    // longer words than Huffman's gain nothing
    if (code.longest < longest) break
  }
  return best
}
