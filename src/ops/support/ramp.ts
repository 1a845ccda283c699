/**
 * Ramps: f(x) = min(max(k x + c, least), most) with k > 0. What h-sigmoids are, in one operator or in several (Add, Clip,
 * Mul, Div): each of those is a ramp, and a ramp of a ramp is one.
 */
import type { Node } from '../../graph/graph.ts'
import { constantOf } from './constant-of.ts'

export interface Ramp {
  /** k. */
  readonly slope: number
  /** c. */
  readonly offset: number
  readonly least: number
  readonly most: number
}

/** A node that is a ramp of one of its inputs. */
export interface RampOf extends Ramp {
  /** Index of that input. */
  readonly input: number
}

export const open = { least: Number.NEGATIVE_INFINITY, most: Number.POSITIVE_INFINITY } as const

export const rampAt = ({ slope, offset, least, most }: Ramp, x: number): number =>
  Math.min(Math.max(slope * x + offset, least), most)

/** x -> outer(inner(x)) */
export function composed(inner: Ramp, outer: Ramp): Ramp {
  return {
    slope: outer.slope * inner.slope,
    offset: outer.slope * inner.offset + outer.offset,
    least: rampAt(outer, inner.least),
    most: rampAt(outer, inner.most),
  }
}

/** Of operators with two inputs, one of them a number. `make`: of the number, and whether it comes first; null: no ramp. */
export function withNumber(
  node: Node,
  make: (c: number, first: boolean) => { readonly slope: number; readonly offset: number } | null,
): RampOf | null {
  for (const [input, other] of [
    [0, 1],
    [1, 0],
  ] as const) {
    const number = constantOf(node.inputs[other])
    // one of many dims would give the value dims
    const line = number?.size === 1 && number.dims.length < 2 ? make(number.item(), other === 0) : null
    if (line && line.slope > 0) return { input, ...line, ...open }
  }
  return null
}
