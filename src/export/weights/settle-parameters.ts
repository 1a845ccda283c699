/**
 * Makes float initializers from what layers and normalisations read besides their weights, where it is computed from
 * constants: biases in Constant nodes, int32 biases after a DequantizeLinear. What comes after reads `Value.constant`.
 * Weights stay as they are: their quantisers say what the integers are.
 */
import type { Node, Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { sweepNode } from '../../graph/sweep.ts'
import { constantValues, evaluateConstants } from '../../layers/constants.ts'
import { findOp } from '../../ops/index.ts'
import { liftConstants } from '../../passes/fold-constants.ts'

export async function settleParameters(model: Model): Promise<void> {
  const { graph } = model
  liftConstants(graph)
  const constant = constantValues(graph)
  const wanted = new Set<Value>()
  for (const n of graph.nodes())
    for (const i of slotsOf(n)) {
      const v = n.inputs[i]
      if (v && !v.constant && constant.has(v)) wanted.add(v)
    }
  const contents = await evaluateConstants(model, [...wanted])
  for (const v of wanted) {
    const { name } = v
    const tensor = contents.get(v)
    if (!tensor) continue
    const made = graph.addInitializer(name, tensor)
    graph.replaceUses(v, made)
    if (v.producer) sweepNode(v.producer)
    if (!graph.find(name)) graph.rename(made, name)
  }
}

/** Inputs with a layer's bias, or a normalisation's scale, bias and statistics. */
function slotsOf(node: Node): readonly number[] {
  const { weights, parameters = [], state } = findOp(node) ?? {}
  if (weights) return parameters.filter((i) => weights.every((w) => w.input !== i))
  return state ? [...parameters, ...(parameters.length > 0 ? state : [])] : []
}
