/** Split and Concat of many tensors as trees of small ones: a GPU kernel binds one buffer per tensor, and has few. */
import type { Node, Value } from '../graph/graph.ts'

/** WebGPU promises 8 storage buffers per shader; one is the tensor that is split or put together. */
const FEW = 7

export function lowerSplit(node: Node): boolean {
  const outputs = node.outputs as readonly Value[]
  const sizes = node.inputs[1]?.constant?.toNumbers()
  if (outputs.length <= FEW || outputs.some((v) => !v) || !sizes) return false
  const { graph } = node
  const b = graph.before(node)
  const axis = node.int('axis', 0)
  const sum = (from: number, to: number): number =>
    Array.from(sizes)
      .slice(from, to)
      .reduce((a, c) => a + c, 0)
  /** Parts from..to-1 of `v`, which holds just these. */
  const split = (v: Value, from: number, to: number): Value[] => {
    if (to - from === 1) return [v]
    let span = 1
    while (span * FEW < to - from) span *= FEW
    const starts = Array.from({ length: Math.ceil((to - from) / span) }, (_, i) => from + i * span)
    const ends = starts.map((s) => Math.min(to, s + span))
    const parts = b.ops('Split', [v, b.ints(starts.map((s, i) => sum(s, ends[i]!)))], starts.length, { axis })
    return parts.flatMap((p, i) => split(p, starts[i]!, ends[i]!))
  }
  split(node.input(0), 0, outputs.length).forEach((v, i) => {
    v.setType(outputs[i]!.type)
    graph.replaceUses(outputs[i]!, v)
  })
  graph.remove(node)
  return true
}

export function lowerConcat(node: Node): boolean {
  const inputs = node.inputs as readonly Value[]
  if (inputs.length <= FEW) return false
  const { graph, output } = node
  const b = graph.before(node)
  let list = inputs
  while (list.length > 1) {
    const next: Value[] = []
    for (let i = 0; i < list.length; i += FEW) {
      const group = list.slice(i, i + FEW)
      next.push(group.length === 1 ? group[0]! : b.op('Concat', group, { axis: node.int('axis', 0) }))
    }
    list = next
  }
  list[0]!.setType(output.type)
  graph.replaceUses(output, list[0]!)
  graph.remove(node)
  return true
}
