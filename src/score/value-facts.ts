/**
 * What is known about every computed value of a graph, node by node in its order: width, bounds, whether it is an integer, or
 * arithmetic on shapes.
 */
import { constantFormat, widthOf } from '../analysis/value-width.ts'
import type { Node, Value } from '../graph/graph.ts'
import { layerSlot, type OpDef } from '../ops/index.ts'
import type { Constants } from './constants.ts'
import { isShapeArithmetic } from './countable.ts'
import type { Facts } from './formats.ts'

const OPEN = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY }

export const isFloat = (v: Value): boolean => /float/.test(v.constant?.type ?? v.type?.elem ?? 'float32')

export class ValueFacts {
  readonly #constants: Constants
  readonly #floatBits: number
  readonly #facts = new Map<Value, Facts>()
  readonly #shapes = new Set<Value>()

  constructor(constants: Constants, floatBits: number) {
    this.#constants = constants
    this.#floatBits = floatBits
  }

  set(v: Value, facts: Facts): void {
    this.#facts.set(v, facts)
  }

  /** Notes arithmetic on shapes, which is free; false for anything else. */
  takeShape(node: Node): boolean {
    if (!isShapeArithmetic(node, this.#shapes, this.#constants)) return false
    for (const v of node.outputs) if (v) this.#shapes.add(v)
    return true
  }

  get float(): Facts {
    return { bits: this.#floatBits, integer: false, ...OPEN }
  }

  of(v: Value): Facts {
    const known = this.#facts.get(v)
    if (known) return known
    const type = v.constant?.type ?? v.type?.elem ?? 'float32'
    const integer = /^u?int(\d+)$/.exec(type)
    if (!integer) return this.float
    const bits = Number(integer[1])
    const signed = type.startsWith('int')
    return { bits, integer: true, lo: signed ? -(2 ** (bits - 1)) : 0, hi: 2 ** (signed ? bits - 1 : bits) - 1 }
  }

  /** Width of its input. */
  inputBits(node: Node): number {
    const computed = node.inputs.filter((v) => v && !this.#constants.has(v) && !this.#shapes.has(v))
    return Math.max(...computed.map((v) => this.of(v!).bits))
  }

  /** Ops that only choose among their inputs' elements keep their format; all others give floats. */
  pass(node: Node, def: OpDef): void {
    const cost = def.cost(node)
    const slot = layerSlot(node)
    const table = slot?.lookup ? node.input(slot.input) : null
    const computed = node.inputs.flatMap((v) =>
      v && !this.#constants.has(v) && !this.#shapes.has(v) ? [this.of(v)] : [],
    )
    const inputs = table ? [this.#tableFacts(table)] : computed
    const keeps = cost.macs + cost.mults + cost.adds === 0 && inputs.length > 0
    const limits = def.limits ? this.#limits(node, def.limits) : OPEN
    const nonNegative = def.nonNegative?.(node, (i) => this.#isNonNegative(node.inputs[i] ?? null)) ?? false
    let lo = keeps && cost.comparisons === 0 ? Math.min(...inputs.map((f) => f.lo)) : OPEN.lo
    let hi = keeps && cost.comparisons === 0 ? Math.max(...inputs.map((f) => f.hi)) : OPEN.hi
    if (limits !== OPEN) [lo, hi] = clampTo(inputs[0] ?? this.float, limits)
    if (nonNegative) lo = Math.max(lo, 0)
    const integer = keeps && inputs.every((f) => f.integer)
    const widest = Math.max(...inputs.map((f) => f.bits))
    // an integer that becomes a float by a Cast has the width of its range, as after a DequantizeLinear
    const cast = integer && widest >= 8 && node.outputs.some((v) => v && isFloat(v)) && Number.isFinite(hi - lo)
    const bits = cast ? Math.min(widest, widthOf(lo, hi)) : keeps ? widest : this.#floatBits
    const scale = keeps && inputs.length === 1 ? inputs[0]!.scale : undefined
    for (const v of node.outputs) if (v) this.#facts.set(v, { bits, integer, lo, hi, ...(scale && { scale }) })
  }

  #tableFacts(table: Value): Facts {
    if (!this.#constants.has(table)) return this.of(table)
    const { bits, integer } = constantFormat(table, this.#constants, { floatBits: this.#floatBits, axis: null })
    return { bits, integer, ...OPEN }
  }

  #limits(node: Node, { least, most }: NonNullable<OpDef['limits']>): { lo: number; hi: number } {
    const bound = (i: number | undefined, open: number): number => {
      const v = i === undefined ? null : node.inputs[i]
      return v && this.#constants.has(v)
        ? Array.from(this.#constants.tensor(v).toNumbers()).reduce((a, x) =>
            open < 0 ? Math.min(a, x) : Math.max(a, x),
          )
        : open
    }
    return { lo: bound(least, OPEN.lo), hi: bound(most, OPEN.hi) }
  }

  #isNonNegative(v: Value | null): boolean {
    if (!v) return true
    if (!this.#constants.has(v)) return this.of(v).lo >= 0
    return Array.from<number>(this.#constants.tensor(v).toNumbers()).every((x) => x >= 0)
  }
}

const clampTo = (x: Facts, { lo, hi }: { lo: number; hi: number }): [number, number] => [
  Math.min(Math.max(x.lo, lo), hi),
  Math.max(Math.min(x.hi, hi), lo),
]
