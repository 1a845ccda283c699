/**
 * Nodes of a typed graph that compute in float16: which ones of those that may are worth it, and the Casts where a value
 * crosses. Training steps in mixed precision and files in float16 are made so.
 */
import type { Node, Value } from '../graph/graph.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { castType } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'

/** The largest finite number of float16, the least that it has all digits of, and the least above 0. */
export const HALF = { largest: 65504, leastNormal: 2 ** -14, least: 2 ** -24 } as const

/** Cast: it has the type as an attribute. */
export const isPlainCast = (n: Node): boolean => castType(n) !== undefined && n.inputs.length === 1

export const isSingle = (v: Value): boolean => (v.constant?.type ?? v.type?.elem) === 'float32'

/**
 * Layers first; then what has at least as many narrow neighbours as wide ones, until there are no more. `isLarge`: the value
 * is worth a Cast.
 */
export function nodesToNarrow(candidates: readonly Node[], isLarge: (v: Value) => boolean): ReadonlySet<Node> {
  const open = new Set(candidates)
  const chosen = new Set<Node>()
  const choose = (n: Node): void => {
    open.delete(n)
    chosen.add(n)
  }
  for (const n of candidates) if (findOp(n)!.weights) choose(n)
  for (let before = -1; before !== chosen.size; ) {
    before = chosen.size
    for (const n of open) {
      const [narrow, wide] = neighbours(n, { chosen, open, isLarge })
      if (narrow > 0 && narrow >= wide) choose(n)
    }
  }
  return chosen
}

interface Choosing {
  readonly chosen: ReadonlySet<Node>
  readonly open: ReadonlySet<Node>
  readonly isLarge: (v: Value) => boolean
}

/** How many of a node's large inputs and outputs come from or go to narrow nodes, and how many to nodes that stay wide. */
function neighbours(n: Node, { chosen, open, isLarge }: Choosing): readonly [number, number] {
  let [narrow, wide] = [0, 0]
  const count = (node: Node | null): void => {
    if (node && chosen.has(node)) narrow++
    else if (!node || !open.has(node)) wide++
  }
  for (const v of n.inputs) if (v && isSingle(v) && isLarge(v)) count(v.producer)
  for (const v of n.outputs) if (v && isSingle(v)) for (const user of v.uses) count(user)
  return [narrow, wide]
}

/** `storesHalf`: constants become float16 ones, not inputs of a Cast. Sorts the graph. */
export function narrowNodes(chosen: ReadonlySet<Node>, { storesHalf = false } = {}): void {
  const crossings = new Crossings(chosen, storesHalf)
  for (const n of chosen) {
    n.inputs.forEach((v, i) => {
      if (v && isSingle(v)) n.setInput(i, crossings.narrow(v, n))
    })
    if (isPlainCast(n)) n.setAttribute('to', elementTypes.float16.code)
  }
  for (const n of chosen) for (const v of n.outputs) if (v && isSingle(v)) crossings.widen(v)
  for (const n of chosen) {
    n.graph.sort()
    break
  }
}

/** Values in the other type, each made once. */
class Crossings {
  readonly #chosen: ReadonlySet<Node>
  readonly #storesHalf: boolean
  readonly #narrowed = new Map<Value, Value>()

  constructor(chosen: ReadonlySet<Node>, storesHalf: boolean) {
    this.#chosen = chosen
    this.#storesHalf = storesHalf
  }

  narrow(v: Value, reader: Node): Value {
    if (v.producer && this.#chosen.has(v.producer)) return v
    const made = this.#narrowed.get(v) ?? this.#make(v, reader)
    this.#narrowed.set(v, made)
    return made
  }

  #make(v: Value, reader: Node): Value {
    return this.#storesHalf && v.constant
      ? v.graph.addInitializer(`${v.name}.float16`, inHalf(v.constant))
      : cast(v, reader, 'float16')
  }

  /** Makes a chosen node's output narrow; other readers, and the graph's outputs, get it wide. */
  widen(v: Value): void {
    const own = [...v.uses].filter((n) => this.#chosen.has(n))
    const other = [...v.uses].find((n) => !this.#chosen.has(n)) ?? null
    const { dims } = v.type!
    if (other || v.isOutput) {
      const wide = cast(v, other, 'float32')
      v.graph.replaceUses(v, wide, wide.producer!)
      for (const n of own)
        n.inputs.forEach((x, i) => {
          if (x === wide) n.setInput(i, v)
        })
    }
    v.setType({ elem: 'float16', dims })
  }
}

const inHalf = (t: Tensor): Tensor => t.as('float16')

/** `before`: null for the end of the graph. */
function cast(v: Value, before: Node | null, elem: 'float16' | 'float32'): Value {
  const dims = v.constant?.dims ?? v.type?.dims ?? null
  const b = before ? v.graph.before(before) : v.graph.append()
  const name = v.graph.freshName(`${v.name}.${elem}`)
  return b.op('Cast', [v], { to: elementTypes[elem].code }, { name, type: { elem, dims } })
}
