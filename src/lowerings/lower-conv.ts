/**
 * Conv with its channels filled up to a multiple of 4 by zeros. onnxruntime 1.30's WebGPU kernel returns wrong sums
 * without an error where a 3x3 or larger kernel reads, say, 6, 9 or 18 channels (microsoft/onnxruntime#29651).
 *
 * Does not apply to groups.
 */
import type { Node, Value } from '../graph/graph.ts'

const MULTIPLE = 4

export function lowerConv(node: Node): boolean {
  const dims = node.inputs[1]?.type?.dims
  const channels = dims?.[1]
  if (typeof channels !== 'number' || channels % MULTIPLE === 0 || node.int('group', 1) !== 1) return false
  const b = node.graph.before(node)
  const missing = MULTIPLE - (channels % MULTIPLE)
  const none = dims!.map(() => 0)
  const pads = b.ints([...none, ...none.map((_, i) => (i === 1 ? missing : 0))])
  const filled = (v: Value): Value => b.op('Pad', [v, pads])
  node.setInput(0, filled(node.input(0)))
  node.setInput(1, filled(node.input(1)))
  return true
}
