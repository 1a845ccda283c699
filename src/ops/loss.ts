/**
 * NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss, differentiated as what they are made of. x the logarithms of
 * probabilities (of Softmax over axis 1 for the second), t the classes, w their weights (0 where t is ignore_index):
 *
 *   l = -w[t] x[t]       none: l   sum: sum of l   mean: sum of l / sum of w[t]
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { elementTypes } from '../graph/types.ts'
import { type Cost, defineOp, type OpDef, type OpSample } from './support/define-op.ts'
import { product } from './support/emit.ts'
import { substitute } from './support/rewrite.ts'
import { elemOf } from './support/rules.ts'

function lossOf(b: Builder, node: Node, logarithms: Value): Value {
  const [target, weight] = [node.input(1), node.inputs[2]]
  const elem = elemOf(node.input(0))
  const whole = b.op('Cast', [target], { to: elementTypes.int64.code })
  const ignored = node.attributes.has('ignore_index')
  const valid = ignored ? b.op('Not', [b.op('Equal', [whole, b.scalar(node.int('ignore_index', 0), 'int64')])]) : null
  const index = valid ? b.op('Where', [valid, whole, b.scalar(0, 'int64')]) : whole
  const column = b.ints([1])
  const picked = b.op('GatherElements', [logarithms, b.op('Unsqueeze', [index, column])], { axis: 1 })
  const loss = b.op('Neg', [b.op('Squeeze', [picked, column])])
  const share = valid && b.op('Cast', [valid], { to: elementTypes[elem].code })
  const classWeight = weight ? b.op('Gather', [weight, index]) : null
  const factor = share && classWeight ? b.op('Mul', [share, classWeight]) : (share ?? classWeight)
  const weighted = factor ? b.op('Mul', [loss, factor]) : loss
  const reduction = node.string('reduction', 'mean')
  if (reduction === 'none') return b.op('Identity', [weighted])
  const sum = b.op('ReduceSum', [weighted], { keepdims: 0 })
  if (reduction === 'sum') return sum
  const count = factor ? b.op('ReduceSum', [factor], { keepdims: 0 }) : b.scalar(product(target.dims), elem)
  return b.op('Div', [sum, count])
}

const cost = (node: Node): Cost => {
  const n = product(node.input(0).dims)
  return { macs: 0, mults: n, adds: 2 * n, comparisons: 0 }
}

const scores = { dims: [3, 4] }
const images = { dims: [2, 3, 2, 2] }
const classes = (dims: readonly number[], values: readonly number[]) => ({ dims, type: 'int64' as const, values })
const pixels = classes([2, 2, 2], [0, 1, 2, 0, 1, 1, 0, 2])
const weights = { dims: [4], range: [0.5, 1.5] as const, constant: true }
const labels = classes([3], [2, 0, 3])

const samples: readonly OpSample[] = [
  { name: 'mean', inputs: [scores, labels] },
  { name: 'weighted mean, one ignored', inputs: [scores, labels, weights], attributes: { ignore_index: 0 } },
  { name: 'sum over pixels', inputs: [images, pixels], attributes: { reduction: 'sum' } },
  { name: 'each pixel', inputs: [images, pixels], attributes: { reduction: 'none' } },
]

const loss = (op: string, since: readonly number[], rest: Pick<OpDef, 'decompose' | 'samples'>): OpDef =>
  defineOp({ op, since, gradient: 'decompose', cost, ...rest })

export const losses: readonly OpDef[] = [
  loss('NegativeLogLikelihoodLoss', [12, 13, 22], {
    decompose: (node) => substitute(node, [lossOf(node.graph.before(node), node, node.input(0))]),
    samples,
  }),
  loss('SoftmaxCrossEntropyLoss', [12, 13], {
    decompose(node) {
      const b = node.graph.before(node)
      const logarithms = b.op('LogSoftmax', [node.input(0)], { axis: 1 })
      const second = node.outputs[1]?.isUsed ? b.op('Identity', [logarithms]) : null
      substitute(node, [lossOf(b, node, logarithms), second])
    },
    samples: [...samples, { name: 'logarithms handed out', inputs: [scores, labels], outputs: 2 }],
  }),
]
