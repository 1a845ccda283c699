/** ReduceSum of a blocked value: over images and positions ([C]), or over everything. */
import type { Node } from '../../graph/graph.ts'
import type { BlockedLayout } from './layout.ts'

export function blockReduceSum(node: Node, layout: BlockedLayout): boolean {
  const x = layout.twin(node.inputs[0])
  if (!x || (!node.inputs[1] && node.int('noop_with_empty_axes', 0) !== 0)) return false
  const axes = node.inputs[1] ? Array.from(node.inputs[1].constant?.toNumbers() ?? [-1]).sort() : [0, 1, 2, 3]
  if (axes.join() === '0,1,2,3') {
    node.setInput(0, x.value)
    return true
  }
  if (axes.join() !== '0,2,3' || node.int('keepdims', 1) !== 0) return false
  const b = layout.graph.before(node)
  const elements = b.scalar(x.dims[0] * x.dims[2] * x.dims[3])
  layout.graph.replaceUses(
    node.output,
    b.op('Mul', [layout.channelMean(b, x), elements], {}, { type: node.output.type }),
  )
  layout.graph.remove(node)
  return true
}
