/**
 * The constant part of a graph: values that depend on initializers alone, and their contents, computed by onnxruntime
 * with optimisation off so that they are what the file says and not what an optimiser makes of it. So it is known what a
 * weight is behind its mask, its quantiser or the decoder of a packed file, without knowing those here.
 *
 * Pruned weights are multiplied here, so that those of a file larger than memory can be read part by part.
 *
 * Does not look into bodies of If, Loop and Scan; what they and random operators give counts as computed.
 */
import { cloneNode, type ValueMap } from '../graph/clone.ts'
import { Graph, type Node, type Value } from '../graph/graph.ts'
import { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'
import { PRUNE_MASK, ROLE_KEY } from '../passes/layers.ts'
import { ortExecutor } from '../runtime/ort.ts'

const isComputed = (n: Node): boolean => findOp(n)?.random === true || n.subgraphs.length > 0

/** Initializers, and what is computed from them alone. Inputs with a default are none: see passes/overridable.ts. */
export function constantValues(graph: Graph): ReadonlySet<Value> {
  const constant = new Set<Value>(graph.initializers())
  for (const n of graph.nodes()) {
    if (isComputed(n)) continue
    if (n.inputs.every((v) => v === null || constant.has(v))) for (const v of n.outputs) if (v) constant.add(v)
  }
  return constant
}

/** The initializers that a value is computed from; null where it is no constant. */
export function constantSource(value: Value): readonly Value[] | null {
  const seen = new Set<Node>()
  const initializers = new Set<Value>()
  const visit = (v: Value): boolean => {
    if (v.constant) return !!initializers.add(v)
    const n = v.producer
    if (!n || isComputed(n)) return false
    if (seen.has(n)) return true
    for (const x of n.inputs) if (x && !visit(x)) return false
    return !!seen.add(n)
  }
  return visit(value) ? [...initializers] : null
}

/**
 * Contents of constant values, in one run; float32, float16, 8 to 64 bit integers and bool (sub-byte types cannot cross),
 * or with `asFloat` anything, what is computed as float32.
 */
export async function evaluateConstants(
  model: Model,
  values: readonly Value[],
  { asFloat = false } = {},
): Promise<Map<Value, Tensor>> {
  const known = new Map<Value, Tensor>()
  const computed: Value[] = []
  for (const v of new Set(values)) {
    const tensor = v.constant ?? maskedWeight(v)
    if (tensor) known.set(v, tensor)
    else computed.push(v)
  }
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
