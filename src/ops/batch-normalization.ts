/**
 * BatchNormalization over axis 1: y = scale * xhat + bias, xhat = (x - mean) * inv, inv = 1 / sqrt(var + epsilon).
 *
 * training_mode = 0: mean and var are inputs like any others. With g the gradient of y, sums over all but the channels:
 *   dbias = sum(g)                      dscale = inv (sum(g x) - mean dbias)      dx = g * (scale inv)
 *   dmean = -scale inv dbias            dvar = -1/2 scale inv^2 dscale
 *
 * training_mode = 1: mean and var are those of the batch of M elements a channel (population variance). With
 * momentum = 0 the second and third outputs *are* the batch statistics; only that form is differentiated. They may have
 * gradients dm, dv of their own, and y may be unused (then the node just measures):
 *   dx = g * (scale inv) + x * k1 + k0
 *   k1 = -scale inv^2 dscale / M + 2 dv / M        k0 = (dm - scale inv dbias) / M - k1 mean
 * x * k1 + k0 is one kernel: an inference-mode BatchNormalization with mean 0, variance 1 and epsilon 0.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import {
  defineOp,
  type GradientContext,
  noCost,
  type OpDef,
  outputSize,
  type Upgrade,
  unsupportedNode,
} from './support/define-op.ts'
import { replaceNode } from './support/rewrite.ts'
import { elemOf } from './support/rules.ts'

function gradient(c: GradientContext): (Value | null)[] {
  const { node } = c
  if (node.int('training_mode', 0) !== 1) return inferenceGradient(c)
  if (node.float('momentum', 0.9) !== 0 || !node.outputs[2])
    throw unsupportedNode(node, 'no gradient: training mode is differentiated with momentum 0 and all three outputs')
  return trainingGradient(c)
}

/** What both modes need of y's gradient g. */
function sums({ node, b }: GradientContext, g: Value, mean: Value, variance: Value) {
  const x = node.input(0)
  const over = b.ints(x.dims.flatMap((_, i) => (i === 1 ? [] : [i])))
  const inv = b.op('Reciprocal', [b.op('Sqrt', [b.op('Add', [variance, b.scalar(node.float('epsilon', 1e-5))])])])
  const dbias = b.op('ReduceSum', [g, over], { keepdims: 0 })
  const product = b.op('ReduceSum', [b.op('Mul', [g, x]), over], { keepdims: 0 })
  const dscale = b.op('Mul', [inv, b.op('Sub', [product, b.op('Mul', [mean, dbias])])])
  return { inv, gain: b.op('Mul', [node.input(1), inv]), dbias, dscale }
}

const perChannel = (b: Builder, v: Value, rank: number, channels: number): Value =>
  b.op('Reshape', [v, b.ints([channels, ...Array<number>(rank - 2).fill(1)])])

function inferenceGradient(c: GradientContext): (Value | null)[] {
  const { node, needs, b } = c
  const g = c.dy[0]
  if (!g) return []
  const { dims } = node.input(0)
  const { inv, gain, dbias, dscale } = sums(c, g, node.input(3), node.input(4))
  const half = b.scalar(-0.5)
  return [
    needs[0] ? b.op('Mul', [g, perChannel(b, gain, dims.length, dims[1]!)]) : null,
    needs[1] ? dscale : null,
    needs[2] ? dbias : null,
    needs[3] ? b.op('Neg', [b.op('Mul', [gain, dbias])]) : null,
    needs[4] ? b.op('Mul', [b.op('Mul', [b.op('Mul', [gain, inv]), dscale]), half]) : null,
  ]
}

function trainingGradient(c: GradientContext): (Value | null)[] {
  const { node, needs, b } = c
  const [g = null, dm = null, dv = null] = c.dy
  const x = node.input(0)
  const { dims } = x
  const mean = node.outputs[1]!
  const perElement = b.scalar(dims[1]! / dims.reduce((p, d) => p * d, 1))
  let slope = dv ? b.op('Add', [dv, dv]) : null
  let offset = dm
  let dense: Value | null = null
  let parts: ReturnType<typeof sums> | null = null
  if (g) {
    parts = sums(c, g, mean, node.outputs[2]!)
    const { gain, inv, dbias, dscale } = parts
    const own = b.op('Neg', [b.op('Mul', [b.op('Mul', [gain, inv]), dscale])])
    slope = slope ? b.op('Add', [slope, own]) : own
    const shift = b.op('Mul', [gain, dbias])
    offset = offset ? b.op('Sub', [offset, shift]) : b.op('Neg', [shift])
    if (needs[0]) dense = b.op('Mul', [g, perChannel(b, gain, dims.length, dims[1]!)])
  }
  let dx: Value | null = null
  if (needs[0]) {
    const k1 = slope && b.op('Mul', [slope, perElement])
    const scaled = offset && b.op('Mul', [offset, perElement])
    const centre = k1 && b.op('Mul', [k1, mean])
    const k0 = scaled && centre ? b.op('Sub', [scaled, centre]) : (scaled ?? (centre && b.op('Neg', [centre])))
    const affine = channelAffine(b, x, k1, k0)
    dx = dense && affine ? b.op('Add', [dense, affine]) : (dense ?? affine)
  }
  return [dx, needs[1] ? (parts?.dscale ?? null) : null, needs[2] ? (parts?.dbias ?? null) : null]
}

/** x * slope + offset per channel, in one kernel. A missing slope is 0, a missing offset too. */
function channelAffine(b: Builder, x: Value, slope: Value | null, offset: Value | null): Value | null {
  if (!slope && !offset) return null
  const channels = x.dims[1]!
  const filled = (value: number): Value => {
    const name = `channels_${channels}_of_${value}`
    return b.shared(name, Tensor.float32([channels], Array<number>(channels).fill(value)))
  }
  const inputs = [x, slope ?? filled(0), offset ?? filled(0), filled(0), filled(1)]
  return b.op('BatchNormalization', inputs, { epsilon: { kind: 'float', value: 0 } }, { type: x.type })
}

/** Up to opset 6 `is_test` = 0, the default, was training mode; opset 7 says that by further outputs. */
const to7: Upgrade = {
  to: 7,
  apply(node) {
    const trains = node.int('is_test', 0) === 0
    node.setAttribute('is_test', null)
    if (!trains) dropStatistics(node)
    else if (node.outputs.length < 2)
      for (const name of ['mean', 'var']) node.addOutput(node.graph.freshName(`${node.output.name}_${name}`))
  },
}

/** Up to opset 8, `spatial` = 0 had a mean and variance per element of the sample: y = (x - mean) * scale * inv + bias. */
const to9: Upgrade = {
  to: 9,
  apply(node) {
    if (node.int('spatial', 1) === 1) return node.setAttribute('spatial', null)
    if (node.outputs.length > 1)
      throw unsupportedNode(
        node,
        'training mode with spatial = 0 has no equivalent in later opsets',
        'run `mnc pass infer-bn` first',
      )
    const b = node.graph.before(node)
    const [x, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map((i) => node.input(i))
    const epsilon = b.scalar(node.float('epsilon', 1e-5), elemOf(variance!))
    const gain = b.op('Div', [scale!, b.op('Sqrt', [b.op('Add', [variance!, epsilon])])])
    const y = b.op('Mul', [b.op('Sub', [x!, mean!]), gain])
    replaceNode(node, { op: 'Add', inputs: [y, bias!], attributes: {} })
  },
}

/**
 * Up to opset 13 a second output (or more) meant training mode: running mean and variance as outputs 1 and 2, as later, and
 * the batch's own as 3 and 4, which have no later form.
 */
const to14: Upgrade = {
  to: 14,
  apply(node) {
    if (node.outputs.length < 2) return
    if (node.outputs.slice(3).some((v) => v?.isUsed))
      throw unsupportedNode(node, 'its saved statistics (outputs 3 and 4) have no equivalent after opset 13')
    for (let i = node.outputs.length - 1; i > 2; i--) node.dropOutput(i)
    node.setAttribute('training_mode', 1)
  },
}

/** In inference the further outputs are what went in: running mean and variance. */
function dropStatistics(node: Node): void {
  for (let i = node.outputs.length - 1; i > 0; i--) {
    const v = node.outputs[i]
    if (!v) continue
    // means are outputs 1 and 3, variances 2 and 4
    if (v.isUsed) node.graph.replaceUses(v, node.input(i % 2 === 1 ? 3 : 4))
    node.dropOutput(i)
  }
}

/** The form of the opset, whatever onnxruntime makes of it (before opset 7 it has no kernel). */
const batchMode: NonNullable<OpDef['batchMode']> = {
  isOn(node, opset) {
    if (opset >= 14) return node.int('training_mode', 0) === 1
    return opset >= 7 ? node.outputs.length > 1 : node.int('is_test', 0) === 0
  },
  turnOff(node, opset) {
    dropStatistics(node)
    if (opset >= 14) node.setAttribute('training_mode', null)
    else if (opset < 7) node.setAttribute('is_test', 1)
  },
}

/** k = scale / sqrt(var + epsilon), c = bias - mean * k. */
const affine: NonNullable<OpDef['affine']> = (node, opset, tensorOf) => {
  if (batchMode.isOn(node, opset)) return 'it is in training mode (infer-bn switches it to inference)'
  if (node.int('spatial', 1) === 0) return 'it normalises each position separately (spatial=0)'
  const parameters = [1, 2, 3, 4].map((i) => {
    const v = node.inputs[i]
    return v && tensorOf(v)?.toNumbers()
  })
  const [scale, bias, mean, variance] = parameters
  if (!scale || !bias || !mean || !variance) return 'its parameters are computed'
  const epsilon = node.float('epsilon', 1e-5)
  const k = Float64Array.from(scale, (s, i) => s / Math.sqrt(variance[i]! + epsilon))
  return { k, c: k.map((s, i) => bias[i]! - mean[i]! * s) }
}

export const batchNormalization = defineOp({
  op: 'BatchNormalization',
  scaledBy: () => ({ axis: 1, inputs: [1, 2] }),
  since: [7, 9, 14, 15],
  gradient,
  parameters: [1, 2],
  state: [3, 4],
  channels: (node) => (node.int('training_mode', 0) === 0 && node.int('spatial', 1) === 1 ? 'same' : null),
  batchMode,
  affine,
  upgrades: [to7, to9, to14],
  cost(node) {
    const n = outputSize(node)
    return { ...noCost, mults: n, adds: n }
  },
  samples: [
    {
      name: 'inference',
      inputs: [
        { dims: [2, 3, 4, 2] },
        { dims: [3], range: [0.5, 1.5] },
        { dims: [3] },
        { dims: [3], constant: true },
        { dims: [3], range: [0.5, 2], constant: true },
      ],
      attributes: { epsilon: 0.001 },
    },
    {
      name: 'training',
      inputs: [
        { dims: [4, 3, 3, 2] },
        { dims: [3], range: [0.5, 1.5] },
        { dims: [3] },
        { dims: [3], constant: true },
        { dims: [3], range: [0.5, 2], constant: true },
      ],
      attributes: { training_mode: 1, momentum: { kind: 'float', value: 0 }, epsilon: 0.001 },
      outputs: 3,
    },
    {
      name: 'opset 7',
      opset: 7,
      inputs: [
        { dims: [2, 3, 2, 2] },
        { dims: [3], range: [0.5, 1.5] },
        { dims: [3] },
        { dims: [3], constant: true },
        { dims: [3], range: [0.5, 2], constant: true },
      ],
    },
  ],
})
