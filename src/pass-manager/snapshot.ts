/**
 * What a model holds, as a list of strings and tensors that can be compared with a later one: how the manager tells
 * whether a pass changed anything. Tensors are values, so they are held, not copied. Inferred types of inner values
 * are not part of it: passes may fill them in.
 */
import type { Attribute } from '../graph/attribute.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { formatType } from '../graph/types.ts'

export type Snapshot = readonly (string | Tensor)[]

type Metadata = ReadonlyMap<string, string>

export function snapshot(model: Model): Snapshot {
  const out: (string | Tensor)[] = [JSON.stringify([...model.opsets]), String(model.irVersion)]
  out.push(metadataText(model.metadata))
  addGraph(model.graph, out)
  for (const f of model.functions) {
    out.push(`function ${f.domain}::${f.name} ${JSON.stringify([...f.opsets])}`)
    addGraph(f.graph, out)
  }
  return out
}

export function sameSnapshot(a: Snapshot, b: Snapshot): boolean {
  return (
    a.length === b.length &&
    a.every((x, i) => {
      const y = b[i]
      return x === y || (x instanceof Tensor && y instanceof Tensor && x.equals(y))
    })
  )
}

/** One attribute, to compare. */
export function attributeSnapshot(a: Attribute): Snapshot {
  const out: (string | Tensor)[] = []
  addAttribute('', a, out)
  return out
}

const metadataText = (m: Metadata): string => (m.size === 0 ? '' : JSON.stringify([...m].sort()))

function addGraph(graph: Graph, out: (string | Tensor)[]): void {
  out.push(`graph ${graph.name} ${metadataText(graph.metadata)}`)
  for (const v of graph.inputs) out.push(`in ${v.name} ${formatType(v.type)}`)
  for (const v of graph.stored()) {
    out.push(`init ${v.name} ${metadataText(v.metadata)}`, v.stored!)
  }
  const name = (v: Value | null): string => v?.name ?? ''
  for (const n of graph.nodes()) {
    const inputs = n.inputs.map(name).join(' ')
    out.push(`${n.domain}::${n.op} ${n.name} (${inputs}) ${n.outputs.map(name).join(' ')} ${metadataText(n.metadata)}`)
    for (const [key, a] of n.attributes) addAttribute(key, a, out)
  }
  for (const v of graph.outputs) out.push(`out ${v.name} ${formatType(v.type)}`)
}

function addAttribute(key: string, a: Attribute, out: (string | Tensor)[]): void {
  out.push(`${key}: ${a.kind}`)
  if (a.kind === 'tensor') out.push(a.value)
  else if (a.kind === 'tensors') out.push(...a.value)
  else if (a.kind === 'graph') addGraph(a.value, out)
  else if (a.kind === 'graphs') for (const g of a.value) addGraph(g, out)
  else if (a.kind === 'int') out.push(String(a.value))
  else if (a.kind === 'ints') out.push(a.value.join(' '))
  else if (a.kind === 'string') out.push(Buffer.from(a.value).toString('hex'))
  else if (a.kind === 'strings') out.push(a.value.map((s) => Buffer.from(s).toString('hex')).join(' '))
  else if (a.kind === 'float' || a.kind === 'reference') out.push(String(a.value))
  else if (a.kind === 'floats') out.push(a.value.join(' '))
}
