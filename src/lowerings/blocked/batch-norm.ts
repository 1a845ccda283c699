/**
 * BatchNormalization of a blocked value. onnxruntime's own kernel reads the plain layout and runs on one core.
 *
 *   inference, or an affine map    y = x * scale / sqrt(var + eps) + (bias - mean * that)
 *   training                       the same with mean = E[x], var = E[x^2] - mean^2
 *
 * E[x^2] - mean^2 loses what mean^2 is larger than var by, so the training form applies only to values that are centred
 * beforehand, by about the mean (`marks.centred`, set where the step subtracts the running mean).
 */

import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import { marks } from '../../graph/marks.ts'
import type { BlockedLayout, Twin } from './layout.ts'

export function blockBatchNorm(node: Node, layout: BlockedLayout): boolean {
  const training = node.int('training_mode', 0) === 1
  if (training && !measurable(node)) return false
  const b = layout.graph.before(node)
  const x = layout.twin(node.input(0)) ?? layout.wantedTwin(b, node.input(0))
  if (!x) return false
  const { mean, variance } = training ? measured(b, x, layout) : { mean: node.input(3), variance: node.input(4) }
  const gain = scaled(b, node, variance)
  const shift = isAll(mean, 0) ? node.input(2) : b.op('Sub', [node.input(2), b.op('Mul', [mean, gain])])
  const y = layout.affine(b, x, gain, shift)
  for (const [out, now] of [
    [node.outputs[1], mean],
    [node.outputs[2], variance],
  ] as const)
    if (out) layout.graph.replaceUses(out, now)
  layout.replace(node, y, x.dims[1], x.dims)
  return true
}

const measurable = (node: Node): boolean =>
  node.float('momentum', 0.9) === 0 && node.input(0).producer !== null && marks.centred.is(node)

function measured(b: Builder, x: Twin, layout: BlockedLayout): { mean: Value; variance: Value } {
  const type = { elem: 'float32', dims: [x.dims[1]] } as const
  const mean = layout.channelMean(b, x)
  const [n, , h, w] = x.dims
  const square = b.op('Mul', [layout.channelProducts(b, x, x), b.scalar(1 / (n * h * w))])
  const spread = b.op('Sub', [square, b.op('Mul', [mean, mean])])
  return { mean, variance: b.op('Max', [spread, b.scalar(0)], {}, { type }) }
}

/** scale / sqrt(variance + epsilon) */
function scaled(b: Builder, node: Node, variance: Value): Value {
  const epsilon = node.float('epsilon', 1e-5)
  if (epsilon === 0 && isAll(variance, 1)) return node.input(1)
  const deviation = b.op('Sqrt', [b.op('Add', [variance, b.scalar(epsilon)])])
  return b.op('Mul', [node.input(1), b.op('Reciprocal', [deviation])])
}

const isAll = (v: Value, number: number): boolean =>
  v.constant !== null && Array.from(v.constant.toNumbers()).every((x) => x === number)
