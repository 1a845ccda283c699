/**
 * Where quantisers have to stand so that a network runs in integers from layer to layer. An engine makes an integer kernel of
 * a node whose operands come from quantisers and whose result goes into one. So quantised are
 *
 *   results    of layers and of what has an integer kernel (OpDef.integerKernel): sums, products, pools, sigmoids, Concat;
 *              behind what the engine takes into the node, or moves quantisers across (ReLU, Clip, a normalisation, Reshape)
 *   operands   of sums, products, pools, sigmoids, Concat
 *   gates' x   with a step that makes the gate the same integers (gates.ts)
 *
 * Values that Concat joins, and those before and behind what only moves or picks elements, have one scale: the kernel is
 * then a copy. Not quantised: what only layers read (but for what is joined), whose inputs insert-fake-quant rounds; what no layer reads any more,
 * however far behind (a detector's boxes), but for the operands of sums and what is averaged over positions (a classifier's last convolution); products and pools of values
 * that no layer gave (normalisations written in single operators).
 */
import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { elementCount, isStatic } from '../graph/types.ts'
import { QUANT_GUARD, quantPairOf } from '../layers/quant-pair.ts'
import {
  constantOf,
  isAddition,
  isChannelNorm,
  isClip,
  isInBatchMode,
  isQuantize,
  isQuantizer,
  isRectifier,
} from '../ops/facts.ts'
import { channelSlot, findOp, weightSlots } from '../ops/index.ts'
import { type Gate, gatesOf, isGate, isProduct } from './gates.ts'
import { isCrossed } from './quant-guard.ts'

export interface IntegerPlan {
  /** Values to quantise, each with the nodes that are to read the rounded value. */
  readonly values: Map<Value, Set<Node>>
  readonly gates: ReadonlyMap<Value, readonly Gate[]>
  /** Values of one scale. */
  readonly groups: readonly (readonly Value[])[]
}

/** `typed`: the same graph with types. */
export function planIntegers(graph: Graph, typed: Graph): IntegerPlan {
  return new Planning(graph, typed).plan()
}

class Planning {
  readonly #graph: Graph
  readonly #typed: Graph
  readonly #values = new Map<Value, Set<Node>>()
  readonly #gates = new Map<Value, Gate[]>()
  /** What layers gave, and what was computed of it. */
  readonly #known = new Set<Value>()
  readonly #feeding: ReadonlySet<Value>
  readonly #links: [Value, Value][] = []

  constructor(graph: Graph, typed: Graph) {
    this.#graph = graph
    this.#typed = typed
    this.#feeding = feedingLayers(graph)
  }

  plan(): IntegerPlan {
    const nodes = [...this.#graph.nodes()]
    for (const node of nodes) this.#visit(node)
    for (const node of nodes) this.#link(node)
    return { values: this.#values, gates: this.#gates, groups: groupsOf(this.#links) }
  }

  #visit(node: Node): void {
    const operands = node.inputs.filter((v) => v !== null && !constantOf(v)) as Value[]
    const known = operands.length > 0 && operands.every((v) => this.#known.has(v))
    if (passesOn(node)) {
      if (known && node.outputs[0]) this.#known.add(node.outputs[0])
    } else if (isLayer(node)) {
      this.#known.add(node.output)
      this.#result(node)
    } else if (this.#isStep(node, known)) {
      this.#known.add(node.output)
      for (const v of operands) this.#operand(v, node)
      this.#result(node)
    }
    // lines of a gate
    else if (known && findOp(node)?.ramp?.(node)) this.#known.add(node.output)
  }

  /** Whether an integer kernel can compute the node, and is wanted. */
  #isStep(node: Node, known: boolean): boolean {
    const op = findOp(node)
    if (node.outputs.length !== 1 || !this.#isFloat(node.inputs[0])) return false
    if (isAddition(node)) return node.inputs.every((v) => v?.producer && !constantOf(v) && this.#isFloat(v))
    if (!known || !this.#feeding.has(node.output)) return false
    if (op?.gatedBy || isFreeNorm(node)) return true
    if (op?.integerKernel === undefined) return false
    return node.inputs.length === 1 || op.integerKernel === 'one' || isProduct(node)
  }

  #isFloat(v: Value | null | undefined): boolean {
    const type = v && this.#typed.find(v.name)?.type
    return type?.elem === 'float32' && type.dims !== null
  }

  #operand(v: Value, node: Node): void {
    if (!isGate(v)) this.#add(v, [node])
  }

  #result(node: Node): void {
    const result = resultOf(node)
    if (result.isOutput || !this.#isFloat(result)) return
    if (!this.#feeding.has(result) && !this.#isAveraged(result)) return
    const gates = gatesOf(result)
    if (gates.length > 0) {
      this.#gates.set(result, gates)
      this.#add(result, result.uses)
    } else if (joins(node) || ![...result.uses].every((n) => readsRounded(n, result))) this.#add(result, result.uses)
  }

  /** Whether all that reads it is the mean of many positions, in which rounding errors cancel out. */
  #isAveraged(v: Value): boolean {
    return v.uses.size > 0 && [...v.uses].every((n) => findOp(n)?.keepsMean?.(n) && this.#positionsOver(n) >= MANY)
  }

  /** How many positions each of the result is made of. */
  #positionsOver(n: Node): number {
    const count = (v: Value): number => {
      const dims = this.#typed.find(v.name)?.type?.dims?.slice(2)
      return dims && isStatic(dims) ? elementCount(dims) : 0
    }
    return count(n.input(0)) / count(n.output)
  }

  #add(v: Value, readers: Iterable<Node>): void {
    if (!v.producer || quantPairOf(v.producer)) return
    this.#values.set(v, new Set([...(this.#values.get(v) ?? []), ...readers]))
  }

  #link(node: Node): void {
    const y = node.outputs[0]
    if (!y || !this.#values.has(y)) return
    if (!joins(node) && !isCrossed(node)) return
    for (const v of joins(node) ? node.inputs : [node.inputs[0]])
      if (v && this.#values.has(v) && !this.#gates.has(v)) this.#links.push([v, y])
  }
}

/** Positions whose mean has a quarter of their rounding error. */
const MANY = 16

/** A product with weights that has an integer kernel. */
const isLayer = (node: Node): boolean => channelSlot(node) !== undefined && channelSlot(node)?.transposed !== true

/** Its operands and its result have one scale. */
const joins = (node: Node): boolean => findOp(node)?.integerKernel === 'one'

/** A normalisation that no layer takes in. */
const isFreeNorm = (node: Node): boolean => isChannelNorm(node) && !isInBatchMode(node) && !isMergedNorm(node)

const isMergedNorm = (node: Node): boolean => {
  const x = isChannelNorm(node) ? node.input(0) : null
  return x?.producer != null && isLayer(x.producer) && x.uses.size === 1 && !x.isOutput
}

/** What the engine takes into the node before it, moves quantisers across, or has been quantised already. */
const passesOn = (node: Node): boolean =>
  isRectifier(node) ||
  isClip(node) ||
  isCrossed(node) ||
  isMergedNorm(node) ||
  isQuantizer(node) ||
  marks.role.get(node) === QUANT_GUARD

/** The value that is to be rounded for a node: behind what goes into its kernel. */
function resultOf(node: Node): Value {
  let v = node.output
  for (;;) {
    const [next, ...others] = v.uses
    if (!next || others.length > 0 || v.isOutput || next.outputs.length !== 1 || next.inputs[0] !== v) return v
    const isFactor = findOp(next)?.ramp?.(next)?.offset === 0 && !isClip(next) && isProduct(node)
    if (!isRectifier(next) && !isClip(next) && !isCrossed(next) && !isMergedNorm(next) && !isFactor) return v
    v = next.output
  }
}

/** Whether the node rounds the value for a layer, or is a layer before whose input that will be done. */
function readsRounded(n: Node, v: Value): boolean {
  if (isQuantize(n) || marks.role.get(n) === QUANT_GUARD) return true
  return weightSlots(n).some((s) => s.data !== undefined && n.inputs[s.data] === v)
}

/** Values that a layer reads, or something that leads to one. */
function feedingLayers(graph: Graph): ReadonlySet<Value> {
  const found = new Set<Value>()
  for (const node of [...graph.nodes()].reverse()) {
    const leads = node.outputs.some((v) => v && found.has(v))
    node.inputs.forEach((v, i) => {
      if (v && (leads || weightSlots(node).some((s) => s.data === i))) found.add(v)
    })
  }
  return found
}

/** What hangs together. */
function groupsOf(links: readonly (readonly [Value, Value])[]): Value[][] {
  const group = new Map<Value, Set<Value>>()
  for (const [a, b] of links) {
    const all = new Set([...(group.get(a) ?? [a]), ...(group.get(b) ?? [b])])
    for (const v of all) group.set(v, all)
  }
  return [...new Set(group.values())].map((g) => [...g])
}
