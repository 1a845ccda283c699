/** Deep copies of graphs and models; tensors are values and shared. */
import { type Attribute, graphAttribute } from './attribute.ts'
import { Graph, type Node, type Value } from './graph.ts'
import { Model } from './model.ts'

export type ValueMap = Map<Value, Value>

/** Copies metadata and extras from a value to its copy. */
function copyValueFacts(from: Value, to: Value): void {
  to.setType(from.type)
  to.extra = from.extra
  for (const [k, v] of from.metadata) to.metadata.set(k, v)
}

function cloneAttribute(a: Attribute, parent: Graph, map: ValueMap): Attribute {
  if (a.kind === 'graph') return graphAttribute(cloneGraph(a.value, parent, map))
  if (a.kind === 'graphs') return { kind: 'graphs', value: a.value.map((g) => cloneGraph(g, parent, map)) }
  return a
}

/**
 * Copies `node` to the end of `graph`, reading inputs through `map` and adding its outputs to `map` under the name
 * that `rename` gives.
 */
export function cloneNode(node: Node, graph: Graph, map: ValueMap, rename = (name: string): string => name): Node {
  const attributes: Record<string, Attribute> = {}
  for (const [k, a] of node.attributes) attributes[k] = cloneAttribute(a, graph, map)
  const copy = graph.append().node({
    op: node.op,
    domain: node.domain,
    overload: node.overload,
    name: node.name && rename(node.name),
    inputs: node.inputs.map((v) => (v ? (map.get(v) ?? v) : null)),
    outputs: node.outputs.map((v) => (v ? rename(v.name) : '')),
    attributes,
    metadata: Object.fromEntries(node.metadata),
  })
  copy.extra = node.extra
  node.outputs.forEach((v, i) => {
    const c = copy.outputs[i]
    if (!v || !c) return
    copyValueFacts(v, c)
    map.set(v, c)
  })
  return copy
}

export function cloneGraph(graph: Graph, parent: Graph | null = null, map: ValueMap = new Map()): Graph {
  const out = new Graph(graph.name, parent)
  out.extra = graph.extra
  out.inheritNames(graph)
  for (const [k, v] of graph.metadata) out.metadata.set(k, v)
  const copyValue = (v: Value): Value => {
    const c = out.define(v.name)
    copyValueFacts(v, c)
    map.set(v, c)
    return c
  }
  for (const v of graph.inputs) {
    copyValue(v)
    out.addInput(v.name, v.type)
  }
  for (const v of graph.stored()) {
    const c = map.get(v) ?? copyValue(v)
    if (v.constant) c.setConstant(v.constant)
    if (v.default) c.setDefault(v.default)
    copyValueFacts(v, c)
  }
  for (const v of graph.values()) if (!v.producer && !map.has(v)) copyValue(v)
  for (const n of graph.nodes()) cloneNode(n, out, map)
  for (const v of graph.outputs) out.addOutput(map.get(v) ?? v)
  return out
}

/** A copy that shares the bytes of tensors, which are never changed in place. */
export function cloneModel(model: Model, map: ValueMap = new Map()): Model {
  const out = new Model(cloneGraph(model.graph, null, map))
  out.irVersion = model.irVersion
  out.opsets.clear()
  for (const [k, v] of model.opsets) out.opsets.set(k, v)
  for (const f of model.functions) out.functions.push({ ...f, graph: cloneGraph(f.graph) })
  for (const [k, v] of model.metadata) out.metadata.set(k, v)
  const { producerName, producerVersion, domain, modelVersion, docString, extra, folder } = model
  Object.assign(out, { producerName, producerVersion, domain, modelVersion, docString, extra, folder })
  return out
}
