/** Keys' cubic convolution kernel with coefficient a, of a tap at distance d: near, up to 1; far, up to 2. */
import type { Value } from '../../graph/graph.ts'
import type { Expression } from './rules.ts'

type Coefficients = readonly [number, ...number[]]

/** (a + 2) d^3 - (a + 3) d^2 + 1; a d^3 - 5a d^2 + 8a d - 4a */
const weightOf = (near: boolean, a: number): Coefficients =>
  near ? [a + 2, -(a + 3), 0, 1] : [a, -5 * a, 8 * a, -4 * a]

const slopeOf = (near: boolean, a: number): Coefficients =>
  near ? [3 * (a + 2), -2 * (a + 3), 0] : [3 * a, -10 * a, 8 * a]

/** A polynomial, highest power first. */
function horner(f: Expression, d: Value, [first, ...rest]: Coefficients): Value {
  return rest.reduce<Value | null>((v, k) => f('Add', v ? f('Mul', v, d) : f('Mul', d, first), k), null)!
}

export interface CubicTap {
  /** From the position rounded down: -1, 0, 1 or 2. */
  readonly offset: number
  readonly weight: Value
  /** Derivative of the weight by the position. */
  slope(): Value
}

/** The four taps of a position whose fraction is `t`. */
export function cubicTaps(f: Expression, t: Value, a: number): CubicTap[] {
  return [-1, 0, 1, 2].map((k) => {
    const near = k === 0 || k === 1
    const d = k <= 0 ? f('Sub', t, k) : f('Sub', k, t)
    const growth = (): Value => horner(f, d, slopeOf(near, a))
    return {
      ...{ offset: k, weight: horner(f, d, weightOf(near, a)) },
      slope: () => (k <= 0 ? growth() : f('Neg', growth())),
    }
  })
}
