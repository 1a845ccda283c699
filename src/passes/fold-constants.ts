/**
 * Computes what depends on constants only, once (constant-part.ts), and puts initializers in its place; Constant nodes
 * become initializers. How large results are is inferred before anything is computed.
 *
 * Does not apply to nodes that mnc put there (mnc.role: masks and quantisers, whose operands training still moves), to
 * QuantizeLinear and DequantizeLinear at all (folding would undo quantisation), to random operators, to nodes with
 * bodies, to element types that cannot be read from onnxruntime (4-bit, bfloat16, strings, ...), to results larger than both
 * --max-bytes and what they are computed from, and to what takes larger values on the way (WORK_BYTES), or more time or
 * memory than there is.
 */

import { MncError } from '../base/errors.ts'
import { type OptionsOf, optionTable } from '../base/options.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import type { ElementType } from '../graph/types.ts'
import { removeUnused } from '../layers/remove-unused.ts'
import { constantNodeTensor } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { isProbeFailure } from '../runtime/isolated/engine.ts'
import { ConstantPart } from './fold-constants/constant-part.ts'

const CROSSING: ReadonlySet<ElementType> = new Set([
  ...(['float32', 'float64', 'float16', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32'] as const),
  ...(['int64', 'uint64', 'bool'] as const),
])

/** Nothing is computed from values larger than this, unless its own constants are. */
const WORK_BYTES = 2 ** 28

const options = optionTable({
  maxBytes: {
    type: 'integer',
    minimum: 0,
    default: 2 ** 20,
    description: 'Results larger than this are folded only if they are no larger than what they are computed from',
  },
})

/** Constant nodes to initializers of the same name. */
export function liftConstants(graph: Graph): boolean {
  let changed = false
  for (const n of graph.nodes()) {
    const tensor = constantNodeTensor(n)
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
    return v.constant !== null && CROSSING.has(v.constant.type) && !marks.role.has(v)
  }
  for (const n of model.graph.nodes()) {
    const def = findOp(n)
    if (n.domain !== '' || def?.unfoldable || def?.random || n.subgraphs.length > 0 || marks.role.has(n)) continue
    const to = def?.castsTo ? def.castsTo(n) : 'float32'
    if (!to || !CROSSING.has(to)) continue
    const inputs = n.inputs.filter((v) => v !== null)
    if (inputs.length > 0 && inputs.every(isConstant)) out.add(n)
  }
  return out
}

/** Bytes of the constants that a value is computed from. */
function bytesBehind(value: Value, seen = new Set<Value>()): number {
  if (seen.has(value)) return 0
  seen.add(value)
  if (value.constant) return value.constant.byteLength
  return (value.producer?.inputs ?? []).reduce((n, v) => n + (v ? bytesBehind(v, seen) : 0), 0)
}

/** What remains of `nodes` without those in `left` and what is computed from them. */
function without(nodes: ReadonlySet<Node>, left: (n: Node) => boolean): Set<Node> {
  const out = new Set<Node>()
  for (const n of nodes) if (!left(n) && n.inputs.every((v) => !v?.producer || out.has(v.producer))) out.add(n)
  return out
}

const outputsOf = (n: Node): Value[] => n.outputs.filter((v) => v !== null)

async function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  const { graph } = model
  const lifted = liftConstants(graph)
  const all = foldable(model)
  const part = new ConstantPart(model, all)
  const limit = (v: Value): number => Math.max(o.maxBytes, bytesBehind(v))
  const exceeds = (v: Value, most: number): boolean => {
    const bytes = part.bytes(v)
    if (bytes === null || bytes <= most) return false
    ctx.decline(v.name, `it would take ${bytes} bytes, more than --max-bytes ${o.maxBytes}`)
    return true
  }
  /** If the engine fails on the values, they are left. */
  const attempt = async (values: readonly Value[], what: () => Promise<void>): Promise<void> => {
    try {
      await what()
    } catch (error) {
      if (!(error instanceof MncError) || !isProbeFailure(error)) throw error
      for (const v of values) ctx.decline(v.name, `it cannot be computed: ${error.describe()}`)
    }
  }

  const named: [Value, string][] = []
  let nodes: ReadonlySet<Node> = all
  const fold = async (values: readonly Value[]): Promise<void> => {
    const small = values.filter((v) => !exceeds(v, limit(v)))
    for (const [v, tensor] of await part.evaluate(small)) {
      const made = graph.addInitializer(v.name, tensor)
      graph.replaceUses(v, made)
      named.push([made, v.name])
    }
  }
  const wantedOf = (known: ReadonlySet<Node>): Value[] =>
    [...known].flatMap(outputsOf).filter((v) => v.outputOf.size === 0 && [...v.uses].some((n) => !nodes.has(n)))
  if (wantedOf(all).length === 0) return lifted
  await attempt(wantedOf(all), async () => {
    await part.infer()
    nodes = without(all, (n) => outputsOf(n).some((v) => exceeds(v, Math.max(WORK_BYTES, limit(v)))))
    // what is certain to be small first: the rest may take more time or memory than there is
    const sure = without(nodes, (n) => outputsOf(n).some((v) => part.bytes(v) === null))
    const [first, rest] = [wantedOf(sure), wantedOf(nodes).filter((v) => !sure.has(v.producer!))]
    await attempt(first, () => fold(first))
    await attempt(rest, async () => {
      if (rest.length > 0) await part.measure(rest)
      await fold(rest)
    })
  })
  removeUnused([...nodes].reverse())
  for (const [made, name] of named) if (!graph.find(name)) graph.rename(made, name)
  return lifted || named.length > 0
}

export const foldConstants = definePass({
  name: 'fold-constants',
  summary: 'Compute everything that depends only on constants',
  options,
  preserves: 'numerics',
  bakes: true,
  run,
})
