/**
 * Resize: along each axis every output reads a few inputs (interpolation.ts), so
 *
 *   dX = the transpose of that along each resized axis (interpolation.ts); for whole-number enlargement by nearest: the
 *   sum over each block.
 *
 * What is read is worked out here from the node's sizes. Does not apply to `antialias` (its filter widths are
 * onnxruntime's own) nor to sizes and scales that the graph computes without their dims being known.
 *
 * Forms: Upsample (7, 9) becomes Resize 10, whose coordinates are `asymmetric`; 11 put roi before the scales and made
 * the coordinate mode an attribute; 13 made roi and scales optional.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, type GradientContext, noCost, outputSize, unsupportedNode } from './support/define-op.ts'
import { constantNumbers, product, range, reshape, sumAxes } from './support/emit.ts'
import { isLong, repetition, resized, unresized } from './support/interpolation.ts'
import type { AxisMap } from './support/resize-coordinates.ts'
import { replaceNode, substitute } from './support/rewrite.ts'
import { axisFromFront, elemOf } from './support/rules.ts'

/** How each axis that changes is mapped; axis by axis. */
function axisMaps(node: Node): (AxisMap | null)[] {
  const x = node.input(0).dims
  const y = node.output.dims
  const rank = x.length
  const axes = node.ints('axes', range(rank)).map((a) => axisFromFront(a, rank))
  const scales = constantNumbers(node, 2, 'scales')
  const roi = constantNumbers(node, 1, 'roi')
  const sizes = constantNumbers(node, 3, 'sizes')
  const keep = node.string('keep_aspect_ratio_policy', 'stretch')
  return x.map((size, axis) => {
    const at = axes.indexOf(axis)
    if (at < 0) return null
    const out = y[axis]!
    let scale = scales?.length ? scales[at]! : out / size
    if (sizes?.length && keep !== 'stretch') {
      const ratios = axes.map((a, i) => sizes[i]! / x[a]!)
      scale = keep === 'not_larger' ? Math.min(...ratios) : Math.max(...ratios)
    }
    if (scale === 1 && size === out && node.string('coordinate_transformation_mode', '') !== 'tf_crop_and_resize')
      return null
    return { size, out, scale, roi: roi?.length ? [roi[at]!, roi[at + axes.length]!] : [0, 1] }
  })
}

function gradient({ node, dy, b }: GradientContext): (Value | null)[] {
  const g = dy[0]
  if (!g) return []
  if (node.int('antialias', 0)) throw unsupportedNode(node, 'no gradient: resizing with antialias')
  const maps = axisMaps(node)
  const blocks = maps.map((map) => (map ? repetition(node, map) : 1))
  if (blocks.every((k) => k !== null)) return [blockSums(b, g, node.input(0), blocks)]
  let dims: readonly number[] = node.output.dims
  let sum = g
  maps.forEach((map, axis) => {
    if (!map) return
    sum = unresized(b, sum, dims, axis, node, map)
    dims = dims.map((d, i) => (i === axis ? map.size : d))
  })
  return [sum]
}

const f = Math.fround

/**
 * Interpolation as products with matrices and taps, axis by axis. onnxruntime's kernels keep 20 bytes per output position
 * (linear) to 35 and more (cubic) along each axis; its cubic one computes each output's coefficients through a hash map.
 */
function lower(node: Node): boolean {
  const modes = ['half_pixel', 'half_pixel_symmetric', 'pytorch_half_pixel', 'align_corners', 'asymmetric']
  const isKnown = (v: Value | null | undefined): boolean => !v || constantOf(v) !== null
  if (!modes.includes(node.string('coordinate_transformation_mode', 'half_pixel')) || node.int('antialias', 0))
    return false
  if (node.string('mode', 'nearest') === 'nearest' || ![1, 2, 3].every((i) => isKnown(node.inputs[i]))) return false
  if (!['float32', 'float64'].includes(elemOf(node.input(0)))) return false
  const maps = axisMaps(node)
  let dims: readonly number[] = node.input(0).dims
  const isCostly =
    node.string('mode', '') === 'cubic'
      ? outputSize(node) > COSTLY
      : maps.some((map) => map && map.out > COSTLY && isLong(dims, map))
  // type inference multiplies in double precision, the kernel in single: here they disagree about the size
  const isOdd = maps.some((m) => m && constantOf(node.inputs[2])?.size && Math.floor(f(f(m.scale) * m.size)) !== m.out)
  if (!isCostly || isOdd) return false
  const b = node.graph.before(node)
  let y = node.input(0)
  maps.forEach((map, axis) => {
    if (!map) return
    y = resized(b, y, dims, axis, node, map)
    dims = dims.map((d, i) => (i === axis ? map.out : d))
  })
  substitute(node, [y])
  return true
}

/** Outputs, of the linear kernel those along an axis, from which on the kernels' room counts: some megabytes. */
const COSTLY = 2 ** 17

/** Sums blocks of `k[i]` positions along each axis i. Pools are the faster kernels where they apply. */
function blockSums(b: Builder, g: Value, x: Value, k: readonly number[]): Value {
  const dims = x.dims
  if (k.every((n) => n === 1)) return g
  if (k[0] === 1 && k[1] === 1 && dims.length > 2 && dims.length <= 5 && elemOf(x) === 'float32') {
    const mean = b.op('AveragePool', [g], { kernel_shape: k.slice(2), strides: k.slice(2) })
    return b.op('Mul', [mean, b.scalar(product(k))])
  }
  const open = dims.flatMap((d, i) => [d, k[i]!])
  const within = range(dims.length).flatMap((i) => (k[i]! > 1 ? [2 * i + 1] : []))
  return reshape(b, sumAxes(b, reshape(b, g, open), open, within, false), dims)
}

/** Resize 10 to 11: nearest rounded down when enlarging and up when shrinking; 11 has one rounding for all axes. */
function toResize11(node: Node): void {
  const mode = node.string('mode', 'nearest')
  const [x, scales] = [node.input(0), node.input(1)]
  const values = constantOf(scales)?.toNumbers()
  const known = values ? Array.from(values) : null
  const shrinks = known?.some((s) => s < 1) ?? false
  const grows = known?.some((s) => s > 1) ?? true
  const form = (rounding: string) => ({
    mode,
    coordinate_transformation_mode: 'asymmetric',
    ...(mode === 'nearest' && { nearest_mode: rounding }),
  })
  let read = x
  let factors = scales
  if (mode === 'nearest' && shrinks && grows && known) {
    const before = node.graph.before(node)
    const part = (keep: (s: number) => boolean): Value =>
      before.initializer(
        'scales',
        Tensor.float32(
          [known.length],
          known.map((s) => (keep(s) ? s : 1)),
        ),
      )
    read = before.op('Resize', [x, emptyRoi(node), part((s) => s < 1)], form('ceil'))
    factors = part((s) => s > 1)
  }
  replaceNode(node, {
    op: 'Resize',
    inputs: [read, emptyRoi(node), factors],
    attributes: form(shrinks && !grows ? 'ceil' : 'floor'),
  })
}

/** 11 and 12 want a roi even where it is not used. */
const emptyRoi = (node: Node): Value => node.graph.before(node).initializer('roi', Tensor.float32([0], []))

const scales = (values: readonly number[]) => ({ dims: [values.length], values, constant: true })
const sizes = (values: readonly number[]) => ({ dims: [values.length], type: 'int64' as const, values })
const image = { dims: [1, 2, 4, 5] } as const
const line = { dims: [1, 1, 400] } as const

/** Whether batch and channels keep their size, as far as constants tell. */
function spatialOnly(node: Node): boolean {
  const given = constantOf(node.inputs[2])?.toNumbers()
  return node.attributes.get('axes') === undefined && given?.[0] === 1 && given[1] === 1
}

export const resize = defineOp({
  op: 'Resize',
  channels: (node) => (spatialOnly(node) ? 'same' : null),
  // a crop beyond the borders fills with a number
  homogeneous: (node) =>
    node.string('coordinate_transformation_mode', '') === 'tf_crop_and_resize' ? null : 'channel',
  since: [10, 11, 13, 18, 19],
  gradient,
  lower,
  state: [1, 2],
  /** Linear: four mults and three adds for a pair of doubled axes, so 2 mults and 1 add per axis; nearest copies. */
  cost(node) {
    const x = node.input(0).dims
    const taps = { nearest: 1, linear: 2, cubic: 4 }[node.string('mode', 'nearest')] ?? 1
    const window = product(x.map((d, i) => (d === node.output.dims[i] ? 1 : taps)))
    const outputs = outputSize(node)
    return window === 1 ? noCost : { ...noCost, mults: outputs * window, adds: outputs * (window - 1) }
  },
  nonNegative: (node, input) => node.string('mode', 'nearest') !== 'cubic' && input(0),
  upgrades: [{ to: 11, apply: toResize11 }],
  samples: [
    {
      name: 'nearest twice as large',
      inputs: [image, null, scales([1, 1, 2, 2])],
      attributes: { coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
    },
    { name: 'nearest, defaults', inputs: [image, null, scales([1, 1, 2, 3])] },
    { name: 'nearest to odd sizes', inputs: [image, null, null, sizes([1, 2, 7, 3])] },
    {
      name: 'nearest, round up, align corners',
      inputs: [image, null, null, sizes([1, 2, 7, 8])],
      attributes: { coordinate_transformation_mode: 'align_corners', nearest_mode: 'ceil' },
    },
    { name: 'linear', inputs: [image, null, scales([1, 1, 2, 2])], attributes: { mode: 'linear' } },
    {
      name: 'linear, align corners, smaller and larger',
      inputs: [image, null, null, sizes([1, 2, 3, 9])],
      attributes: { mode: 'linear', coordinate_transformation_mode: 'align_corners' },
    },
    {
      name: 'linear over two axes',
      inputs: [image, null, null, sizes([8, 7])],
      attributes: { mode: 'linear', axes: [2, 3], coordinate_transformation_mode: 'pytorch_half_pixel' },
    },
    { name: 'cubic', inputs: [image, null, scales([1, 1, 1.5, 2])], attributes: { mode: 'cubic' } },
    {
      name: 'cubic, outside excluded',
      inputs: [image, null, null, sizes([1, 2, 3, 8])],
      attributes: { mode: 'cubic', exclude_outside: 1, cubic_coeff_a: -0.5 },
    },
    // of a single long line a matrix would be far larger than the line
    { name: 'long line, linear', inputs: [line, null, scales([1, 1, 1.5])], attributes: { mode: 'linear' } },
    { name: 'long line, linear, smaller', inputs: [line, null, scales([1, 1, 0.4])], attributes: { mode: 'linear' } },
    {
      name: 'long line, cubic',
      inputs: [{ dims: [1, 1, 1, 400] }, null, scales([1, 1, 1, 1.25])],
      attributes: { mode: 'cubic' },
    },
    { name: 'long line, nearest', inputs: [line, null, scales([1, 1, 0.75])] },
    {
      name: 'long columns, cubic, outside excluded',
      inputs: [{ dims: [1, 1, 320, 2] }, null, scales([1, 1, 1.5, 1])],
      attributes: { mode: 'cubic', exclude_outside: 1 },
    },
    { name: 'opset 10', inputs: [image, scales([1, 1, 2, 2])], opset: 10 },
    { name: 'opset 10 shrinks and grows', inputs: [image, scales([1, 1, 0.6, 1.5])], opset: 10 },
    {
      name: 'opset 11',
      inputs: [image, { dims: [0], values: [], constant: true }, scales([1, 1, 2, 2])],
      attributes: { mode: 'linear' },
      opset: 11,
    },
  ],
})

export const upsample = defineOp({
  op: 'Upsample',
  since: [7, 9],
  gradient: { unsupported: 'Upsample was replaced by Resize in opset 10; run upgrade-opset' },
  cost: () => noCost,
  state: [1],
  nonNegative: (_node, input) => input(0),
  upgrades: [
    {
      to: 9,
      apply: (node) => {
        const values = node.floats('scales', [])
        node.setAttribute('scales', null)
        node.setInput(1, node.graph.before(node).initializer('scales', Tensor.float32([values.length], values)))
      },
    },
    { to: 10, apply: (node) => void replaceNode(node, { op: 'Resize', inputs: node.inputs }) },
  ],
  samples: [
    {
      name: 'opset 7 nearest',
      inputs: [image],
      attributes: { scales: { kind: 'floats', value: [1, 1, 2, 2] } },
      opset: 7,
    },
    { name: 'opset 9 linear', inputs: [image, scales([1, 1, 2, 2])], attributes: { mode: 'linear' }, opset: 9 },
  ],
})
