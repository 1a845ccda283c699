/**
 * Writes the weights of the int4 and int8 formats: those that onnxruntime should see as integers behind a
 * DequantizeLinear, the others as floats (decoded with Cast and Mul, which it folds at load; a DequantizeLinear that no
 * integer kernel takes runs on every call).
 */
import type { Graph, Node, Value } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { layerSlot } from '../ops/index.ts'
import { emitInt8, emitWeights } from './decode.ts'
import type { Layer } from './fold-affine.ts'
import { channelForm } from './integer-bias.ts'
import { inputStep, moveBiasBehind, quantisedBehind } from './layer-form.ts'
import { emitSplit, type Split, splitOf } from './split-sums.ts'
import { planStorage, type StorageKind, type StoragePlan } from './storage.ts'
import type { Weight } from './weights.ts'

/** `value` takes the place of the weight's placeholder input. */
export function attach(graph: Graph, w: Weight, value: Value): void {
  const placeholder = w.value
  graph.replaceUses(placeholder, value)
  graph.removeInput(placeholder)
  w.value = value
}

/**
 * The weights to stand behind a DequantizeLinear. int4: all, but not those stored [in, out], of which onnxruntime makes
 * MatMulNBits, which rounds the input to 8 bits. int8: those of layers between quantisers.
 */
export function pairedWeights(
  weights: readonly Weight[],
  layers: ReadonlyMap<Node, Layer>,
  format: 'int4' | 'int8',
): Set<Weight> {
  const quantised = weights.filter((w) => w.ints)
  if (format === 'int4') return new Set(quantised.filter((w) => !isInByOut(w)))
  const between = (n: Node): boolean => layers.has(n) && inputStep(n) !== null && quantisedBehind(n) !== 'none'
  return new Set(quantised.filter((w) => [...w.value.uses].some(between)))
}

/**
 * Moves biases behind the layers: int4, all of those with quantised inputs; int8, where the layer's output is read in
 * floats too. No other bias is left that onnxruntime would round.
 */
export function moveBiases(
  paired: ReadonlySet<Weight>,
  layers: ReadonlyMap<Node, Layer>,
  format: 'int4' | 'int8',
): void {
  for (const layer of layers.values()) {
    const { node, weight } = layer
    if (inputStep(node) === null) continue
    const moved = paired.has(weight) && (quantisedBehind(node) !== 'all' || !weight.reader)
    if (format === 'int4' || moved) moveBiasBehind(layer)
  }
}

/** Whether a layer reads the weight with its outputs along the last axis: MatMul, and Gemm without transB. */
const isInByOut = (w: Weight): boolean =>
  [...w.value.uses].some((n) => {
    const slot = layerSlot(n)
    return slot && !slot.lookup && w.dims.length > 1 && slot.outputAxis(n) === w.dims.length - 1
  })

export interface DenseOptions {
  readonly format: 'int4' | 'int8'
  /** Weights stored packed and decoded at load. */
  readonly packed: boolean
}

export function writeDense(
  graph: Graph,
  weights: readonly Weight[],
  paired: ReadonlySet<Weight>,
  layers: ReadonlyMap<Node, Layer>,
  { format, packed }: DenseOptions,
): StoragePlan[] {
  const b = graph.prepend()
  const splits = format === 'int8' ? splitsOf(layers, paired) : new Map<Weight, Split>()
  const isInteger = (w: Weight): boolean => paired.has(w) || splits.has(w)
  const others = planStorage(
    weights.filter((w) => !isInteger(w)),
    { sparse: packed },
  )
  for (const [w, v] of emitWeights(b, others)) attach(graph, w, v)
  const integers = weights.filter(isInteger)
  const multiplierOf = (w: Weight): Tensor =>
    splits.has(w) ? takeSigns(w) : format === 'int8' ? takeForm(w, layers) : Tensor.scalar(1)
  const multipliers = new Map(integers.map((w) => [w, multiplierOf(w)]))
  const plan = packed ? planStorage(integers, { integers: true }) : densePlan(integers, format)
  const stored = packed ? emitInt8(b, plan, multipliers) : denseIntegers(graph, plan, multipliers)
  for (const w of integers) {
    const split = splits.get(w)
    if (split) {
      emitSplit(split, stored.get(w)!)
      graph.removeInput(w.value)
      continue
    }
    const scale = graph.addInitializer('_s', Tensor.float32(w.axis === null ? [] : [w.scale.length], w.scale))
    const axis: Record<string, number> = w.axis === null ? {} : { axis: w.axis }
    attach(graph, w, b.op('DequantizeLinear', [stored.get(w)!, scale], axis, { name: '_w' }))
  }
  return [others, plan]
}

/** The layers to compute in two halves: those with float outputs that gain by it. */
function splitsOf(layers: ReadonlyMap<Node, Layer>, paired: ReadonlySet<Weight>): Map<Weight, Split> {
  const found = new Map<Weight, Split>()
  for (const layer of layers.values()) {
    const input = layer.node.attached ? layer.node.inputs[0]?.producer : null
    if (input?.op !== 'DequantizeLinear' || paired.has(layer.weight)) continue
    const split = splitOf(layer, spanOf(input))
    if (split) found.set(layer.weight, split)
  }
  return found
}

/** Takes the signs of the scales into the integers; one scale for each output channel is left. */
function takeSigns(w: Weight): Tensor {
  w.multiply(new Float64Array(w.dims[0]!).fill(1), 0)
  const signs = w.scale.map((s) => (s < 0 ? -1 : 1))
  w.scale = w.scale.map(Math.abs)
  return Tensor.float32(w.scaleDims, signs)
}

/**
 * Chooses multipliers and bias of a layer by channel, writes the bias, divides the scale; returns the multipliers, in
 * dims that broadcast over the weight.
 */
function takeForm(w: Weight, layers: ReadonlyMap<Node, Layer>): Tensor {
  const node = w.reader
  const layer = node ? layers.get(node) : undefined
  const axis = layer?.outputAxis ?? null
  const ints = w.ints!
  if (!node || axis === null || !w.canMultiply(axis) || quantisedBehind(node) !== 'all') return Tensor.scalar(1)
  const channels = w.dims[axis]!
  const inner = w.dims.slice(axis + 1).reduce((a, d) => a * d, 1)
  const channelOf = (i: number): number => Math.floor(i / inner) % channels
  w.multiply(new Float64Array(channels).fill(1), axis)
  const largest = new Float64Array(channels)
  const sum = new Float64Array(channels)
  ints.forEach((v, i) => {
    const c = channelOf(i)
    largest[c] = Math.max(largest[c]!, Math.abs(v))
    sum[c]! += Math.abs(v)
  })
  // the sign goes into the integers (-8 becomes 8, which 8 bits hold), but for channels with -128, whose step stays negative
  const mirror = w.scale.map((s, c) => (s < 0 && largest[c] === 128 ? -1 : 1))
  const sign = w.scale.map((s, c) => Math.sign(s) * mirror[c]!)
  const bias = biasOf(node)
  const step = inputStep(node)!
  const span = Math.max(...spanOf(node.input(0).producer!))
  const behind = outputQuantiser(node)
  // a gain of 0 leaves integers of 0 and the bias: any step that is fine enough for that
  const sizeOf = (s: number): number => Math.abs(s) || (behind ? behind.step / (1024 * step) : 1)
  const forms = Array.from(w.scale, (s, c) => {
    const u = step * sizeOf(s)
    const value = (bias?.[bias.length === 1 ? 0 : c] ?? 0) / u
    const [lo, hi] = behind?.range ?? [0, 0]
    const reach = s === 0 ? 0 : sum[c]! * span
    return channelForm({
      largest: s === 0 ? 0 : largest[c]!,
      reach,
      bias: value,
      step: (behind?.step ?? u) / u,
      lo,
      hi,
    })
  })
  w.scale = w.scale.map((s, c) => {
    const stepped = behind ? behind.step / (step * forms[c]!.step) : sizeOf(s)
    return (mirror[c]! * stepped) / forms[c]!.multiplier
  })
  const biases = forms.map((f, c) => mirror[c]! * f.bias)
  if (bias) writeBias(node, biases, w.scale, step)
  const values = forms.map((f, c) => f.multiplier * sign[c]!)
  return Tensor.float32(w.scaleDims, values)
}

/** The bias as numbers; null where there is none, or one that no integer kernel adds. */
function biasOf(node: Node): Float32Array | null {
  if (node.op === 'MatMul' || (node.op === 'Gemm' && node.float('beta', 1) !== 1)) return null
  return node.inputs[2]?.constant?.toFloat32() ?? null
}

function writeBias(node: Node, biases: readonly number[], weightScale: Float32Array, step: number): void {
  const b = node.graph.before(node)
  const name = node.input(2).name
  const scale = weightScale.map((s) => s * step)
  const ints = Int32Array.from(biases, (v) => Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, v)))
  const stored = b.initializer(`${name}.q`, Tensor.of('int32', [ints.length], ints))
  const steps = b.initializer(`${name}.s`, Tensor.float32([scale.length], scale))
  const old = node.input(2)
  node.setInput(2, b.op('DequantizeLinear', [stored, steps], { axis: 0 }, { name: `${name}.d` }))
  if (!old.isUsed && old.constant) node.graph.removeInitializer(old)
}

/** Step and levels of the quantiser that reads the layer; null where several differ. */
function outputQuantiser(node: Node): { step: number; range: readonly [number, number] } | null {
  const readers = [...node.output.uses].flatMap((n) => (n.op === 'Relu' ? [...n.output.uses] : [n]))
  const [first, ...others] = readers
  const step = first?.inputs[1]?.constant
  if (!first || others.length > 0 || step?.size !== 1) return null
  const [lo, hi] = levelsOf(first)
  return { step: step.toNumbers()[0]!, range: [lo, hi] }
}

/** Lowest and highest level of a uint8 quantiser with the Max that may follow it, zero point subtracted. */
function levelsOf(quantize: Node): [number, number] {
  const zero = quantize.inputs[2]?.constant?.toNumbers()[0] ?? 0
  const [max] = [...quantize.output.uses].filter((n) => n.op === 'Max')
  const floor = max?.inputs[1]?.constant?.toNumbers()[0] ?? 0
  return [floor - zero, 255 - zero]
}

/** Largest |level| below and above zero of what a DequantizeLinear gives. */
function spanOf(dequantize: Node): [number, number] {
  let below = dequantize.input(0).producer
  if (below?.op === 'Max') below = below.input(0).producer
  if (below?.op !== 'QuantizeLinear') return [255, 255]
  const [lo, hi] = levelsOf(below)
  return [Math.abs(lo), Math.abs(hi)]
}

function densePlan(weights: readonly Weight[], format: 'int4' | 'int8'): StoragePlan {
  const choices = weights.map((weight) => {
    const kind: StorageKind = format === 'int4' && weight.bits <= 4 ? 'int4' : 'int8'
    return { weight, kind, payload: kind === 'int4' ? Math.ceil(weight.size / 2) : weight.size }
  })
  return { choices, groups: [] }
}

function denseIntegers(graph: Graph, plan: StoragePlan, multipliers: ReadonlyMap<Weight, Tensor>): Map<Weight, Value> {
  return new Map(
    plan.choices.map(({ weight, kind }) => {
      const by = multipliers.get(weight)!.toFloat32()
      const inner = weight.axis === null ? 1 : weight.dims.slice(weight.axis + 1).reduce((a, d) => a * d, 1)
      const ints = weight.ints!.map((v, i) => v * by[Math.floor(i / inner) % by.length]!)
      return [weight, graph.addInitializer('_q', Tensor.from(kind === 'int4' ? 'int4' : 'int8', weight.dims, ints))]
    }),
  )
}
