/**
 * Activation recomputation (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016), for a typed graph and an engine that
 * executes it in a known order: a value that is cheap to make and is read again only much later is not kept meanwhile but made
 * again, from what is kept anyway. The same operators read the same numbers, so the results have the same bits.
 *
 * Cheap are normalisations, activations, quantisers' arithmetic, sums, Concat, changes of layout: a few operations an element.
 * Layers are not, nor are the engine's own normalisations in batch mode, which write into buffers of their own.
 *
 * What is made again stands right behind what it repeats, so early in the graph that the engine executes it last of all that its
 * readers wait for (runtime/ort/execution-order.ts). The engine must not join nodes that compute the same.
 */
import { cloneNode, type ValueMap } from '../graph/clone.ts'
import type { Node, Value } from '../graph/graph.ts'
import { elementCount, isStatic, sizeInBytes } from '../graph/types.ts'
import { isInBatchMode } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'
import { DOMAIN as BLOCKED } from './blocked/layout.ts'
import { NORM, NORM_ADD, STEP_DOMAIN } from './native/operators.ts'

/** Smaller values are kept. */
const LEAST_BYTES = 2 ** 17
/** Nodes that are executed between two readers, at least. */
const LEAST_GAP = 24
/** What is written to make a value again, as a multiple of its bytes, at most. */
const MOST_WORK = 8
/** The part of what a value takes that others may come to be kept longer for it. */
const MOST_KEPT = 0.5
/** Operations an element of the result, at most. */
const MOST_OPERATIONS = 32

/** A value that need not be kept. */
export interface Recomputable {
  readonly value: Value
  readonly bytes: number
  /** What is written to make it again, as a multiple of `bytes`, where all such values before it are made again too. */
  readonly work: number
  /** Those that read it, or a view of it, after the gap. */
  readonly late: readonly Node[]
}

/** Whether the first output is the memory of the first input in another shape. */
export function isView(n: Node): boolean {
  const carries = n.domain === '' ? findOp(n)?.carries : undefined
  return (carries === 'shape' || carries === 'value') && n.inputs[0]?.producer != null
}

/** The least work first, of equal ones the largest. `order`: in which the nodes are executed. */
export function recomputable(order: readonly Node[]): Recomputable[] {
  const place = new Map(order.map((n, i) => [n, i]))
  const readers = readersOf(order)
  const found = new Map<Value, Recomputable>()
  for (const n of order) {
    const value = n.outputs[0]
    const bytes = value ? sizeInBytes(value.type) : null
    if (!value || value.isOutput || !bytes || bytes < LEAST_BYTES || isView(n) || !isCheap(n)) continue
    const late = afterGap(readers.get(value) ?? [], place)
    if (late.length === 0) continue
    const { nodes, leaves } = chainOf(value, (v) => found.has(v))
    const again = place.get(late[0]!)!
    const isDead = (v: Value): boolean => place.get(readers.get(v)?.at(-1) ?? n)! < again
    const kept = total([...leaves].filter(isDead))
    const work = total(nodes.map((m) => m.output)) / bytes
    if (work <= MOST_WORK && kept <= MOST_KEPT * bytes) found.set(value, { value, bytes, work, late })
  }
  return [...found.values()].sort((a, b) => a.work - b.work || b.bytes - a.bytes)
}

/** Has these made again for their late readers. Edits their graph. */
export function recompute(chosen: readonly Recomputable[]): void {
  const given = new Set(chosen.map((c) => c.value))
  const isGiven = (v: Value): boolean => given.has(v)
  for (const { value, late } of chosen) {
    const made: ValueMap = new Map()
    const at = value.producer!.next
    for (const n of chainOf(value, isGiven).nodes) repeat(n, at, made, isGiven)
    for (const reader of late)
      for (const [i, v] of reader.inputs.entries())
        if (v && rootOf(v) === value) {
          reader.setInput(i, viewOf(v, at, made))
          dropView(v)
        }
  }
}

/** Where nothing reads it any more: the engine would execute it in the end. */
function dropView(v: Value): void {
  const n = v.producer!
  if (v.isUsed || !isView(n)) return
  n.graph.remove(n)
  dropView(n.input(0))
}

/** What has the memory of which `v` is a view. */
function rootOf(v: Value): Value {
  return v.producer && isView(v.producer) ? rootOf(v.producer.input(0)) : v
}

const total = (values: readonly Value[]): number => values.reduce((sum, v) => sum + (sizeInBytes(v.type) ?? 0), 0)

/** The nodes that read a value or its views, in the order in which they are executed. */
function readersOf(order: readonly Node[]): ReadonlyMap<Value, Node[]> {
  const readers = new Map<Value, Node[]>()
  for (const n of order) {
    if (isView(n)) continue
    for (const root of new Set(n.inputs.flatMap((v) => (v?.producer ? [rootOf(v)] : [])))) {
      const list = readers.get(root)
      if (list) list.push(n)
      else readers.set(root, [n])
    }
  }
  return readers
}

/** Those behind the longest time without a reader; none where that is short. */
function afterGap(readers: readonly Node[], place: ReadonlyMap<Node, number>): readonly Node[] {
  const gaps = readers.slice(1).map((n, i) => place.get(n)! - place.get(readers[i]!)!)
  const longest = Math.max(0, ...gaps)
  return longest < LEAST_GAP ? [] : readers.slice(gaps.indexOf(longest) + 1)
}

function isCheap(n: Node): boolean {
  if (n.domain === STEP_DOMAIN) return n.op === NORM || n.op === NORM_ADD
  if (n.domain === BLOCKED) return n.inputs.length === 1 || scalesChannels(n)
  const def = findOp(n)
  if (!def || def.random || def.weights || n.subgraphs.length > 0 || isInBatchMode(n)) return false
  const dims = n.output.type?.dims ?? null
  if (!isStatic(dims)) return false
  const { macs, mults, adds, comparisons } = def.cost(n)
  return macs === 0 && mults + adds + comparisons <= MOST_OPERATIONS * elementCount(dims)
}

/** A convolution of each channel with one weight. */
function scalesChannels(n: Node): boolean {
  const channels = n.inputs[1]?.type?.dims?.[0]
  return n.int('group', 1) === channels && n.ints('kernel_shape', [0]).every((k) => k === 1)
}

/** What makes `value`, and the values of `isGiven` that it needs; and the others that these read, as what has their memory. */
function chainOf(value: Value, isGiven: (v: Value) => boolean): { nodes: readonly Node[]; leaves: ReadonlySet<Value> } {
  const nodes = new Set<Node>()
  const leaves = new Set<Value>()
  const visit = (n: Node): void => {
    for (const v of operandsOf(n, isGiven)) {
      const root = rootOf(v)
      if (root.producer && isGiven(root)) visit(root.producer)
      else if (root.producer) leaves.add(root)
    }
    nodes.add(n)
  }
  visit(value.producer!)
  return { nodes: [...nodes], leaves }
}

/** The inputs; where a node joins what others of its kind along the same axis have joined, the inputs of these. */
function operandsOf(n: Node, isGiven: (v: Value) => boolean): readonly Value[] {
  const axis = joinedAxis(n)
  return n.inputs.flatMap((v) => {
    if (!v) return []
    const inner = axis !== null && isGiven(v) ? v.producer : null
    return inner && joinedAxis(inner) === axis ? operandsOf(inner, isGiven) : [v]
  })
}

const joinedAxis = (n: Node): number | null => findOp(n)?.joinsAlong?.(n, n.output.type?.dims?.length ?? 0) ?? null

/** A copy of the node ahead of `at`, of the values that were `made` again. */
function repeat(n: Node, at: Node | null, made: ValueMap, isGiven: (v: Value) => boolean): void {
  const { graph } = n
  const inputs = joinedAxis(n) === null ? n.inputs : operandsOf(n, isGiven)
  const own = inputs.map((v) => v && (made.has(rootOf(v)) ? viewOf(v, at, made) : v))
  const copy = cloneNode(n, graph, made, (name) => graph.freshName(`${name}.again`))
  while (copy.inputs.length > own.length) copy.setInput(copy.inputs.length - 1, null)
  for (const [i, v] of own.entries()) copy.setInput(i, v)
  graph.move(copy, at)
}

/** What was made again, as `v` is a view of the first. */
function viewOf(v: Value, at: Node | null, made: ValueMap): Value {
  const known = made.get(v)
  if (known) return known
  const n = v.producer!
  viewOf(n.input(0), at, made)
  const copy = cloneNode(n, n.graph, made, (name) => n.graph.freshName(`${name}.again`))
  n.graph.move(copy, at)
  return made.get(v)!
}
