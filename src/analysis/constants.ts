/**
 * Values that no graph input reaches, computed by onnxruntime: what a weight really is behind its mask, its quantiser
 * or the decoder of a packed file.
 *
 * Pruned weights are multiplied here, so that those of a file larger than memory can be read part by part.
 *
 * Does not apply to values that a node with a body (If, Loop, Scan), a model-local function or a random operator
 * computes.
 */
import { cloneNode, type ValueMap } from '../graph/clone.ts'
import { Graph, type Node, type Value } from '../graph/graph.ts'
import { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { findOp } from '../ops/index.ts'
import { PRUNE_MASK, ROLE_KEY } from '../passes/layers.ts'
import { ortExecutor } from '../runtime/ort.ts'

/** What a constant value is computed from; null where a graph input reaches it. */
export interface ConstantSource {
  /** In graph order. */
  readonly nodes: readonly Node[]
  readonly initializers: readonly Value[]
}

/** Traces `value` back to initializers; null where it depends on an input of the graph. */
export function constantSource(value: Value): ConstantSource | null {
  const nodes = new Set<Node>()
  const initializers = new Set<Value>()
  const visit = (v: Value): boolean => {
    if (v.constant) return !!initializers.add(v)
    const n = v.producer
    if (!n || n.subgraphs.length > 0 || findOp(n)?.random) return false
    if (nodes.has(n)) return true
    for (const x of n.inputs) if (x && !visit(x)) return false
    return !!nodes.add(n)
  }
  return visit(value) ? { nodes: [...nodes], initializers: [...initializers] } : null
}

/** Computes constant values (see `constantSource`) in one run of onnxruntime; initializers are returned as they are. */
export async function evaluateConstants(model: Model, values: Iterable<Value>): Promise<Map<Value, Tensor>> {
  const out = new Map<Value, Tensor>()
  const graph = new Graph('constants')
  const part = new Model(graph, model.opset)
  part.irVersion = model.irVersion
  for (const [domain, version] of model.opsets) part.opsets.set(domain, version)
  const map: ValueMap = new Map()
  const copied = new Set<Node>()
  const wanted: Value[] = []
  for (const v of new Set(values)) {
    if (v.constant) {
      out.set(v, v.constant)
      continue
    }
    const pruned = maskedWeight(v)
    if (pruned) {
      out.set(v, pruned)
      continue
    }
    const source = constantSource(v)
    if (!source) continue
    for (const c of source.initializers) if (!map.has(c)) map.set(c, graph.addInitializer(c.name, c.constant!))
    for (const n of source.nodes) {
      if (copied.has(n)) continue
      copied.add(n)
      cloneNode(n, graph, map)
    }
    graph.addOutput(map.get(v)!)
    wanted.push(v)
  }
  if (wanted.length === 0) return out
  const session = await ortExecutor().load(part, { optimization: 'disabled' })
  try {
    const results = await session.run({})
    for (const v of wanted) out.set(v, results[map.get(v)!.name]!)
  } finally {
    await session.dispose()
  }
  return out
}

/** A float32 weight times its mask; null where the value is something else. */
function maskedWeight({ producer }: Value): Tensor | null {
  if (producer?.metadata.get(ROLE_KEY) !== PRUNE_MASK) return null
  const [weight, mask] = producer.inputs.map((v) => v?.constant)
  if (weight?.type !== 'float32' || mask?.type !== 'float32' || weight.dims.join() !== mask.dims.join()) return null
  return weight.mapFloats('float32', (values, first) => {
    const kept = mask.range(first, values.length).view('float32')
    for (let i = 0; i < values.length; i++) values[i]! *= kept[i]!
  })
}
