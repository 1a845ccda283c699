/**
 * A normalisation between quantisers, k x + c a channel, as a depthwise 1x1 convolution with 8-bit weights, which has an integer
 * kernel (BatchNormalization has none; DenseNet has one behind every Concat):
 *
 *   w = round(k / u),  b = round(c / (s u)),  u = |k| / 64       s: the step of x
 *
 * 64 and not 127, as kernels without VNNI add two products in 16 bits. u is larger where b would not fit 32 bits, and the
 * share of a step that b is a whole number of is 1/64: levels differ from the float graph's by one here and there. 312 channels of 8 x 8, batch
 * 32: 0.23 ms, 0.87 in floats between the same quantisers (AVX-512 VNNI, one thread).
 *
 * Does not apply where anything but quantisers reads the result: its floats would have to be computed anyway.
 */
import type { Graph, Node } from '../../graph/graph.ts'
import { sweepNode } from '../../graph/sweep.ts'
import { Tensor } from '../../graph/tensor.ts'
import { dequantizeBehind, isChannelNorm, isQuantize } from '../../ops/facts.ts'
import { type ChannelAffine, findOp } from '../../ops/index.ts'
import { WORKING_OPSET } from '../../ops/raise-opset.ts'
import { roundHalfEven } from '../../quant/quantizer.ts'
import { LARGEST_SUM, SAFE_INTEGER } from './integer-bias.ts'
import type { Inexact } from './integer-form.ts'

/** Returns the layers that it wrote, as `inexact` of a report names them. */
export function lowerNorms(graph: Graph): Inexact[] {
  const written: Inexact[] = []
  for (const node of [...graph.nodes()]) {
    if (!isChannelNorm(node) || node.output.isOutput) continue
    const d = dequantizeBehind(node.input(0))
    const [step, zero] = [d?.inputs[1]?.constant, d?.inputs[2]?.constant]
    if (step?.size !== 1 || zero?.type !== 'uint8' || zero.size !== 1) continue
    if (node.output.uses.size === 0 || ![...node.output.uses].every(isQuantize)) continue
    const affine = findOp(node)?.affine?.(node, WORKING_OPSET, (v) => v.constant)
    const rank = node.input(0).type?.dims?.length ?? node.output.type?.dims?.length
    if (!affine || typeof affine === 'string' || rank === undefined || rank < 3) continue
    written.push({ layer: node.id, reason: 'its factors and offsets are rounded to integers' })
    emit(node, affine, step.item(), rank - 2)
  }
  return written
}

function emit(node: Node, { k, c }: ChannelAffine, step: number, spatial: number): void {
  const { graph, output } = node
  const { name } = output
  const channels = k.length
  const units = Float32Array.from(k, (v, i) =>
    Math.max(Math.abs(v) / SAFE_INTEGER, Math.abs(c[i]!) / (step * LARGEST_SUM), LEAST_UNIT),
  )
  const b = graph.before(node)
  const integers = (what: string, tensor: Tensor, scales: Float32Array) =>
    b.op(
      'DequantizeLinear',
      [
        b.initializer(`${name}.${what}`, tensor),
        b.initializer(`${name}.${what}.s`, Tensor.float32([channels], scales)),
      ],
      { axis: 0 },
      { name: `${name}.${what}.d` },
    )
  const ones = Array.from({ length: spatial }, () => 1)
  const w = Tensor.from(
    'int8',
    [channels, 1, ...ones],
    Float64Array.from(k, (v, i) => roundHalfEven(v / units[i]!)),
  )
  const biasUnits = units.map((u) => Math.fround(Math.fround(step) * u))
  const bias = Tensor.from(
    'int32',
    [channels],
    Float64Array.from(c, (v, i) => roundHalfEven(v / biasUnits[i]!)),
  )
  const inputs = [node.input(0), integers('k', w, units), integers('c', bias, biasUnits)]
  const y = b.op('Conv', inputs, { group: channels, kernel_shape: ones }, { name: '_n', type: output.type })
  graph.replaceUses(output, y)
  sweepNode(node)
  if (!graph.find(name)) graph.rename(y, name)
}

/** For channels of 0: no subnormal. */
const LEAST_UNIT = 2 ** -100
