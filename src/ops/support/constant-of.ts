/**
 * Constants wherever they stand: initializers, Constant nodes, either after Identity.
 */
import type { Node, Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'

/** The tensor of an initializer, a Constant node's output or an Identity of them; null otherwise (and for sparse ones). */
export function constantOf(value: Value | null | undefined): Tensor | null {
  if (!value) return null
  if (value.constant) return value.constant
  const { producer } = value
  if (producer?.is('Identity')) return constantOf(producer.input(0))
  return producer ? constantNodeTensor(producer) : null
}

export const isConstantNode = (node: Node): boolean => node.is('Constant')

/** The tensor of a Constant node, in any of the forms its attributes take since opset 12; null for strings and sparse. */
export function constantNodeTensor(node: Node): Tensor | null {
  if (!isConstantNode(node)) return null
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
