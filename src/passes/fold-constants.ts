/**
 * Computes what depends on constants only, once, by onnxruntime in one session, and puts initializers in its place;
 * Constant nodes become initializers.
 *
 * Does not apply to nodes that mnc put there (mnc.role: masks and quantisers, whose operands training still moves), to
 * QuantizeLinear and DequantizeLinear at all (folding would undo quantisation), to random operators, to nodes with
 * bodies, to element types that cannot leave onnxruntime (4-bit, bfloat16, strings, ...), and to results larger than both
 * --max-bytes and what they are computed from.
 */
import { cloneNode, type ValueMap } from '../graph/clone.ts'
import { Graph, type Node, type Value } from '../graph/graph.ts'
import { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { type ElementType, elementTypeOf } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'
import { type OptionsOf, optionTable } from '../options.ts'
import { ortExecutor } from '../runtime/ort.ts'
import { constantNodeTensor, removeUnused } from './constant-of.ts'
import { definePass, type PassContext } from './define-pass.ts'
import { ROLE_KEY } from './layers.ts'

const KEEP = new Set(['QuantizeLinear', 'DequantizeLinear', 'DynamicQuantizeLinear', 'Dropout'])

const CROSSING: ReadonlySet<ElementType> = new Set([
  ...(['float32', 'float64', 'float16', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32'] as const),
  ...(['int64', 'uint64', 'bool'] as const),
])

const options = optionTable({
  maxBytes: {
    type: 'integer',
    minimum: 0,
    default: 2 ** 20,
    description: 'Results larger than this are folded only where they are no larger than what they come from',
  },
})

/** Constant nodes to initializers of the same name. */
export function liftConstants(graph: Graph): boolean {
  let changed = false
  for (const n of graph.nodes()) {
    const tensor = n.op === 'Constant' && n.domain === '' ? constantNodeTensor(n) : null
    if (!tensor || n.output.isOutput) continue
    const { name } = n.output
    const value = graph.addInitializer(name, tensor)
    graph.replaceUses(n.output, value)
    graph.remove(n)
    graph.rename(value, name)
    changed = true
  }
  return changed
}

function foldable(model: Model): Set<Node> {
  const out = new Set<Node>()
  const isConstant = (v: Value): boolean => {
    if (v.producer) return out.has(v.producer)
    return v.constant !== null && CROSSING.has(v.constant.type) && !v.metadata.has(ROLE_KEY)
  }
  for (const n of model.graph.nodes()) {
    const to = n.op === 'Cast' ? elementTypeOf(n.int('to', 0)) : 'float32'
    if (n.domain !== '' || KEEP.has(n.op) || findOp(n)?.random || n.subgraphs.length > 0 || n.metadata.has(ROLE_KEY))
      continue
    if (!to || !CROSSING.has(to)) continue
    const inputs = n.inputs.filter((v) => v !== null)
    if (inputs.length > 0 && inputs.every(isConstant)) out.add(n)
  }
  return out
}

async function evaluate(model: Model, nodes: ReadonlySet<Node>, wanted: readonly Value[]): Promise<Map<Value, Tensor>> {
  const part = new Model(new Graph('constants'))
  part.irVersion = model.irVersion
  for (const [domain, version] of model.opsets) part.opsets.set(domain, version)
  const map: ValueMap = new Map()
  for (const n of nodes) {
    for (const v of n.inputs) if (v?.constant && !map.has(v)) map.set(v, part.graph.addInitializer(v.name, v.constant))
    cloneNode(n, part.graph, map)
  }
  for (const v of wanted) part.graph.addOutput(map.get(v)!)
  const folder = model.folder === undefined ? {} : { folder: model.folder }
  const session = await ortExecutor().load(part, { optimization: 'disabled', ...folder })
  try {
    const out = await session.run({})
    return new Map(wanted.map((v) => [v, out[v.name]!]))
  } finally {
    await session.dispose()
  }
}

/** Bytes of the constants that a value is computed from. */
function bytesBehind(value: Value, seen = new Set<Value>()): number {
  if (seen.has(value)) return 0
  seen.add(value)
  if (value.constant) return value.constant.byteLength
  return (value.producer?.inputs ?? []).reduce((n, v) => n + (v ? bytesBehind(v, seen) : 0), 0)
}

async function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  const { graph } = model
  const lifted = liftConstants(graph)
  const nodes = foldable(model)
  const isWanted = (v: Value | null): v is Value =>
    v !== null && v.outputOf.size === 0 && [...v.uses].some((n) => !nodes.has(n))
  const wanted = [...nodes].flatMap((n) => n.outputs.filter(isWanted))
  if (wanted.length === 0) return lifted
  const named: [Value, string][] = []
  for (const [value, tensor] of await evaluate(model, nodes, wanted)) {
    if (tensor.byteLength > Math.max(o.maxBytes, bytesBehind(value))) {
      ctx.decline(value.name, `it would take ${tensor.byteLength} bytes, more than --max-bytes ${o.maxBytes}`)
      continue
    }
    const made = graph.addInitializer(value.name, tensor)
    graph.replaceUses(value, made)
    named.push([made, value.name])
  }
  removeUnused([...nodes].reverse())
  for (const [made, name] of named) if (!graph.find(name)) graph.rename(made, name)
  return lifted || named.length > 0
}

export const foldConstants = definePass({
  name: 'fold-constants',
  summary: 'Compute what depends on constants only',
  options,
  preserves: 'numerics',
  bakes: true,
  run,
})
