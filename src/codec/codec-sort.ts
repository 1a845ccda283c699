/**
 * Order of the nodes of a file. ONNX wants them topologically sorted; some exporters do not sort. A sorted list comes
 * back as it is, an unsorted one is sorted with as few moves as a depth-first walk in file order makes, a cyclic one is
 * a model error.
 */
import { modelError } from '../base/errors.ts'
import type { Proto } from './proto-schema.ts'

type NodeProto = Proto<'NodeProto'>
type GraphProto = Proto<'GraphProto'>

const bodiesOf = (n: NodeProto): GraphProto[] =>
  (n.attribute ?? []).flatMap((a) => [...(a.g ? [a.g] : []), ...(a.graphs ?? [])])

/** Names that a graph reads from the graphs around it. */
function capturesOf(g: GraphProto, memo: Map<GraphProto, Set<string>>): Set<string> {
  const known = memo.get(g)
  if (known) return known
  const own = new Set<string>()
  for (const v of g.input ?? []) own.add(v.name ?? '')
  for (const t of g.initializer ?? []) own.add(t.name ?? '')
  for (const t of g.sparse_initializer ?? []) own.add(t.values?.name ?? '')
  for (const n of g.node ?? []) for (const name of n.output ?? []) own.add(name)
  const free = new Set<string>()
  for (const v of g.output ?? []) if (v.name && !own.has(v.name)) free.add(v.name)
  for (const n of g.node ?? []) for (const name of readsOf(n, memo)) if (!own.has(name)) free.add(name)
  memo.set(g, free)
  return free
}

function readsOf(n: NodeProto, memo: Map<GraphProto, Set<string>>): string[] {
  const bodies = bodiesOf(n)
  const direct = (n.input ?? []).filter((name) => name !== '')
  return bodies.length === 0 ? direct : [...direct, ...bodies.flatMap((g) => [...capturesOf(g, memo)])]
}

/** The nodes in topological order; names that no node of the list makes do not matter here. */
export function sortNodes(nodes: readonly NodeProto[]): readonly NodeProto[] {
  const memo = new Map<GraphProto, Set<string>>()
  const makers = new Map<string, number>()
  nodes.forEach((n, i) => {
    for (const name of n.output ?? []) if (name !== '' && !makers.has(name)) makers.set(name, i)
  })
  const needs = nodes.map((n) => readsOf(n, memo).flatMap((name) => makers.get(name) ?? []))
  if (needs.every((list, i) => list.every((j) => j < i))) return nodes

  const order: NodeProto[] = []
  const state = new Uint8Array(nodes.length) // 0 new, 1 open, 2 done
  for (let start = 0; start < nodes.length; start++) {
    // A stack instead of recursion: a chain may be as long as the file.
    const stack = state[start] === 0 ? [{ node: start, next: 0 }] : []
    if (stack.length > 0) state[start] = 1
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const need = needs[top.node]![top.next++]
      if (need === undefined) {
        state[top.node] = 2
        order.push(nodes[top.node]!)
        stack.pop()
      } else if (state[need] === 1) {
        const node = nodes[need]!
        throw modelError('cyclic-graph', `the graph is cyclic: ${node.op_type ?? 'a node'} needs its own output`, {
          node: node.name || node.output?.find((name) => name !== ''),
        })
      } else if (state[need] === 0) {
        state[need] = 1
        stack.push({ node: need, next: 0 })
      }
    }
  }
  return order
}
