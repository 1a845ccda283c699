/**
 * Mixed precision: the part of a training step that float16 is enough for, rewritten to compute in it. Weights, running
 * statistics, the optimiser, losses, sums over many elements (normalisations, weight gradients) and rounding to quantiser
 * levels stay in float32. Layers become narrow and, where they are between layers, operators that move numbers or add few
 * of them (OpDef.half): a Cast is put where a value crosses.
 *
 * Small gradients would become zero in float16. So the step multiplies the loss by `loss_scale`, an input, divides the
 * gradient by it, and the host looks for the largest scale that overflows nothing (loss-scale.ts).
 *
 * Done to the finished step: gradient rules know float32 only. Micikevicius et al., Mixed Precision Training, 2018.
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { isKeptWide } from '../../graph/hints.ts'
import type { Model } from '../../graph/model.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { elementCount, elementTypes, isStatic } from '../../graph/types.ts'
import { findOp } from '../../ops/index.ts'

/** Values below this many elements are not worth a Cast, except a layer's. */
const SMALL = 1024

/** Rewrites a typed step in place; returns how many nodes now compute in float16. */
export function narrowStep({ graph }: Model): number {
  for (const n of [...graph.nodes()]) plainStepFunction(n)
  const chosen = nodesToNarrow(graph)
  const crossings = new Crossings(chosen)
  for (const n of chosen) {
    n.inputs.forEach((v, i) => {
      if (v && isFloat(v)) n.setInput(i, crossings.narrow(v, n))
    })
    if (isCast(n)) n.setAttribute('to', elementTypes.float16.code)
  }
  for (const n of chosen) for (const v of n.outputs) if (v && isFloat(v)) crossings.widen(v)
  graph.sort()
  return chosen.size
}

const isCast = (n: Node): boolean => n.is('Cast')

const isFloat = (v: Value): boolean => (v.constant?.type ?? v.type?.elem) === 'float32'

const isLarge = (v: Value): boolean => {
  const dims = v.type?.dims ?? null
  return !v.constant && isStatic(dims) && elementCount(dims) >= SMALL
}

/**
 * The gradient of ReLU is a HardSigmoid of a slope that float16 does not hold (piecewise-activations.ts): a comparison
 * and a Cast, which do the same, may be narrow.
 */
function plainStepFunction(n: Node): void {
  if (!n.is('HardSigmoid') || n.float('alpha', 0.2) <= LARGEST || !isLarge(n.output)) return
  const b = n.graph.before(n)
  const { type } = n.output
  const positive = b.op('Greater', [n.input(0), b.scalar(0)], {}, { type: type && { ...type, elem: 'bool' } })
  n.graph.replaceUses(n.output, b.op('Cast', [positive], { to: elementTypes.float32.code }, { type }))
  n.graph.remove(n)
}

/** Layers first; then what has at least as many narrow neighbours as wide ones, until there are no more. */
function nodesToNarrow(graph: Graph): ReadonlySet<Node> {
  const candidates = [...graph.nodes()].filter(mayBeNarrow)
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
      const [narrow, wide] = neighbours(n, chosen, open)
      if (narrow > 0 && narrow >= wide) choose(n)
    }
  }
  return chosen
}

function mayBeNarrow(n: Node): boolean {
  if (n.domain !== '' || isKeptWide(n) || n.outputs.some((v) => !v || v.isOutput || !v.type)) return false
  if (n.inputs.some((v) => v?.constant && isFloat(v) && !fits(v.constant))) return false
  for (const v of n.outputs) for (const user of v!.uses) if (user.subgraphs.length > 0) return false
  if (isCast(n)) return n.input(0).type?.elem === 'bool' && isFloat(n.output) && isLarge(n.output)
  const def = findOp(n)
  if (!def?.half || !n.inputs.some((v) => v && isFloat(v))) return false
  if (def.weights) return true
  // the vector of all weights has wide readers, too
  return n.outputs.some((v) => isLarge(v!)) && !n.inputs.some((v) => v?.isInput)
}

const LARGEST = 65504
const SMALLEST = 2 ** -24

/** Whether float16 holds the numbers: none overflows, and a single one does not become zero. */
function fits(t: Tensor): boolean {
  const values = t.view('float32')
  if (values.length === 1 && values[0] !== 0 && Math.abs(values[0]!) < SMALLEST) return false
  return values.every((x) => Math.abs(x) <= LARGEST)
}

/** How many of a node's large inputs and outputs come from or go to narrow nodes, and how many to nodes that stay wide. */
function neighbours(n: Node, chosen: ReadonlySet<Node>, open: ReadonlySet<Node>): readonly [number, number] {
  let [narrow, wide] = [0, 0]
  const count = (node: Node | null): void => {
    if (node && chosen.has(node)) narrow++
    else if (!node || !open.has(node)) wide++
  }
  for (const v of n.inputs) if (v && isFloat(v) && isLarge(v)) count(v.producer)
  for (const v of n.outputs) if (v && isFloat(v)) for (const user of v.uses) count(user)
  return [narrow, wide]
}

/** Values in the other type, each made once. */
class Crossings {
  readonly #chosen: ReadonlySet<Node>
  readonly #narrowed = new Map<Value, Value>()

  constructor(chosen: ReadonlySet<Node>) {
    this.#chosen = chosen
  }

  narrow(v: Value, reader: Node): Value {
    if (v.producer && this.#chosen.has(v.producer)) return v
    const made = this.#narrowed.get(v) ?? cast(v, reader, 'float16')
    this.#narrowed.set(v, made)
    return made
  }

  /** Makes a chosen node's output narrow; other readers get it wide. */
  widen(v: Value): void {
    const others = [...v.uses].filter((n) => !this.#chosen.has(n))
    if (others.length > 0) {
      const wide = cast(v, others[0]!, 'float32')
      for (const n of others)
        n.inputs.forEach((x, i) => {
          if (x === v) n.setInput(i, wide)
        })
    }
    v.setType({ elem: 'float16', dims: v.type!.dims })
  }
}

function cast(v: Value, before: Node, elem: 'float16' | 'float32'): Value {
  const dims = v.constant?.dims ?? v.type?.dims ?? null
  const to = elementTypes[elem].code
  return v.graph.before(before).op('Cast', [v], { to }, { name: `${v.name}.${elem}`, type: { elem, dims } })
}
