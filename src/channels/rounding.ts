/** How precisely the float types round. */
import type { ElementType } from '../graph/types.ts'

/** Fraction bits, and the exponent of the least number above 0. */
const FLOATS: Partial<Record<ElementType, readonly [bits: number, least: number]>> = {
  float64: [52, -1074],
  float32: [23, -149],
  float16: [10, -24],
  bfloat16: [7, -133],
}

/** Largest relative error of rounding to a type; that of float32 for types that are not floats. */
export const unitOf = (elem: ElementType): number => 2 ** -((FLOATS[elem] ?? FLOATS.float32!)[0] + 1)

/** Largest absolute error where numbers are so small that they lose bits: half the least number. */
export const leastOf = (elem: ElementType): number => 2 ** (FLOATS[elem] ?? FLOATS.float32!)[1]
