/** Constants wherever they stand: initializers, Constant nodes, either behind Identity; and clearing away what an edit left unused. */
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'

/** The tensor of an initializer, a Constant node's output or an Identity of them; null otherwise (and for sparse ones). */
export function constantOf(value: Value | null | undefined): Tensor | null {
  if (!value) return null
  if (value.constant) return value.constant
  const node = value.producer
  if (node?.op === 'Identity' && node.domain === '') return constantOf(node.input(0))
  return node?.op === 'Constant' && node.domain === '' ? constantNodeTensor(node) : null
}

/** What a Constant node gives, in any of the forms its attributes take since opset 12; null for strings and sparse. */
export function constantNodeTensor(node: Node): Tensor | null {
  const tensor = node.tensor('value')
  if (tensor) return tensor
  for (const [key, a] of node.attributes) {
    if (key === 'value_float' && a.kind === 'float') return Tensor.scalar(a.value)
    if (key === 'value_floats' && a.kind === 'floats') return Tensor.from('float32', [a.value.length], a.value)
    if (key === 'value_int' && a.kind === 'int') return Tensor.of('int64', [], BigInt64Array.of(a.value))
    if (key === 'value_ints' && a.kind === 'ints')
      return Tensor.of('int64', [a.value.length], BigInt64Array.from(a.value))
  }
  return null
}

/** Removes those of `nodes` (users before producers) that nothing reads, and the constants that only they read. */
export function removeUnused(nodes: Iterable<Node>): void {
  for (const n of nodes) {
    if (!n.attached || n.outputs.some((v) => v?.isUsed)) continue
    const inputs = new Set(n.inputs)
    n.graph.remove(n)
    for (const v of inputs) if (v) dropConstant(v)
  }
}

/** Removes an initializer or Constant node that nothing reads. */
export function dropConstant(v: Value): void {
  if (v.isUsed) return
  if (v.constant) v.graph.removeInitializer(v)
  else if (v.producer?.op === 'Constant' && v.producer.domain === '') v.graph.remove(v.producer)
}
