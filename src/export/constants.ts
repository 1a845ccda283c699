/**
 * The constant part of a graph: values that depend on initializers alone, and their contents, computed by onnxruntime
 * with optimisation off so that they are what the file says and not what an optimiser makes of it.
 *
 * Does not look into bodies of If, Loop and Scan, and treats random operators as not constant.
 */
import { cloneNode, type ValueMap } from '../graph/clone.ts'
import { Graph, type Node, type Value } from '../graph/graph.ts'
import { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'
import { ortExecutor } from '../runtime/ort.ts'

/**
 * Initializers, and what is computed from them alone. Those that a caller can override (graph inputs with a default) are
 * constants only where `overridable` says so.
 */
export function constantValues(graph: Graph, { overridable = false } = {}): ReadonlySet<Value> {
  const constant = new Set<Value>()
  for (const v of graph.initializers()) if (overridable || !v.isInput) constant.add(v)
  for (const n of graph.nodes()) {
    if (findOp(n)?.random || n.subgraphs.length > 0) continue
    if (n.inputs.every((v) => v === null || constant.has(v))) for (const v of n.outputs) if (v) constant.add(v)
  }
  return constant
}

/**
 * Contents of constant values; float32, float16, 8 to 64 bit integers and bool (sub-byte types cannot cross), or with
 * `asFloat` anything, what is computed as float32.
 */
export async function evaluateConstants(
  model: Model,
  values: readonly Value[],
  { asFloat = false } = {},
): Promise<Map<Value, Tensor>> {
  const known = new Map<Value, Tensor>()
  const computed = values.filter((v) => !v.constant)
  for (const v of values) if (v.constant) known.set(v, v.constant)
  if (computed.length === 0) return known
  const part = new Model(new Graph('constants'))
  part.opsets.clear()
  for (const [domain, version] of model.opsets) part.opsets.set(domain, version)
  part.irVersion = model.irVersion
  part.functions.push(...model.functions)
  part.folder = model.folder
  const map: ValueMap = new Map()
  for (const n of ancestors(computed, model.graph)) {
    for (const v of n.inputs) if (v?.constant && !map.has(v)) map.set(v, part.graph.addInitializer(v.name, v.constant))
    cloneNode(n, part.graph, map)
  }
  const b = part.graph.append()
  const outputs = computed.map((v) => {
    const value = map.get(v)!
    return asFloat ? b.op('Cast', [value], { to: elementTypes.float32.code }) : value
  })
  for (const v of outputs) part.graph.addOutput(v)
  const session = await ortExecutor().load(part, { optimization: 'disabled' })
  try {
    const results = await session.run({})
    for (const [i, v] of computed.entries()) known.set(v, results[outputs[i]!.name]!)
    return known
  } finally {
    await session.dispose()
  }
}

/** The nodes that the values are computed by, in graph order. */
function ancestors(values: readonly Value[], graph: Graph): Node[] {
  const wanted = new Set<Node>()
  for (const v of values) if (v.producer) wanted.add(v.producer)
  for (const n of graph.nodesReversed())
    if (wanted.has(n)) for (const v of n.inputs) if (v?.producer) wanted.add(v.producer)
  return [...graph.nodes()].filter((n) => wanted.has(n))
}
