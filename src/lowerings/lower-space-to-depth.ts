/** SpaceToDepth as a transposition of [N, C, H/s, s, W/s, s]. Applies where the input's shape is known. */
import type { Node } from '../graph/graph.ts'
import { isStatic } from '../graph/types.ts'

export function lowerSpaceToDepth(node: Node): boolean {
  const dims = node.input(0).type?.dims ?? null
  if (!isStatic(dims) || dims.length !== 4) return false
  const [n, c, h, w] = dims as [number, number, number, number]
  const s = node.int('blocksize', 1)
  const { graph, output } = node
  const b = graph.before(node)
  const apart = b.op('Reshape', [node.input(0), b.ints([n, c, h / s, s, w / s, s])])
  const phases = b.op('Transpose', [apart], { perm: [0, 3, 5, 1, 2, 4] })
  const y = b.op('Reshape', [phases, b.ints([n, c * s * s, h / s, w / s])], {}, { type: output.type })
  graph.replaceUses(output, y)
  graph.remove(node)
  return true
}
