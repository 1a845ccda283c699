/**
 * The constant part of a graph: values that depend on initializers alone, and their contents, computed by onnxruntime
 * in a separate process, with optimisation off so that they are what the file says and not what an optimiser makes of it.
 * This tells what a weight is after its mask, its quantiser or the decoder of a packed file, without any knowledge of
 * those here.
 *
 * Pruned weights are multiplied here, so that those of a file larger than memory can be read part by part.
 *
 * Does not look into bodies of If, Loop and Scan; their results and those of random operators count as computed.
 */

import type { Builder } from '../graph/builder.ts'
import { cloneNode, type ValueMap } from '../graph/clone.ts'
import { Graph, type Node, type Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementTypes, isStatic, sizeInBytes } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'
import { loadIsolated } from '../runtime/isolated/engine.ts'
import { PRUNE_MASK } from './layers.ts'

const isComputed = (n: Node): boolean => findOp(n)?.random === true || n.subgraphs.length > 0

/** Initializers, and what is computed from them alone. Inputs with a default are not among them: see pass-manager/overridable.ts. */
export function constantValues(graph: Graph): ReadonlySet<Value> {
  const constant = new Set<Value>(graph.initializers())
  for (const n of graph.nodes()) {
    if (isComputed(n)) continue
    if (n.inputs.every((v) => v === null || constant.has(v))) for (const v of n.outputs) if (v) constant.add(v)
  }
  return constant
}

/** The initializers that a value is computed from; null where it is not a constant. */
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
 * Contents of constant values, in one run; float32, float16, 8 to 64 bit integers and bool, or with `asFloat` anything,
 * what is computed as float32. Values of other types are not among them, nor those that are computed from values known to
 * be larger than LARGEST and than their own constants.
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
    else if (!isHuge(v)) computed.push(v)
  }
  const results = await compute(model, computed, (v, b) => (asFloat ? b.op('Cast', [v], { to: FLOAT }) : v))
  for (const [v, tensor] of results) known.set(v, tensor)
  return known
}

const FLOAT = elementTypes.float32.code

/** Dims of constant values, of any type, in one run; declared ones are not computed. */
export async function constantDims(model: Model, values: readonly Value[]): Promise<Map<Value, readonly number[]>> {
  const known = new Map<Value, readonly number[]>()
  const open: Value[] = []
  for (const v of new Set(values)) {
    const dims = v.constant?.dims ?? v.type?.dims ?? null
    if (isStatic(dims)) known.set(v, dims)
    else if (!isHuge(v)) open.push(v)
  }
  for (const [v, dims] of await compute(model, open, (x, b) => b.op('Shape', [x])))
    known.set(v, Array.from(dims.toNumbers(), Number))
  return known
}

/** Runs the nodes that compute the values, and returns what `form` makes of each. */
async function compute(
  model: Model,
  computed: readonly Value[],
  form: (v: Value, b: Builder) => Value,
): Promise<Map<Value, Tensor>> {
  const known = new Map<Value, Tensor>()
  if (computed.length === 0) return known
  const part = new Model(new Graph('constants'))
  part.opsets.clear()
  for (const [domain, version] of model.opsets) part.opsets.set(domain, version)
  part.irVersion = model.irVersion
  part.functions.push(...model.functions)
  const map: ValueMap = new Map()
  for (const n of ancestors(computed, model.graph)) {
    for (const v of n.inputs) if (v?.constant && !map.has(v)) map.set(v, part.graph.addInitializer(v.name, v.constant))
    cloneNode(n, part.graph, map)
  }
  const b = part.graph.append()
  const outputs = computed.map((v) => form(map.get(v)!, b))
  for (const v of outputs) part.graph.addOutput(v)
  const session = await loadIsolated(part, { optimization: 'disabled' })
  try {
    const results = await session.run({})
    for (const [i, v] of computed.entries()) {
      const tensor = results[outputs[i]!.name]
      if (tensor) known.set(v, tensor)
    }
    return known
  } finally {
    await session.dispose()
  }
}

/** Bytes: 128 million float32 weights. */
const LARGEST = 2 ** 29

/** Whether a value in the constant's computation is too large by its type; a small file can contain such values. */
function isHuge(value: Value): boolean {
  const limit = Math.max(LARGEST, ...(constantSource(value) ?? []).map((v) => 8 * v.constant!.byteLength))
  return ancestors([value], value.graph).some((n) => n.outputs.some((v) => (sizeInBytes(v?.type ?? null) ?? 0) > limit))
}

/** The nodes that compute the values, in graph order. */
function ancestors(values: readonly Value[], graph: Graph): Node[] {
  const wanted = new Set<Node>()
  for (const v of values) if (v.producer) wanted.add(v.producer)
  for (const n of graph.nodesReversed())
    if (wanted.has(n)) for (const v of n.inputs) if (v?.producer) wanted.add(v.producer)
  return [...graph.nodes()].filter((n) => wanted.has(n))
}

/** A float32 weight times its mask; null where the value is something else. */
function maskedWeight({ producer }: Value): Tensor | null {
  if (!producer || marks.role.get(producer) !== PRUNE_MASK) return null
  const [weight, mask] = producer.inputs.map((v) => v?.constant)
  if (weight?.type !== 'float32' || mask?.type !== 'float32' || weight.dims.join() !== mask.dims.join()) return null
  return weight.mapFloats('float32', (values, first) => {
    const kept = mask.range(first, values.length).view('float32')
    for (let i = 0; i < values.length; i++) values[i]! *= kept[i]!
  })
}
