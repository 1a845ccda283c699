/**
 * MatMul, as in numpy: Y[.., m, n] = sum_k A[.., m, k] B[.., k, n], leading axes broadcast; a 1-D operand is a row (left)
 * or a column (right) whose axis is dropped from Y.
 *
 *   dA = dY B^T,  dB = A^T dY, summed over the leading axes along which the operand was broadcast.
 *
 * A 2-D B (a linear layer over many positions) takes one product over all positions instead of one per leading index.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { keepWide } from '../graph/hints.ts'
import { defineOp, type GradientContext, noCost } from './support/define-op.ts'
import { product, range, reshape, sumBack, transpose, typed } from './support/emit.ts'
import { elemOf } from './support/rules.ts'

const swapped = (b: Builder, v: Value, dims: readonly number[]): Value => {
  const r = dims.length
  return transpose(b, v, [...range(r - 2), r - 1, r - 2])
}

function gradient({ node, dy, needs, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const [left, right] = [node.input(0), node.input(1)]
  const elem = elemOf(node.output)
  // both operands as matrices, dY with the axes that 1-D operands dropped
  const aDims = left.dims.length === 1 ? [1, ...left.dims] : left.dims
  const bDims = right.dims.length === 1 ? [...right.dims, 1] : right.dims
  const [m, k, n] = [aDims.at(-2)!, aDims.at(-1)!, bDims.at(-1)!]
  const lead = node.output.dims.slice(0, node.output.dims.length - (left.dims.length > 1 ? 1 : 0))
  const batch = right.dims.length > 1 ? lead.slice(0, -1) : lead
  const yDims = [...batch, m, n]
  const whole = left.dims.length > 1 && right.dims.length > 1
  const gm = whole ? typed(g, yDims, elem) : reshape(b, g, yDims)
  const am = left.dims.length === 1 ? reshape(b, left, aDims) : left
  const bm = right.dims.length === 1 ? reshape(b, right, bDims) : right

  const matmul = (x: Value, y: Value, dims: readonly number[]): Value =>
    b.op('MatMul', [x, y], {}, { type: { elem, dims } })
  const back = (v: Value, to: readonly number[], given: readonly number[]): Value => {
    const sum = sumBack(b, v, v.dims, to)
    return to.length === given.length ? sum : reshape(b, sum, given)
  }
  const dA = (): Value => {
    if (bDims.length === 2 && aDims.length > 2) {
      const flat = b.op('Gemm', [reshape(b, gm, [product(batch) * m, n]), bm], { transB: 1 })
      return reshape(b, flat, left.dims)
    }
    return back(matmul(gm, swapped(b, bm, bDims), [...batch, m, k]), aDims, left.dims)
  }
  const dB = (): Value => {
    if (bDims.length === 2) {
      const rows = product(batch) * m
      const flat = aDims.length === 2 ? am : reshape(b, am, [rows, k])
      const gFlat = yDims.length === 2 ? gm : reshape(b, gm, [rows, n])
      const sum = typed(keepWide(b.op('Gemm', [flat, gFlat], { transA: 1 })), bDims, elem)
      return right.dims.length === 2 ? sum : reshape(b, sum, right.dims)
    }
    return back(matmul(swapped(b, am, aDims), gm, [...batch, k, n]), bDims, right.dims)
  }
  return [needs[0] ? dA() : null, needs[1] ? dB() : null]
}

/** What a weight passes on its way that keeps its rank: masks, quantisers. */
const KEEP_RANK = new Set(['Mul', 'QuantizeLinear', 'Clip', 'DequantizeLinear', 'Cast', 'Identity', 'Transpose'])

/** Weights are asked for before shapes are inferred: a computed operand of unknown rank counts as a matrix. */
function rightRank(node: Node): number {
  for (let v = node.input(1); ; v = v.producer.input(0)) {
    const dims = v.constant?.dims ?? v.type?.dims
    if (dims) return dims.length
    if (!v.producer || !KEEP_RANK.has(v.producer.op)) return 2
  }
}

export const matmul = defineOp({
  op: 'MatMul',
  half: true,
  since: [1, 9, 13],
  gradient,
  weights: [
    {
      input: 1,
      data: 0,
      channels: 'rows',
      outputAxis: (node) => Math.max(0, rightRank(node) - 1),
      inputAxis: (node) => Math.max(0, rightRank(node) - 2),
    },
  ],
  parameters: [1],
  cost(node) {
    const outputs = product(node.output.dims)
    const inner = node.input(0).dims.at(-1)!
    return { ...noCost, macs: outputs * inner, mults: outputs * inner, adds: outputs * (inner - 1) }
  },
  samples: [
    { name: 'matrices', inputs: [{ dims: [3, 4] }, { dims: [4, 5] }] },
    { name: 'positions by a matrix', inputs: [{ dims: [2, 3, 4] }, { dims: [4, 5] }] },
    { name: 'batched', inputs: [{ dims: [2, 3, 4] }, { dims: [2, 4, 5] }] },
    { name: 'broadcast both ways', inputs: [{ dims: [2, 1, 3, 4] }, { dims: [5, 4, 2] }] },
    { name: 'matrix by a batch', inputs: [{ dims: [3, 4] }, { dims: [2, 4, 5] }] },
    { name: 'vector by matrix', inputs: [{ dims: [4] }, { dims: [4, 5] }] },
    { name: 'matrix by vector', inputs: [{ dims: [3, 4] }, { dims: [4] }] },
    { name: 'batch by vector', inputs: [{ dims: [2, 3, 4] }, { dims: [4] }] },
    { name: 'vector by batch', inputs: [{ dims: [4] }, { dims: [2, 4, 5] }] },
    { name: 'vector by vector', inputs: [{ dims: [4] }, { dims: [4] }] },
    { name: 'opset 9', inputs: [{ dims: [2, 3] }, { dims: [3, 2] }], opset: 9 },
  ],
})
