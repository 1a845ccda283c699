/**
 * What a graph tells the engine that runs it: metadata that say what nodes are for, where the engine may
 * know a better way. Engines that ignore them compute the same numbers.
 */

import type { Builder } from './builder.ts'
import type { Graph, Node, Value } from './graph.ts'
import { marks } from './marks.ts'

/** Puts a Reshape after `v`, whose shape is known only by running the model; all readers and outputs take its result. */
export function pinShape(v: Value, dims: readonly number[]): void {
  const { graph } = v
  const type = { elem: v.type!.elem, dims }
  const b = graph.append()
  const pinned = b.op('Reshape', [v, b.ints(dims)], {}, { name: `${v.name}.pinned`, type })
  marks.pinnedShape.put(pinned.producer!)
  for (const n of [...v.uses])
    if (n !== pinned.producer) n.inputs.forEach((x, i) => void (x === v && n.setInput(i, pinned)))
  const outputs = [...graph.outputs]
  if (outputs.includes(v)) {
    for (const o of outputs) graph.removeOutput(o)
    for (const o of outputs) graph.addOutput(o === v ? pinned : o)
  }
  v.setType(type)
}

/** Whether the input of `n` has the shape of its output. */
export const isPin = (n: Node): boolean => marks.pinnedShape.is(n)

/** What a node of a step is for: the kind of work, and the layer that it is done for. */
export interface Origin {
  readonly kind: string
  readonly layer: string
}

const [BETWEEN, BEHIND] = [' of ', ' | ']

export const setOrigin = (n: Node, { kind, layer }: Origin): void => marks.origin.set(n, `${kind}${BETWEEN}${layer}`)

export const originOf = (n: Node): Origin | null => originIn(marks.origin.text(n) ?? '')

/** For a node that is made in the place of another. */
export function withOriginOf(n: Node): { readonly metadata: Readonly<Record<string, string>> } {
  const text = marks.origin.text(n)
  return { metadata: text === undefined ? {} : marks.origin.entry(text) }
}

/** `made` is for what `from` was, unless it is said. */
export function takeOrigin(made: Node | null, from: Node): void {
  const text = marks.origin.text(from)
  if (made && text !== undefined && !marks.origin.has(made)) marks.origin.set(made, text)
}

/** Nodes without an origin, which came in another's place, are for what reads them, else for what they read. */
export function spreadOrigins(graph: Graph): void {
  const take = (n: Node, near: readonly (Node | null | undefined)[]): void => {
    const origin = near.map((m) => marks.origin.text(m)).find((o) => o !== undefined)
    if (origin !== undefined && !marks.origin.has(n)) marks.origin.set(n, origin)
  }
  for (const n of graph.nodesReversed())
    take(
      n,
      n.outputs.flatMap((v) => [...(v?.uses ?? [])]),
    )
  for (const n of graph.nodes())
    take(
      n,
      n.inputs.map((v) => v?.producer),
    )
}

/**
 * The names of nodes begin with their origins, so that the engine's profile says them, also of what it fuses. Without
 * quotes, backslashes and control characters, which onnxruntime 1.30 writes into its profile as they are, and no JSON has.
 */
export function nameByOrigin(graph: Graph): void {
  spreadOrigins(graph)
  for (const n of graph.nodes()) {
    const origin = marks.origin.text(n)
    const name = origin === undefined ? n.name : `${origin}${BEHIND}${n.name}`
    n.rename(name.replace(/["\\\p{Cc}]/gu, '_'))
  }
}

/** The origin that a name begins with. */
export function originIn(name: string): Origin | null {
  const text = name.split(BEHIND, 1)[0]!
  const at = text.indexOf(BETWEEN)
  return at < 0 ? null : { kind: text.slice(0, at), layer: text.slice(at + BETWEEN.length) }
}

/**
 * The mean of `v` over all processes that train together. The engine stops there for them to exchange it (segments.ts); one
 * that does not know of them gives what this process has.
 */
export const meanOverRanks = (b: Builder, v: Value): Value =>
  b.op('Identity', [v], {}, { type: v.type, metadata: marks.overRanks.entry(true) })

export const isOverRanks = (n: Node): boolean => marks.overRanks.is(n)

/** Marks the value's producer as summing so many terms that float16 would lose the sum. Returns the value. */
export function keepWide(v: Value): Value {
  if (v.producer) marks.wide.put(v.producer)
  return v
}

export const isKeptWide = (n: Node): boolean => marks.wide.is(n)

/** A convolution of one group, or of each channel: sizes as [rows, columns], pads before the first row and column. */
export interface WeightGradient {
  readonly group: number
  readonly stride: readonly number[]
  readonly kernel: readonly number[]
  readonly dilation: readonly number[]
  readonly begin: readonly number[]
}

/** Says that `result`, [Cout, Cin / group, kernel], is the weight gradient of a convolution of `x` whose output has `dy`. */
export function markWeightGradient(result: Value, x: Value, dy: Value, c: WeightGradient): void {
  const { group, stride, kernel, dilation, begin } = c
  const mark = { x: x.name, dy: dy.name, group, stride, kernel, dilation, begin }
  if (result.producer) marks.weightGradient.set(result.producer, mark)
}

/** What `markWeightGradient` said of the node, where its operands are still the same. */
export function weightGradientOf(node: Node): (WeightGradient & { readonly x: Value; readonly dy: Value }) | null {
  const mark = marks.weightGradient.get(node)
  if (typeof mark !== 'object' || mark === null) return null
  const { x, dy, ...c } = mark as WeightGradient & { readonly x: string; readonly dy: string }
  const found = ancestors(node, new Set([x, dy]))
  return found.has(x) && found.has(dy) ? { ...c, x: found.get(x)!, dy: found.get(dy)! } : null
}

/** What a weight gradient does to its operands: with anything else on the way they are not what was marked. */
const moves = new Set(['Concat', 'MatMul', 'Mul', 'Pad', 'ReduceSum', 'Reshape', 'Slice', 'Transpose'])
/** The longest such way. */
const REACH = 16

/** The nearest values with these names that the node is computed from. */
function ancestors(node: Node, names: ReadonlySet<string>): Map<string, Value> {
  const found = new Map<string, Value>()
  const seen = new Set<Node>()
  let front: Node[] = [node]
  for (let i = 0; i < REACH && found.size < names.size && front.length > 0; i++) {
    const next: Node[] = []
    for (const v of front.flatMap((n) => n.inputs)) {
      if (!v) continue
      if (names.has(v.name)) found.set(v.name, found.get(v.name) ?? v)
      else if (v.producer && moves.has(v.producer.op) && !seen.has(v.producer)) {
        seen.add(v.producer)
        next.push(v.producer)
      }
    }
    front = next
  }
  return found
}

/** What differentiation made for a node: the gradient of each output that has one, and of each input. */
export interface NodeGradients {
  readonly outputs: readonly (Value | null)[]
  readonly inputs: readonly (Value | null)[]
}

export interface Gradients {
  of(node: Node): NodeGradients | null
}

interface GradientMark {
  readonly of: string
  readonly input: number
  readonly dy: readonly (string | null)[]
}

/** Says that `inputs` are the gradients of the node's inputs where its outputs have the gradients `outputs`. */
export function markGradients(node: Node, { outputs, inputs }: NodeGradients): void {
  const of = node.outputs[0]?.name
  inputs.forEach((g, input) => {
    // what a rule hands on as it came is another node's
    if (of === undefined || !g?.producer || outputs.includes(g) || marks.gradientOf.has(g.producer)) return
    marks.gradientOf.set(g.producer, { of, input, dy: outputs.map((v) => v?.name ?? null) })
  })
}

/** What `markGradients` said, of the values that are still there. */
export function gradientsIn(graph: Graph): Gradients {
  const found = new Map<string, { outputs: readonly (Value | null)[]; inputs: (Value | null)[] }>()
  for (const n of graph.nodes()) {
    const mark = marks.gradientOf.get(n) as GradientMark | undefined
    if (!mark || !n.outputs[0]) continue
    const named = (name: string | null): Value | null => (name === null ? null : (graph.find(name) ?? null))
    const own = found.get(mark.of) ?? { outputs: mark.dy.map(named), inputs: [] }
    own.inputs[mark.input] = n.outputs[0]
    found.set(mark.of, own)
  }
  return { of: (node) => found.get(node.outputs[0]?.name ?? '') ?? null }
}
