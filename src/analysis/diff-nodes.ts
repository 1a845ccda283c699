/**
 * Which nodes two graphs have in common. A node is known by its first output's name, else by its own name: passes keep
 * both for what they do not touch. Nodes of bodies (If, Loop, Scan) are compared as part of the node that holds them.
 */
import type { Attribute } from '../graph/attribute.ts'
import type { Graph, Node } from '../graph/graph.ts'
import { attributeSnapshot, sameSnapshot } from '../pass-manager/snapshot.ts'

export interface NodeFacts {
  readonly name: string
  readonly op: string
}

export interface NodeChange extends NodeFacts {
  /** What differs, for people: `inputs: w -> w.masked`, `kernel_shape: [3,3] -> [1,1]`. */
  readonly changes: readonly string[]
}

export interface NodeDiff {
  readonly added: readonly NodeFacts[]
  readonly removed: readonly NodeFacts[]
  readonly changed: readonly NodeChange[]
  /** Nodes that are the same in both. */
  readonly same: number
}

export function diffNodes(a: Graph, b: Graph): NodeDiff {
  const pairs = matchNodes(a, b)
  const matched = new Set(pairs.values())
  const changed = [...pairs].flatMap(([x, y]) => {
    const changes = changesOf(x, y)
    return changes.length > 0 ? [{ ...factsOf(y), changes }] : []
  })
  return {
    added: [...b.nodes()].filter((n) => !matched.has(n)).map(factsOf),
    removed: [...a.nodes()].filter((n) => !pairs.has(n)).map(factsOf),
    changed,
    same: pairs.size - changed.length,
  }
}

/** Nodes of `a` with their counterparts in `b`. */
export function matchNodes(a: Graph, b: Graph): Map<Node, Node> {
  const pairs = new Map<Node, Node>()
  const taken = new Set<Node>()
  for (const key of [outputName, ownName]) {
    const byKey = new Map<string, Node>()
    for (const n of b.nodes()) if (key(n) !== '' && !taken.has(n)) byKey.set(key(n), n)
    for (const n of a.nodes()) {
      const like = pairs.has(n) ? undefined : byKey.get(key(n))
      if (!like || taken.has(like)) continue
      pairs.set(n, like)
      taken.add(like)
    }
  }
  return pairs
}

const ownName = (n: Node): string => n.name
const outputName = (n: Node): string => n.outputs.find((v) => v !== null)?.name ?? ''
const factsOf = (n: Node): NodeFacts => ({ name: n.id, op: opOf(n) })
const opOf = (n: Node): string => (n.domain === '' ? n.op : `${n.domain}::${n.op}`)

function changesOf(a: Node, b: Node): string[] {
  const changes: string[] = []
  const note = (what: string, x: string, y: string): void => {
    if (x !== y) changes.push(`${what}: ${x} -> ${y}`)
  }
  note('op', opOf(a), opOf(b))
  const names = (values: Node['inputs'] | Node['outputs']): string => values.map((v) => v?.name ?? '').join(', ')
  note('inputs', names(a.inputs), names(b.inputs))
  note('outputs', names(a.outputs), names(b.outputs))
  for (const key of new Set([...a.attributes.keys(), ...b.attributes.keys()])) {
    const [x, y] = [a.attributes.get(key), b.attributes.get(key)]
    if (x && y && sameSnapshot(attributeSnapshot(x), attributeSnapshot(y))) continue
    changes.push(`${key}: ${shown(x)} -> ${shown(y)}`)
  }
  for (const key of new Set([...a.metadata.keys(), ...b.metadata.keys()]))
    note(key, a.metadata.get(key) ?? 'none', b.metadata.get(key) ?? 'none')
  return changes
}

function shown(a: Attribute | undefined): string {
  if (!a) return 'none'
  switch (a.kind) {
    case 'int':
    case 'float':
      return String(a.value)
    case 'ints':
    case 'floats':
      return `[${a.value.join(',')}]`
    case 'string':
      return new TextDecoder().decode(a.value)
    case 'tensor':
      return `${a.value.type}[${a.value.dims.join(',')}]`
    default:
      return a.kind
  }
}
