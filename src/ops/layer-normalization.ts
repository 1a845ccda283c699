/**
 * InstanceNormalization, LayerNormalization, GroupNormalization: Y = s * xh + t, xh = (X - mean) / sqrt(var + eps), the
 * mean and the variance taken over some axes.
 *
 *   ds = sum of dY * xh,  dt = sum of dY, over all axes that s and t lack
 *   dX = (g - mean(g) - xh * mean(g * xh)) / sqrt(var + eps),  g = dY * s
 *
 * LayerNormalization may hand out the mean and r = 1 / sqrt(var + eps): with m elements in the axes these add
 *
 *   dmean / m - dr * r^2 * xh / m
 *
 * to dX. GroupNormalization 18
 * scaled per group, 21 scales per channel.
 */
import type { Node, Value } from '../graph/graph.ts'
import { defineOp, type GradientContext, noCost, outputSize } from './support/define-op.ts'
import { product, range, reshape, sumBack, typed, zeros } from './support/emit.ts'
import { replaceNode } from './support/rewrite.ts'
import { axisFromFront, elemOf, expressions } from './support/rules.ts'

/** What the three share: X in `dims`, normalised over `axes`; scale and shift broadcast to `dims` as `affine`. */
interface Norm {
  readonly dims: readonly number[]
  readonly axes: readonly number[]
  readonly affine: readonly number[]
}

function gradientOf({ node, dy, needs, b }: GradientContext, norm: Norm): (Value | null)[] {
  const { dims, axes, affine } = norm
  const [, dMean, dInverse] = dy
  const [x, scale] = [node.input(0), node.input(1)]
  const elem = elemOf(x)
  const f = expressions(b, x)
  const shaped = (v: Value, to: readonly number[]): Value => (v.dims.join() === to.join() ? v : reshape(b, v, to))
  const mean = (v: Value): Value => b.op('ReduceMean', [v, b.ints(axes)], { keepdims: 1 })
  const g = shaped(dy[0] ? typed(dy[0], node.output.dims, elem) : zeros(b, node.output.dims, elem), dims)
  const centred = f('Sub', shaped(x, dims), mean(shaped(x, dims)))
  const variance = mean(f('Mul', centred, centred))
  const inverse = f('Reciprocal', f('Sqrt', f('Add', variance, node.float('epsilon', 1e-5))))
  const xh = f('Mul', centred, inverse)
  const back = (v: Value): Value => shaped(sumBack(b, typed(v, dims, elem), dims, affine), scale.dims)
  const dX = (): Value => {
    const gs = f('Mul', g, shaped(scale, affine))
    const rest = f('Add', mean(gs), f('Mul', xh, mean(f('Mul', gs, xh))))
    let sum = f('Mul', inverse, f('Sub', gs, rest))
    const count = product(axes.map((i) => dims[i]!))
    if (dMean) sum = f('Add', sum, f('Div', dMean, count))
    if (dInverse) {
      const change = f('Mul', f('Mul', dInverse, f('Mul', inverse, inverse)), xh)
      sum = f('Sub', sum, f('Div', change, count))
    }
    return shaped(typed(sum, dims, elem), x.dims)
  }
  return [needs[0] ? dX() : null, needs[1] ? back(f('Mul', g, xh)) : null, needs[2] ? back(g) : null]
}

/** Mean and variance, then a subtraction, two products and a sum per element. */
const cost = (node: Node) => {
  const n = outputSize(node)
  return { ...noCost, mults: 3 * n, adds: 4 * n }
}

export const instanceNormalization = defineOp({
  op: 'InstanceNormalization',
  scaledBy: () => ({ axis: 1, inputs: [1, 2] }),
  since: [6, 22],
  gradient(c) {
    const dims = c.node.input(0).dims
    if (!c.dy[0]) return []
    return gradientOf(c, {
      dims,
      axes: range(dims.length).slice(2),
      affine: [1, dims[1]!, ...dims.slice(2).map(() => 1)],
    })
  },
  cost,
  parameters: [1, 2],
  samples: [
    { name: 'images', inputs: [{ dims: [2, 3, 4, 2] }, { dims: [3] }, { dims: [3] }] },
    {
      name: 'opset 7',
      inputs: [{ dims: [2, 2, 5] }, { dims: [2] }, { dims: [2] }],
      attributes: { epsilon: 0.01 },
      opset: 7,
    },
  ],
})

export const layerNormalization = defineOp({
  op: 'LayerNormalization',
  scaledBy: (_, rank) => ({ axis: rank - 1, inputs: [1, 2] }),
  optionalOutputs: true,
  since: [17],
  gradient(c) {
    const dims = c.node.input(0).dims
    const axis = axisFromFront(c.node.int('axis', -1), dims.length)
    const scale = c.node.input(1).dims
    const affine = [...Array<number>(dims.length - scale.length).fill(1), ...scale]
    return gradientOf(c, { dims, axes: range(dims.length).slice(axis), affine })
  },
  cost,
  parameters: [1, 2],
  samples: [
    { name: 'mean and deviation handed out', inputs: [{ dims: [2, 3, 4] }, { dims: [4] }], outputs: 3 },
    { name: 'last axis', inputs: [{ dims: [2, 3, 5] }, { dims: [5] }, { dims: [5] }] },
    { name: 'two axes, no shift', inputs: [{ dims: [2, 3, 4] }, { dims: [3, 4] }], attributes: { axis: 1 }, opset: 17 },
  ],
})

/** Dims of X with the channels split into groups. */
const grouped = (node: Node): number[] => {
  const [n, c, ...spatial] = node.input(0).dims
  const groups = node.int('num_groups', 1)
  return [n!, groups, c! / groups, ...spatial]
}

export const groupNormalization = defineOp({
  op: 'GroupNormalization',
  scaledBy: () => ({ axis: 1, inputs: [1, 2] }),
  since: [18, 21],
  gradient(c) {
    if (!c.dy[0]) return []
    const dims = grouped(c.node)
    const affine = [1, dims[1]!, dims[2]!, ...dims.slice(3).map(() => 1)]
    return gradientOf(c, { dims, axes: range(dims.length).slice(2), affine })
  },
  cost,
  parameters: [1, 2],
  upgrades: [
    {
      to: 21,
      // a scale per group is an InstanceNormalization of the groups: that needs no count of channels
      apply(node) {
        const b = node.graph.before(node)
        const x = node.input(0)
        const groups = b.op('Reshape', [x, b.ints([0, node.int('num_groups', 1), -1])])
        const epsilon = { kind: 'float', value: node.float('epsilon', 1e-5) } as const
        const normal = b.op('InstanceNormalization', [groups, node.input(1), node.input(2)], { epsilon })
        replaceNode(node, { op: 'Reshape', inputs: [normal, b.op('Shape', [x])], attributes: {} })
      },
    },
  ],
  samples: [
    {
      name: 'two groups',
      inputs: [{ dims: [2, 4, 3, 2] }, { dims: [4] }, { dims: [4] }],
      attributes: { num_groups: 2 },
    },
    {
      name: 'opset 18',
      inputs: [{ dims: [2, 6, 3] }, { dims: [3] }, { dims: [3] }],
      attributes: { num_groups: 3 },
      opset: 18,
    },
  ],
})
