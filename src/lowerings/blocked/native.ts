/** Native operators (lowerings/native/) on blocked values: the same with as many lanes as the layout has. */
import type { Node, Value } from '../../graph/graph.ts'
import { GRADIENT, NORM, STEP_DOMAIN } from '../native/operators.ts'
import type { BlockedLayout } from './layout.ts'

export const isNativeNorm = (n: Node): boolean => n.domain === STEP_DOMAIN && n.op === NORM

/** Where the feature map is blocked already, or the result is wanted so. */
export function blockNative(node: Node, layout: BlockedLayout): boolean {
  const b = layout.graph.before(node)
  const at = node.op === GRADIENT ? 1 : 0
  const x = layout.twin(node.input(at)) ?? layout.wantedTwin(b, node.input(at))
  if (!x) return false
  const maps = at === 0 ? [x.value] : [layout.twinOf(b, node.input(0), x.dims).value, x.value]
  const inputs = [...maps, ...node.inputs.slice(maps.length)]
  const attributes = { ...Object.fromEntries(node.attributes), lanes: layout.block }
  const made = b.ops(node.op, inputs, node.outputs.length, attributes, { domain: STEP_DOMAIN })
  made[0]!.setType(layout.typeOf(x.dims))
  node.outputs.slice(1).forEach((from, i) => {
    made[i + 1]!.setType(from!.type)
    layout.graph.replaceUses(from as Value, made[i + 1]!)
  })
  layout.replace(node, made[0]!, x.dims[1], x.dims)
  return true
}
