/**
 * The split of a budget among layers: of each layer's choices (widths, sparsities) exactly one is taken, so that
 *
 *   sum damage  is least  while  sum cost <= budget
 *
 * This is the multiple-choice knapsack problem, solved exactly by dynamic programming over the states (cost, damage) that no
 * other state beats in both (Nemhauser and Ullmann's lists; Kellerer, Pferschy and Pisinger, Knapsack Problems, 11.5),
 * with the bound of the linear relaxation: a state whose best completion, layers taken in parts, is no better than a solution
 * that is known is dropped. `bound` is what no solution can be below; it equals the solution's damage, up to rounding, unless a
 * list grew past MOST_STATES, when the worst states were dropped and the gap between the two says what that may have
 * cost. Costs are whole numbers (bytes, MACs) or not; damages are not negative.
 */
import { bugError } from '../base/errors.ts'

export interface Choice {
  readonly cost: number
  readonly damage: number
}

export interface Split {
  /** Index into each layer's choices. */
  readonly chosen: readonly number[]
  readonly cost: number
  readonly damage: number
  /** No split that fits has less damage. */
  readonly bound: number
  readonly isExact: boolean
}

const MOST_STATES = 200_000

interface State {
  readonly cost: number
  readonly damage: number
  readonly choice: number
  readonly before: State | null
}

/** null where even the cheapest choices exceed the budget. */
export function splitBudget(layers: readonly (readonly Choice[])[], budget: number): Split | null {
  if (layers.some((l) => l.length === 0)) throw bugError('a layer without choices')
  const cheapest = layers.reduce((sum, l) => sum + Math.min(...l.map((c) => c.cost)), 0)
  if (cheapest > budget) return null
  // the layers behind each place, as the relaxation takes them
  const hulls = layers.map(hullOf)
  const relaxed = layers.map((_, i) => new Relaxation(hulls.slice(i)))
  const whole = new Relaxation(hulls)
  const bound = whole.bound(budget)
  let known = whole.rounded(budget)
  let states: State[] = [{ cost: 0, damage: 0, choice: -1, before: null }]
  let isExact = true
  for (const [i, choices] of layers.entries()) {
    const rest = relaxed[i + 1]
    const least = rest?.cheapest ?? 0
    const grown: State[] = []
    for (const before of states)
      for (const [choice, c] of choices.entries()) {
        const cost = before.cost + c.cost
        if (cost + least > budget) continue
        const damage = before.damage + c.damage
        const left = budget - cost
        if (damage + (rest?.bound(left) ?? 0) > known + tolerance(known)) continue
        known = Math.min(known, damage + (rest?.rounded(left) ?? 0))
        grown.push({ cost, damage, choice, before })
      }
    states = undominated(grown)
    if (states.length > MOST_STATES) {
      isExact = false
      states = states
        .map((s) => ({ s, at: s.damage + (rest?.bound(budget - s.cost) ?? 0) }))
        .sort((a, b) => a.at - b.at)
        .slice(0, MOST_STATES)
        .map(({ s }) => s)
    }
  }
  const best = states.reduce((a, b) => (b.damage < a.damage || (b.damage === a.damage && b.cost < a.cost) ? b : a))
  const chosen: number[] = []
  for (let s: State | null = best; s?.before; s = s.before) chosen.unshift(s.choice)
  return { chosen, cost: best.cost, damage: best.damage, bound: isExact ? best.damage : bound, isExact }
}

/** Sums in another order differ by their rounding. */
const tolerance = (x: number): number => 1e-12 * Math.max(1, Math.abs(x))

/** From cheap to dear, each less harmful than the one before. */
function undominated(states: State[]): State[] {
  states.sort((a, b) => a.cost - b.cost || a.damage - b.damage)
  const kept: State[] = []
  for (const s of states) if (kept.length === 0 || s.damage < kept.at(-1)!.damage) kept.push(s)
  return kept
}

/** The choices on the lower convex hull of (cost, damage), from the cheapest on. */
function hullOf(choices: readonly Choice[]): readonly Choice[] {
  const sorted = [...choices].sort((a, b) => a.cost - b.cost || a.damage - b.damage)
  const hull: Choice[] = []
  for (const c of sorted) {
    if (hull.length > 0 && c.damage >= hull.at(-1)!.damage) continue
    while (hull.length > 1 && slope(hull.at(-2)!, hull.at(-1)!) <= slope(hull.at(-1)!, c)) hull.pop()
    if (hull.length === 1 && hull[0]!.cost === c.cost) hull.pop()
    hull.push(c)
  }
  return hull
}

/** Damage saved for a unit of cost. */
const slope = (a: Choice, b: Choice): number => (a.damage - b.damage) / (b.cost - a.cost)

/** Layers whose steps along their hulls may be taken in parts: the steepest first. */
class Relaxation {
  readonly cheapest: number
  readonly #start: number
  readonly #steps: readonly { readonly cost: number; readonly saved: number }[]
  /** Sums of the steps before each. */
  readonly #costs: readonly number[]
  readonly #saved: readonly number[]

  constructor(hulls: readonly (readonly Choice[])[]) {
    this.cheapest = hulls.reduce((sum, h) => sum + h[0]!.cost, 0)
    this.#start = hulls.reduce((sum, h) => sum + h[0]!.damage, 0)
    this.#steps = hulls
      .flatMap((h) => h.slice(1).map((c, i) => ({ cost: c.cost - h[i]!.cost, saved: h[i]!.damage - c.damage })))
      .sort((a, b) => b.saved / b.cost - a.saved / a.cost)
    const [costs, saved] = [[0], [0]]
    for (const s of this.#steps) {
      costs.push(costs.at(-1)! + s.cost)
      saved.push(saved.at(-1)! + s.saved)
    }
    this.#costs = costs
    this.#saved = saved
  }

  /** Least damage, the last step taken in part. */
  bound(budget: number): number {
    const k = this.#fitting(budget)
    const step = this.#steps[k]
    const part = step ? ((budget - this.cheapest - this.#costs[k]!) / step.cost) * step.saved : 0
    return this.#start - this.#saved[k]! - part
  }

  /** Damage of a split that fits: whole steps alone. On a hull they come in their order, so each layer is at one choice. */
  rounded(budget: number): number {
    return this.#start - this.#saved[this.#fitting(budget)]!
  }

  /** Whole steps that fit, in their order. */
  #fitting(budget: number): number {
    let [low, high] = [0, this.#steps.length]
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if (this.cheapest + this.#costs[middle]! <= budget) low = middle
      else high = middle - 1
    }
    return low
  }
}
