/**
 * Reshape after Reshape reads what the first does. onnxruntime would make one node of both, but its merged nodes stand behind
 * all others, and it then executes them, and what they wait for, earlier than the graph says.
 */
import type { Graph, Node, Value } from '../graph/graph.ts'
import { withOriginOf } from '../graph/hints.ts'
import { isStatic } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'

export function mergeReshapes(graph: Graph): void {
  for (const n of [...graph.nodes()]) {
    const first = reshapeBefore(n)
    const dims = first && dimsOf(n.output)
    if (!first || !dims || n.output.isOutput) continue
    const b = graph.before(n)
    const { type } = n.output
    const merged = b.op('Reshape', [first.input(0), b.ints(dims)], {}, { type, ...withOriginOf(n) })
    graph.replaceUses(n.output, merged)
    graph.remove(n)
    if (!first.output.isUsed) graph.remove(first)
  }
}

/** The one that makes what `n` reads, if both only give another shape. */
function reshapeBefore(n: Node): Node | null {
  const before = n.inputs[0]?.producer
  if (!before || findOp(n)?.carries !== 'shape' || findOp(before)?.carries !== 'shape') return null
  return before
}

/** By its type or its shape; null where neither says. */
function dimsOf(v: Value): readonly number[] | null {
  const own = v.type?.dims ?? null
  if (isStatic(own)) return own
  const n = v.producer
  const found = n && findOp(n)?.carries === 'shape' ? findOp(n)?.reshapes?.(n, dimsOf(n.input(0)) ?? []) : null
  return found?.every((d) => Number.isInteger(d) && d > 0) ? found : null
}
