/**
 * Checks the invariants of the IR, after each pass: one producer per value, unique names, topological order, use-def links
 * that agree both ways, outputs that exist, no value without a source. An initializer that nothing reads is legal (files
 * have them; `eliminate-dead` removes them). Shapes and operator semantics are onnxruntime's to check.
 */
import { bugError, type MncError } from '../base/errors.ts'
import type { Graph, Node, Value } from './graph.ts'
import type { Model } from './model.ts'

/** Links found by walking, to be compared with those that the values claim. */
interface Found {
  readonly uses: Map<Value, Set<Node>>
  readonly outputOf: Map<Value, Set<Graph>>
  readonly values: Value[]
}

/** Throws a bug error naming the first broken invariant of the IR. */
export function verifyModel(model: Model): void {
  for (const graph of [model.graph, ...model.functions.map((f) => f.graph)]) {
    if (graph.parent) throw broken(`graph '${graph.name}' is a top-level graph but has a parent`)
    const found: Found = { uses: new Map(), outputOf: new Map(), values: [] }
    verifyGraph(graph, new Set(), found)
    for (const v of found.values) {
      compare(v, v.uses, found.uses.get(v), 'read by', (n) => n.label)
      compare(v, v.outputOf, found.outputOf.get(v), 'an output of', (g) => `graph '${g.name}'`)
    }
  }
}

const broken = (what: string, node?: Node): MncError =>
  bugError(what, { code: 'broken-graph', ...(node && { node: node.id }) })

function collect<K, T>(map: Map<K, Set<T>>, key: K, item: T): void {
  const set = map.get(key)
  if (set) set.add(item)
  else map.set(key, new Set([item]))
}

/** `visible`: values that may be read at this point, of the graphs around first and then of this one. */
function verifyGraph(graph: Graph, visible: Set<Value>, found: Found): void {
  const own: Value[] = []
  for (const v of graph.inputs) {
    if (graph.find(v.name) !== v) throw broken(`input '${v.name}' is not a value of graph '${graph.name}'`)
    if (v.producer) throw broken(`input '${v.name}' is also produced by ${v.producer.label}`)
    if (visible.has(v)) throw broken(`input '${v.name}' is listed twice`)
    visible.add(v)
    own.push(v)
  }
  const initializers = new Set(graph.stored())
  for (const v of initializers) {
    if (graph.find(v.name) !== v) throw broken(`initializer '${v.name}' is not a value of graph '${graph.name}'`)
    if (!v.stored) throw broken(`initializer '${v.name}' has no tensor`)
    if (v.isInput === (v.constant !== null))
      throw broken(`'${v.name}' is a constant input, or a default value without an input`)
  }
  for (const v of graph.values()) {
    if (v.graph !== graph || graph.find(v.name) !== v)
      throw broken(`value '${v.name}' is registered under a name or graph other than its own`)
    if (v.stored && !initializers.has(v)) throw broken(`'${v.name}' has a tensor but is not an initializer`)
    if (v.stored && v.producer) throw broken(`initializer '${v.name}' is also produced by ${v.producer.label}`)
    if (!v.producer && !visible.has(v)) {
      if (!v.constant)
        throw broken(
          `value '${v.name}' has no source: no node produces it, and it is neither an input nor an initializer`,
        )
      visible.add(v)
      own.push(v)
    }
    found.values.push(v)
  }
  verifyNodes(graph, visible, own, found)
  for (const v of graph.values())
    if (!visible.has(v))
      throw broken(`value '${v.name}' names ${v.producer?.label} as its producer, which is not in the graph`)
  for (const v of graph.outputs) {
    if (!visible.has(v)) throw broken(`output '${v.name}' of graph '${graph.name}' is not produced by any of its nodes`)
    collect(found.outputOf, v, graph)
  }
  for (const v of own) visible.delete(v)
}

function verifyNodes(graph: Graph, visible: Set<Value>, own: Value[], found: Found): void {
  let before: Node | null = null
  let count = 0
  // Not graph.nodes(): that generator tolerates removals, this walk must see every link.
  for (let node: Node | null = firstNode(graph); node; node = node.next) {
    if (node.graph !== graph || !node.attached)
      throw broken(`${node.label} is linked into a graph it is not part of`, node)
    if (node.prev !== before) throw broken(`the node list is broken before ${node.label}`, node)
    if (++count > graph.nodeCount) throw broken(`the node list is longer than its count ${graph.nodeCount}`, node)
    for (const v of node.inputs) {
      if (!v) continue
      if (!visible.has(v)) throw broken(`${node.label} reads '${v.name}', ${whyInvisible(v, graph)}`, node)
      collect(found.uses, v, node)
    }
    for (const body of node.subgraphs) {
      if (body.parent !== graph) throw broken(`a body of ${node.label} has the wrong parent graph`, node)
      verifyGraph(body, visible, found)
    }
    for (const v of node.outputs) {
      if (!v) continue
      if (v.producer !== node)
        throw broken(`'${v.name}' is an output of ${node.label}, which is not its recorded producer`, node)
      if (visible.has(v)) throw broken(`${node.label} produces '${v.name}' twice`, node)
      if (graph.find(v.name) !== v) throw broken(`output '${v.name}' of ${node.label} is not in the graph`, node)
      visible.add(v)
      own.push(v)
    }
    before = node
  }
  if (count !== graph.nodeCount) throw broken(`graph '${graph.name}' records ${graph.nodeCount} nodes but has ${count}`)
  if (before !== graph.lastNode) throw broken(`the last node of graph '${graph.name}' is not at its end`)
}

function firstNode(graph: Graph): Node | null {
  for (const n of graph.nodes()) return n
  return null
}

function whyInvisible(v: Value, reader: Graph): string {
  if (v.graph.find(v.name) !== v) return 'which was removed'
  for (let g: Graph | null = reader; g; g = g.parent)
    if (g === v.graph) {
      if (!v.producer) return 'which the graph does not provide'
      return v.producer.outputs.includes(v)
        ? 'which is produced later'
        : 'which its producer does not list: the value is not in the graph'
    }
  return `a value of graph '${v.graph.name}', which does not enclose it`
}

function compare<T>(
  v: Value,
  claimed: ReadonlySet<T>,
  actual: ReadonlySet<T> = new Set(),
  what: string,
  name: (item: T) => string,
): void {
  for (const item of actual)
    if (!claimed.has(item)) throw broken(`'${v.name}' is ${what} ${name(item)}, but does not record it`)
  for (const item of claimed)
    if (!actual.has(item)) throw broken(`'${v.name}' records being ${what} ${name(item)}, but is not`)
}
