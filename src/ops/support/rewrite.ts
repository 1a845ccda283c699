/** Building blocks of upgrades: what upgrading a node from one form to the next needs again and again. */
import type { AttributeLike } from '../../graph/attribute.ts'
import type { Node, Value } from '../../graph/graph.ts'

/** Moves an integer-list attribute to input `i` as an int64 tensor; nothing where the node does not have it. */
export function intsToInput(node: Node, attribute: string, i: number): void {
  const a = node.attributes.get(attribute)
  if (a?.kind !== 'ints') return
  node.setAttribute(attribute, null)
  node.setInput(i, node.graph.before(node).ints(a.value.map(Number)))
}

export interface Replacement {
  readonly op: string
  readonly inputs: readonly (Value | null)[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
}

/** Replaces `node` with a node of another op: same name, outputs of the same names, metadata and uses. */
export function replaceNode(node: Node, by: Replacement): Node {
  const { graph } = node
  const fresh = graph.before(node).node({
    op: by.op,
    name: node.name,
    inputs: by.inputs,
    outputs: node.outputs.map((v) => (v ? graph.freshName(`${v.name}_upgraded`) : '')),
    attributes: by.attributes ?? Object.fromEntries(node.attributes),
    metadata: Object.fromEntries(node.metadata),
  })
  fresh.extra = node.extra
  const names = node.outputs.map((v) => v?.name)
  node.outputs.forEach((from, i) => {
    const to = fresh.outputs[i]
    if (from && to) moveValue(from, to)
  })
  graph.remove(node)
  names.forEach((name, i) => {
    const to = fresh.outputs[i]
    if (name !== undefined && to) graph.rename(to, name)
  })
  return fresh
}

/** `to` takes over the uses, type and metadata of `from`. */
function moveValue(from: Value, to: Value): void {
  to.setType(from.type)
  to.extra = from.extra
  for (const [k, v] of from.metadata) to.metadata.set(k, v)
  from.graph.replaceUses(from, to)
}

/** Hands the uses of a node's outputs to `values` (null: of an output that nothing reads) and removes the node. */
export function substitute(node: Node, values: readonly (Value | null)[]): void {
  node.outputs.forEach((from, i) => {
    const to = values[i]
    if (!from || !to) return
    if (!to.type) to.setType(from.type)
    node.graph.replaceUses(from, to)
  })
  node.graph.remove(node)
}
