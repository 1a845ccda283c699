/**
 * onnxruntime's MatMulNBits, and the standard operators that say the same:
 *
 *   y = x W' [+ bias]      W [N, K], W[n, k] = (q[n, k] - zero) scale[n, k / block]
 *
 * q in `bits` bits from the low end of each byte of B [N, blocks, bytes] on, zero 2^(bits - 1). Those who count layers unpack it
 * and see a MatMul of integers times scales. Does not apply to zero points of its own and to computed weights.
 */
import type { Graph, Node } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'

export interface PackedProduct {
  readonly bits: number
  readonly block: number
  /** Inputs and outputs. */
  readonly K: number
  readonly N: number
}

/** null for other operators. */
export function packedProduct(node: Node): PackedProduct | null {
  if (node.domain !== 'com.microsoft' || node.op !== 'MatMulNBits') return null
  const [bits, block] = [node.int('bits', 4), node.int('block_size', 128)]
  return { bits, block, K: node.int('K', 0), N: node.int('N', 0) }
}

/** Whether there were any. */
export function unpackProducts(graph: Graph): boolean {
  let found = false
  for (const node of [...graph.nodes()]) {
    const product = packedProduct(node)
    if (!product || !node.inputs[1]?.constant || !node.inputs[2]?.constant || node.inputs[3] || node.inputs[4]) continue
    unpack(node, product)
    found = true
  }
  return found
}

function unpack(node: Node, { bits, block, K, N }: PackedProduct): void {
  const b = node.graph.before(node)
  const blocks = Math.ceil(K / block)
  const lanes = Array.from({ length: 8 / bits }, (_, i) => i * bits)
  const column = b.op('Reshape', [node.input(1), b.ints([-1, 1])])
  const shifted = b.op('BitShift', [column, b.initializer('lanes', Tensor.from('uint8', [lanes.length], lanes))], {
    direction: 'RIGHT',
  })
  const low = bits === 8 ? shifted : b.op('Mod', [shifted, b.scalar(2 ** bits, 'uint8')])
  const float = b.op('Cast', [low], { to: 1 })
  const integers = b.op('Sub', [float, b.scalar(2 ** (bits - 1))])
  const inRows = (v: typeof integers): typeof integers =>
    b.op('Slice', [b.op('Reshape', [v, b.ints([N, -1])]), b.ints([0]), b.ints([K]), b.ints([1])])
  const scales = b.op('Reshape', [node.input(2), b.ints([N, blocks, 1])])
  const repeated = b.op('Expand', [scales, b.ints([N, blocks, block])])
  const weight = b.op('Mul', [inRows(integers), inRows(repeated)])
  const transposed = b.op('Transpose', [weight], { perm: [1, 0] })
  const bias = node.inputs[5]
  const { name, type } = node.output
  const product = b.op('MatMul', [node.input(0), transposed], {}, { type })
  const y = bias ? b.op('Add', [product, bias], {}, { type }) : product
  if (node.name !== '') product.producer!.rename(node.name)
  node.graph.replaceUses(node.output, y)
  node.graph.remove(node)
  if (!node.graph.find(name)) node.graph.rename(y, name)
}
