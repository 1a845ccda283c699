/**
 * Scales and shifts of a layer's inputs and outputs taken into its weight and bias: y = k * layer(x) + c per output
 * channel, or layer(k * x + c) per input channel. Conv and ConvTranspose with groups, Gemm, MatMul of rank 2.
 */
import type { Node, Value } from '../graph/graph.ts'
import { padsInput } from '../graph/sliding-window.ts'
import { Tensor } from '../graph/tensor.ts'
import type { ElementType } from '../graph/types.ts'
import {
  biasFactor,
  biasOf,
  constantOf,
  dropBiasFactor,
  groupsOf,
  isAddition,
  productFactor,
  setBias,
  takesBias,
} from '../ops/facts.ts'
import { type ChannelAffine, channelSlot } from '../ops/index.ts'
import { asInitializer, type WeightLayer } from './layers.ts'
import { dropConstant } from './remove-unused.ts'

/** Why the layer's weight must not be edited; null where it may. */
export function editableLayer({
  node,
  users,
  otherUser,
  handedOut,
  quant,
  tensor,
  outputAxis,
  inputAxis,
}: WeightLayer): string | null {
  if (users.length > 1) return `the weight of ${node.label} is shared with ${users.find((n) => n !== node)?.label}`
  if (otherUser) return `the weight of ${node.label} is also read by ${otherUser.label}`
  if (handedOut) return `'${handedOut.name}', the weight of ${node.label}, is an output of the model`
  if (quant || !tensor.type.includes('float')) return `the weight of ${node.label} is quantised`
  if (outputAxis === null || inputAxis === null) return `a Reshape of the weight of ${node.label} hides its channels`
  return null
}

/** Why `addBias` cannot be done; null where it can. */
export function canBias(node: Node, channels: number, rank: (v: Value) => number | null): string | null {
  if (channelSlot(node)?.channels === 'rows' && rank(node.output) !== 2) return `${node.label} is not of rank 2`
  const bias = biasOf(node)
  if (!bias) return null
  const tensor = constantOf(bias)
  if (!tensor) return `the bias of ${node.label} is computed`
  const perColumn = tensor.size === 1 || (tensor.size === channels && tensor.dims.at(-1) === channels)
  return perColumn ? null : `the bias of ${node.label} differs between rows`
}

/** Why inputs cannot be scaled and shifted by `c` exactly; null where they can. */
export function canShiftInputs(node: Node, { c }: ChannelAffine, rank: (v: Value) => number | null): string | null {
  const { channels, transposesData, transposed } = channelSlot(node)!
  if (channels === 'rows' && rank(node.input(0)) !== 2) return `${node.label} is not of rank 2`
  if (transposesData?.(node)) return `${node.label} transposes its input`
  if (channels !== 'window' || c.every((x) => x === 0)) return null
  if (transposed) return `${node.label} sums different numbers of inputs at its borders`
  return padsInput(node) ? `${node.label} pads, and the shift is not zero` : null
}

/**
 * Calls `f` for each run of weight elements that share an output and an input channel, of the `count` elements from
 * `first` on: where the run starts and ends after `first`, and the two channels.
 */
export function eachRun(
  { node, tensor, outputAxis, inputAxis }: WeightLayer,
  first: number,
  count: number,
  f: (from: number, to: number, o: number, i: number) => void,
) {
  const { dims } = tensor
  const stride = (axis: number): number => dims.slice(axis + 1).reduce((a, b) => a * b, 1)
  const [outs, ins] = [dims[outputAxis!]!, dims[inputAxis!]!]
  const [outStride, inStride] = [stride(outputAxis!), stride(inputAxis!)]
  const run = Math.min(outStride, inStride)
  const groups = groupsOf(node)
  const { transposed } = channelSlot(node)!
  for (let from = 0; from < count; ) {
    const e = first + from
    const to = Math.min(count, from + run - (e % run))
    const o = Math.floor(e / outStride) % outs
    const i = Math.floor(e / inStride) % ins
    if (transposed) f(from, to, Math.floor((i * groups) / ins) * outs + o, i)
    else f(from, to, o, Math.floor((o * groups) / outs) * ins + i)
    from = to
  }
}

/** The bias that a shift c of the inputs amounts to: sum over inputs of W * c, per output channel (mask honoured). */
export function shiftOfInputs(layer: WeightLayer, c: Float64Array, channels: number): Float64Array {
  const out = new Float64Array(channels)
  const alpha = productFactor(layer.node)
  const mask = layer.mask?.constant?.toFloat32()
  let first = 0
  for (const part of layer.tensor.parts()) {
    const w = part.toFloat32()
    eachRun(layer, first, w.length, (from, to, o, i) => {
      for (let e = from; e < to; e++) out[o]! += alpha * w[e]! * (mask?.[first + e] ?? 1) * c[i]!
    })
    first += w.length
  }
  return out
}

/**
 * Why float16 cannot hold a weight scaled by k: it is too large, or all weights of an output channel are so small that
 * they lose bits. null where it can, and for other types, whose range reaches far beyond weights.
 */
export function whyUnfit(layer: WeightLayer, side: 'outputs' | 'inputs', { k, c }: ChannelAffine): string | null {
  if (elementOf(layer) !== 'float16') return null
  const largest = new Float64Array(outputChannels(layer))
  let first = 0
  for (const part of layer.tensor.parts()) {
    const w = part.toFloat32()
    eachRun(layer, first, w.length, (from, to, o, i) => {
      for (let e = from; e < to; e++)
        largest[o] = Math.max(largest[o]!, Math.abs(w[e]! * k[side === 'outputs' ? o : i]!))
    })
    first += w.length
  }
  const holds = (x: number): boolean => x === 0 || (x >= LEAST_NORMAL_HALF && x <= LARGEST_HALF)
  if (largest.every(holds) && c.every((x) => Math.abs(x) <= LARGEST_HALF)) return null
  return `the scaled weight of ${layer.node.label} does not fit into float16`
}

const LEAST_NORMAL_HALF = 2 ** -14
const LARGEST_HALF = 65504

/** W' = W * k, by output or input channel. */
export function scaleWeight(layer: WeightLayer, side: 'outputs' | 'inputs', k: Float64Array): void {
  const scaled = layer.tensor.mapFloats(elementOf(layer), (w, first) =>
    eachRun(layer, first, w.length, (from, to, o, i) => {
      const factor = k[side === 'outputs' ? o : i]!
      for (let e = from; e < to; e++) w[e]! *= factor
    }),
  )
  asInitializer(layer.weight).setConstant(scaled)
}

/** 16-bit weights after a Cast become float32, or scaling would round them once more. */
export const elementOf = (layer: WeightLayer): ElementType =>
  layer.maskPoint === layer.weight ? layer.tensor.type : 'float32'

/** The type that the layer computes in: for a quantised weight the type that it is dequantised to. */
function computedElement(layer: WeightLayer): ElementType {
  const type = layer.quant ? constantOf(layer.quant.scale)?.type : elementOf(layer)
  return type?.includes('float') ? type : 'float32'
}

/** Output channels of a layer. */
export const outputChannels = ({ node, tensor, outputAxis }: WeightLayer): number =>
  tensor.dims[outputAxis!]! * (channelSlot(node)?.transposed ? groupsOf(node) : 1)

/** b' = b * k + c. Returns the layer's output, or that of the Add that a MatMul gets. */
export function addBias(layer: WeightLayer, { k, c }: ChannelAffine): Value {
  const { node } = layer
  const { graph } = node
  const old = biasOf(node)
  const given = constantOf(old)?.toNumbers()
  const beta = biasFactor(node)
  const elem = (given && constantOf(old)?.type) ?? computedElement(layer)
  const values = c.map((x, i) => x + (given ? beta * given[given.length === 1 ? 0 : i]! * k[i]! : 0))
  if (!given && values.every((x) => x === 0)) return node.output
  const bias = graph.addInitializer(`${node.id}.bias`, Tensor.from(elem, [c.length], values))
  if (!takesBias(node)) return graph.after(node).op('Add', [node.output, bias], {}, { name: `${node.id}.biased` })
  setBias(node, bias)
  dropBiasFactor(node)
  if (old) dropConstant(old)
  return node.output
}

/** Whether `shiftOutputs` can be done: a product without a bias of its own gets an Add of one number per column, at any rank. */
export const canShiftOutputs = (layer: WeightLayer): boolean =>
  layer.users.length === 1 &&
  layer.outputAxis !== null &&
  channelSlot(layer.node) !== undefined &&
  canBias(layer.node, outputChannels(layer), () => 2) === null

/** Adds c to the output channels: in the layer's bias, or in the constant of the Add behind a layer without one. */
export function shiftOutputs(layer: WeightLayer, c: Float64Array): void {
  const { node } = layer
  const behind = biasBehind(layer)
  if (behind) {
    setBehind(layer, behind, (old, i) => old + c[i]!)
    return
  }
  const out = node.output
  const biased = addBias(layer, { k: new Float64Array(c.length).fill(1), c })
  if (biased !== out) node.graph.replaceUses(out, biased, biased.producer!)
}

/** Multiplies the output channels by k: weight, and bias or the constant of the Add behind a layer without one. */
export function scaleOutputs(layer: WeightLayer, k: Float64Array): void {
  scaleWeight(layer, 'outputs', k)
  const behind = biasBehind(layer)
  if (!behind) {
    if (biasOf(layer.node)) addBias(layer, { k, c: new Float64Array(k.length) })
    return
  }
  setBehind(layer, behind, (old, i) => old * k[i]!)
}

/** The output with the layer's bias added, by itself or by an Add behind it. `node`: the layer's, or its image in a copy. */
export const biasedOutput = (layer: WeightLayer, node = layer.node): Value =>
  biasBehind(layer, node)?.add.output ?? node.output

interface BiasBehind {
  readonly add: Node
  readonly at: number
  readonly bias: Tensor
}

/** Gives the Add another constant, made from the old one channel by channel. */
function setBehind(
  layer: WeightLayer,
  { add, at, bias }: BiasBehind,
  change: (old: number, i: number) => number,
): void {
  const old = bias.toNumbers()
  const channels = outputChannels(layer)
  const dims = bias.size === channels ? bias.dims : [...bias.dims.slice(0, -1), channels]
  const values = Float64Array.from({ length: channels }, (_, i) => change(old[old.length === 1 ? 0 : i]!, i))
  const given = add.input(at)
  add.setInput(at, add.graph.addInitializer(`${layer.node.id}.bias`, Tensor.from(bias.type, dims, values)))
  dropConstant(given)
}

/** The Add of one number per column behind a product that adds no bias by itself. */
function biasBehind(layer: WeightLayer, node = layer.node): BiasBehind | null {
  const [add, ...others] = node.output.uses
  if (takesBias(node) || !add || others.length > 0 || node.output.isOutput || !isAddition(add)) return null
  const at = add.inputs.indexOf(node.output) === 0 ? 1 : 0
  const bias = constantOf(add.inputs[at])
  const channels = outputChannels(layer)
  const perColumn = bias?.size === 1 || (bias?.size === channels && bias.dims.at(-1) === channels)
  return bias && perColumn && bias.type.includes('float') ? { add, at, bias } : null
}
