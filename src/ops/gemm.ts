/**
 * Gemm: Y = alpha A' B' + beta C, A' = A or A^T (transA), B' likewise.
 *
 *   dA = alpha dY B'^T       (transA: alpha B' dY^T)
 *   dB = alpha A'^T dY       (transB: alpha dY^T A')
 *   dC = beta dY, summed over the axes along which C was broadcast
 */
import type { Value } from '../graph/graph.ts'
import { keepWide } from '../graph/hints.ts'
import { defineOp, type GradientContext, noCost } from './support/define-op.ts'
import { product, sumBack, typed } from './support/emit.ts'
import { elemOf } from './support/rules.ts'

function gradient({ node, dy, needs, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  const [a, w, c] = [node.input(0), node.input(1), node.inputs[2]]
  const transA = node.int('transA', 0)
  const transB = node.int('transB', 0)
  const alpha = node.float('alpha', 1)
  const beta = node.float('beta', 1)
  const elem = elemOf(node.output)
  const gemm = (l: Value, r: Value, tl: number, tr: number): Value =>
    b.op('Gemm', [l, r], {
      alpha: { kind: 'float', value: alpha },
      ...(tl && { transA: 1 }),
      ...(tr && { transB: 1 }),
    })
  const dA = () => typed(transA ? gemm(w, g, transB, 1) : gemm(g, w, 0, 1 - transB), a.dims, elem)
  const dB = () => typed(keepWide(transB ? gemm(g, a, 1, transA) : gemm(a, g, 1 - transA, 0)), w.dims, elem)
  const dC = () => {
    const sum = sumBack(b, typed(g, node.output.dims, elem), node.output.dims, c!.dims)
    return beta === 1 ? sum : b.op('Mul', [sum, b.scalar(beta, elem)], {}, { type: { elem, dims: c!.dims } })
  }
  return [needs[0] ? dA() : null, needs[1] ? dB() : null, needs[2] ? dC() : null]
}

export const gemm = defineOp({
  op: 'Gemm',
  half: true,
  since: [7, 9, 11, 13],
  defaults: { alpha: 1, beta: 1, transA: 0, transB: 0 },
  gradient,
  weights: [
    {
      input: 1,
      data: 0,
      channels: 'matrix',
      bias: 2,
      factors: { product: 'alpha', bias: 'beta' },
      transposesData: (node) => node.int('transA', 0) === 1,
      outputAxis: (node) => (node.int('transB', 0) ? 0 : 1),
      inputAxis: (node) => (node.int('transB', 0) ? 1 : 0),
    },
  ],
  parameters: [1, 2],
  cost(node) {
    const outputs = product(node.output.dims)
    const inner = node.input(0).dims[node.int('transA', 0) ? 0 : 1]!
    const scaled = node.float('alpha', 1) === 1 ? 0 : outputs
    const bias = node.inputs[2]
    const biasScaled = bias && node.float('beta', 1) !== 1 ? product(bias.dims) : 0
    return {
      ...noCost,
      macs: outputs * inner,
      mults: outputs * inner + scaled + biasScaled,
      adds: outputs * (inner - 1) + (bias ? outputs : 0),
    }
  },
  samples: [
    { name: 'plain', inputs: [{ dims: [3, 4] }, { dims: [4, 5] }] },
    { name: 'linear layer', inputs: [{ dims: [3, 4] }, { dims: [5, 4] }, { dims: [5] }], attributes: { transB: 1 } },
    {
      name: 'transA, alpha, beta, bias column',
      inputs: [{ dims: [4, 3] }, { dims: [4, 5] }, { dims: [3, 1] }],
      attributes: { transA: 1, alpha: 0.5, beta: 0.25 },
    },
    {
      name: 'both transposed, scalar bias',
      inputs: [{ dims: [4, 3] }, { dims: [5, 4] }, { dims: [] }],
      attributes: { transA: 1, transB: 1, alpha: 1.5 },
    },
    {
      name: 'opset 7',
      inputs: [{ dims: [2, 3] }, { dims: [4, 3] }, { dims: [1, 4] }],
      attributes: { transB: 1 },
      opset: 7,
    },
  ],
})
