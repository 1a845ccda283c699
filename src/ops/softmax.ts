/**
 * Softmax, LogSoftmax, Hardmax along one axis. Before opset 13 they flattened the input to two dims at `axis` and
 * normalised over all of the second; where everything after the axis has size 1 that is the same thing, elsewhere the
 * upgrade writes the flattening out.
 */
import type { Node } from '../graph/graph.ts'
import { isStatic } from '../graph/types.ts'
import { type Cost, defineOp, type OpDef, outputSize, type Upgrade } from './support/define-op.ts'
import { axisFromFront, expressions } from './support/rules.ts'

const axisOf = (node: Node): number => axisFromFront(node.int('axis', -1), node.output.dims.length)

const flattenToAxis: Upgrade = {
  to: 13,
  apply(node) {
    const x = node.input(0)
    const dims = x.constant?.dims ?? x.type?.dims ?? null
    const axis = dims ? axisFromFront(node.int('axis', 1), dims.length) : node.int('axis', 1)
    node.setAttribute('axis', axis)
    if (dims?.slice(axis + 1).every((d) => d === 1) || axis === -1) return
    const before = node.graph.before(node)
    const shape = isStatic(dims) ? before.ints(dims) : before.op('Shape', [x])
    node.setInput(0, before.op('Flatten', [x], { axis }))
    node.setAttribute('axis', -1)
    const { output } = node
    const { type } = output
    output.setType(null)
    const back = node.graph.after(node).op('Reshape', [output, shape], {}, { name: `${output.name}_unflat`, type })
    node.graph.replaceUses(output, back, back.producer ?? undefined)
  },
}

/** An exponential (1), a division by the sum (1 mult) and the sum itself (k - 1 additions per row of k). */
function normalisationCost(node: Node): Cost {
  const n = outputSize(node)
  const row = node.output.dims[axisOf(node)] ?? 1
  return { macs: 0, mults: 2 * n, adds: n - n / Math.max(1, row), comparisons: 0 }
}

const wide = { dims: [2, 3, 4] }
const samples = [
  { name: 'last axis', inputs: [wide] },
  { name: 'axis 1', inputs: [wide], attributes: { axis: 1 } },
  { name: 'opset 7, two dims', opset: 7, inputs: [{ dims: [3, 4] }] },
  { name: 'opset 7, flattens', opset: 7, inputs: [wide] },
  { name: 'opset 11, ones behind', opset: 11, inputs: [{ dims: [2, 3, 1, 1] }], attributes: { axis: -3 } },
]
const shared = { since: [1, 11, 13], upgrades: [flattenToAxis], samples }

export const softmaxes: readonly OpDef[] = [
  // y = e^x / sum e^x: dx = dy y - y sum(dy y)
  defineOp({
    op: 'Softmax',
    ...shared,
    distribution: 'linear',
    gradient({ node, dy: [dy], b }) {
      if (!dy) return []
      const y = node.output
      const f = expressions(b, y)
      const weighted = f('Mul', dy, y)
      const total = b.op('ReduceSum', [weighted, b.ints([axisOf(node)])], { keepdims: 1 })
      return [f('Sub', weighted, f('Mul', y, total))]
    },
    cost: normalisationCost,
    nonNegative: () => true,
  }),
  // y = x - ln sum e^x: dx = dy - e^y sum(dy)
  defineOp({
    op: 'LogSoftmax',
    ...shared,
    distribution: 'log',
    gradient({ node, dy: [dy], b }) {
      if (!dy) return []
      const f = expressions(b, node.output)
      const total = b.op('ReduceSum', [dy, b.ints([axisOf(node)])], { keepdims: 1 })
      return [f('Sub', dy, f('Mul', f('Exp', node.output), total))]
    },
    cost: normalisationCost,
  }),
  defineOp({
    op: 'Hardmax',
    ...shared,
    gradient: 'zero',
    cost: (node) => ({ macs: 0, mults: 0, adds: 0, comparisons: outputSize(node) }),
    nonNegative: () => true,
  }),
]
