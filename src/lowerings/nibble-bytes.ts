/**
 * Quantisers of constants to 2 and 4 bits, in bytes: Q to INT4 -> DQ becomes Q to INT8 -> Clip to [-8, 7] -> DQ, the same numbers.
 *
 * Without optimisations onnxruntime 1.30 computes such integers while it runs, and its memory plan takes the buffer of a
 * packed tensor, half or a quarter of the bytes, for the next tensor of bytes that has the same shape: wrong values, or a
 * corrupt heap (1.32 does not). A network with weights of 4 and of 8 bits in layers of one shape is enough. With
 * optimisations it folds the quantisers of weights when it loads the model, and nothing is packed at run time. Of activations
 * no graph of ours has both widths (layers/mixed-widths.ts).
 */
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { constantOf, isDequantize, isQuantize } from '../ops/facts.ts'

const wider = {
  int4: { type: 'int8', lo: -8, hi: 7 },
  uint4: { type: 'uint8', lo: 0, hi: 15 },
  int2: { type: 'int8', lo: -2, hi: 1 },
  uint2: { type: 'uint8', lo: 0, hi: 3 },
} as const

/** The form in bytes of what a QuantizeLinear gives; undefined where it gives bytes, or something else than DQ reads it. */
function widerOf(n: Node): (typeof wider)[keyof typeof wider] | undefined {
  const zero = isQuantize(n) ? constantOf(n.inputs[2]) : null
  const form = zero && Object.entries(wider).find(([type]) => type === zero.type)?.[1]
  if (!form || !isFixed(n.input(0)) || n.output.isOutput) return undefined
  return [...n.output.uses].every((r) => isDequantize(r) && constantOf(r.inputs[2])?.type === zero.type)
    ? form
    : undefined
}

/** Whether the value is computed from constants alone. */
const isFixed = (v: Value): boolean =>
  v.constant !== null || (v.producer?.inputs.every((x) => x === null || isFixed(x)) ?? false)

export const hasNibbles = ({ graph }: Model): boolean => graphsOf(graph).some((g) => [...g.nodes()].some(widerOf))

/** Rewrites all of them, in place. */
export function nibblesToBytes({ graph }: Model): void {
  for (const g of graphsOf(graph)) for (const n of [...g.nodes()]) widen(n)
}

function widen(quantize: Node): void {
  const form = widerOf(quantize)
  if (!form) return
  const { type, lo, hi } = form
  const { graph } = quantize
  const b = graph.before(quantize)
  const zero = (v: Value): Value => {
    const t = constantOf(v)!
    return b.initializer(graph.freshName(`${v.name}.bytes`), Tensor.from(type, t.dims, t.toFloat32()))
  }
  const limit = (x: number): Value => b.initializer(graph.freshName('limit_0'), Tensor.scalar(x, type))
  const block = quantize.int('block_size', 0)
  const layout = { axis: quantize.int('axis', 1), ...(block > 0 && { block_size: block }) }
  const inputs = [quantize.input(0), quantize.input(1), zero(quantize.input(2))]
  const clipped = b.op('Clip', [b.op('QuantizeLinear', inputs, layout), limit(lo), limit(hi)])
  for (const n of [...quantize.output.uses]) {
    n.setInput(2, zero(n.input(2)))
    n.setInput(0, clipped)
  }
  graph.remove(quantize)
}

const graphsOf = (graph: Graph): Graph[] => [graph, ...[...graph.nodes()].flatMap((n) => n.subgraphs.flatMap(graphsOf))]
