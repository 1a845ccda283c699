/**
 * Gates: ramps (ops/support/ramp.ts) of a value x that something is multiplied with, as in h-swish (x itself) and
 * squeeze-and-excitation (another value). With x = s (q - z) in integers q,
 *
 *   f(x) = min(max(k x + c, least), most) = k s (clip(q, z + x0/s, z + x1/s) - (z - c/(k s))),
 *   x0 = (least - c)/k,  x1 = (most - c)/k
 *
 * that is, the same integers, clipped, with another scale and zero point, where c/(k s) is whole and the zero point is one
 * of the integers'. No kernel computes anything. So the quantiser of x gets such a step: for h-sigmoid, 3/s whole and
 * z >= 3/s, and z = 3/s where nothing else reads x, as all below -3 gives 0.
 *
 * A constant factor behind the product (x clip(x + 3, 0, 6) / 6) belongs to the ramp.
 */
import type { Node, Value } from '../graph/graph.ts'
import { composed, type Ramp, rampAt } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'
import type { ActivationRange } from './activation-range.ts'
import type { CalibrationMethod, Histogram } from './histogram.ts'
import { clippingPoint, occupiedBins } from './histogram.ts'

export interface Gate {
  readonly ramp: Ramp
  /** From the reader of x on; none where one operator is the whole product. */
  readonly nodes: readonly Node[]
  /** Multiplies with the ramp's output. */
  readonly product: Node
  /** Its other operand is x. */
  readonly ownInput: boolean
}

const identity: Ramp = {
  slope: 1,
  offset: 0,
  least: Number.NEGATIVE_INFINITY,
  most: Number.POSITIVE_INFINITY,
}

/** The gates that a value opens. */
export const gatesOf = (x: Value): Gate[] => [...x.uses].flatMap((n) => gateFrom(n, x) ?? [])

function gateFrom(first: Node, x: Value): Gate | null {
  const own = findOp(first)?.gatedBy
  if (own) return { ramp: own, nodes: [], product: first, ownInput: true }
  const nodes: Node[] = []
  let ramp = identity
  let [node, v] = [first, x]
  for (;;) {
    const step = findOp(node)?.ramp?.(node)
    if (!step || node.inputs[step.input] !== v) return null
    nodes.push(node)
    ramp = composed(ramp, step)
    const [next, ...others] = node.output.uses
    if (!next || others.length > 0 || node.output.isOutput) return null
    v = node.output
    node = next
    if (!isProduct(node)) continue
    const isGate = Number.isFinite(ramp.least) && Number.isFinite(ramp.most) && ramp.offset / ramp.slope !== 0
    return isGate ? { ramp, nodes, product: node, ownInput: node.inputs.includes(x) } : null
  }
}

/** Whether a ramp gives the value, for what multiplies with it. */
export function isGate(v: Value): boolean {
  let x = v
  for (let n = v.producer; n; n = x.producer) {
    const ramp = findOp(n)?.ramp?.(n)
    if (!ramp) break
    x = n.input(ramp.input)
  }
  return x !== v && gatesOf(x).some((g) => g.nodes.at(-1)?.output === v)
}

/** Multiplies two computed values. */
export const isProduct = (n: Node): boolean =>
  findOp(n)?.channels?.(n) === 'product' && n.inputs.length === 2 && !findOp(n)?.ramp?.(n)

/** Where the ramp leaves its ends, and where its line is 0. */
export function cornersOf({ slope, offset, least, most }: Ramp): {
  readonly start: number
  readonly end: number
  readonly zero: number
} {
  return { start: (least - offset) / slope, end: (most - offset) / slope, zero: -offset / slope }
}

/** The clipped integers that stand for the ramp's output, and what they mean. */
export interface GateLevels {
  /** They are clipped to. */
  readonly lo: number
  readonly hi: number
  readonly scale: number
  readonly zeroPoint: number
}

/** How far from whole a number of steps may be: of at most 255 steps in float32. */
const WHOLE = 1e-3

/** null where the ramp is not exact in these integers, 0 .. `hi`. */
export function gateLevels(ramp: Ramp, { scale, zeroPoint }: ActivationRange, hi = 255): GateLevels | null {
  const { start, end, zero } = cornersOf(ramp)
  const at = (x: number): number => zeroPoint + Math.round(x / scale)
  const isExact = (x: number): boolean => Math.abs(x / scale - Math.round(x / scale)) < WHOLE
  const levels = { lo: Math.max(0, at(start)), hi: Math.min(hi, at(end)), zeroPoint: at(zero) }
  // what lies outside of the integers clips nothing
  const inside = (x: number): boolean => at(x) >= 0 && at(x) <= hi
  if (![start, end].every((x) => isExact(x) || !inside(x)) || !isExact(zero)) return null
  if (!inside(zero) || levels.lo > levels.hi) return null
  return { ...levels, scale: ramp.slope * scale }
}

interface Fitting {
  readonly bits: number
  readonly calibration: CalibrationMethod
  readonly percentile: number
}

/**
 * The quantiser of a value that opens gates, all with the same corners: of the steps in which the ramp is exact the one of
 * least squared error of what the gates give (for `mse`), or the finest that clips nothing (of what is not
 * clipped). null where the gates differ, or no step will do. `alone`: nothing else reads the value.
 */
export function gateRange(h: Histogram, gates: readonly Gate[], alone: boolean, o: Fitting): ActivationRange | null {
  const [{ ramp } = gates[0]!] = gates
  const { start, zero } = cornersOf(ramp)
  if (zero >= 0 || gates.some((g) => cornersOf(g.ramp).zero !== zero)) return null
  const most = 2 ** o.bits - 1
  const isOpen = alone && ramp.least === 0 && start === zero
  // another value's gate is shut or open beyond its ends
  const needed = alone && !gates[0]!.ownInput ? Math.min(h.max, cornersOf(ramp).end) : h.max
  const top = Math.min(needed, clippingPoint(h, -most, most, o.calibration, o.percentile))
  const bottom = Math.max(h.min, -clippingPoint(h, -most, most, o.calibration, o.percentile))
  const gives = alone ? (x: number): number => (gates[0]!.ownInput ? x : 1) * rampAt(ramp, x) : (x: number): number => x
  const error = o.calibration === 'mse' ? errorOf(h, gives) : null
  let best: ActivationRange | null = null
  let least = Number.POSITIVE_INFINITY
  for (let k = most; k > 0; k--) {
    const scale = Math.fround(-zero / k)
    const zeroPoint = isOpen ? k : Math.max(k, Math.round(-bottom / scale))
    if (zeroPoint > most || gates.some((g) => !gateLevels(g.ramp, { scale, zeroPoint }, most))) continue
    const range = { scale, zeroPoint }
    if (!error) {
      if ((most - zeroPoint) * scale >= top || k === 1) return range
      best = range
      continue
    }
    const e = error(range, most)
    if (e >= least) continue
    least = e
    best = range
  }
  return best
}

/** The squared error of what is computed of the rounded value, by quantiser. */
function errorOf(h: Histogram, gives: (x: number) => number): (r: ActivationRange, most: number) => number {
  const bins = occupiedBins(h).flatMap(({ centres, counts }) =>
    Array.from(centres, (x, i) => ({ x, count: counts[i]! })),
  )
  const wanted = bins.map(({ x }) => gives(x))
  return ({ scale, zeroPoint }, most) => {
    let sum = 0
    for (const [i, { count, x }] of bins.entries()) {
      const q = Math.min(Math.max(Math.round(x / scale), -zeroPoint), most - zeroPoint)
      sum += count * (wanted[i]! - gives(q * scale)) ** 2
    }
    return sum
  }
}
