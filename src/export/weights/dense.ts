/**
 * Writes the weights of the int4 and int8 formats: those that onnxruntime should see as integers after a
 * DequantizeLinear, the others as floats (decoded with Cast and Mul, which it folds at load; a DequantizeLinear that no
 * integer kernel takes runs on every call).
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { scaleDims } from '../../layers/scale-layout.ts'
import { dequantizeBehind } from '../../ops/facts.ts'
import { layerSlot } from '../../ops/index.ts'
import { emitInt8, emitWeights } from './decode.ts'
import type { Layer } from './fold-affine.ts'
import { type Inexact, integerAxis, takeForm } from './integer-form.ts'
import { inputStep, moveBiasBehind, quantisedBehind, spanOf } from './layer-form.ts'
import { emitSplit, type Split, splitOf } from './split-sums.ts'
import { type Choice, planStorage, type StorageKind, type StoragePlan } from './storage.ts'
import { channelOf, type Weight } from './weights.ts'

/** `value` replaces the weight's placeholder input. */
export function attach(graph: Graph, w: Weight, value: Value): void {
  const placeholder = w.value
  graph.replaceUses(placeholder, value)
  graph.removeInput(placeholder)
  w.value = value
}

/**
 * The weights to come after a DequantizeLinear. int4: all, but not those stored [in, out], of which onnxruntime makes
 * MatMulNBits, which rounds the input to 8 bits. int8: those of layers between quantisers.
 */
export function pairedWeights(
  weights: readonly Weight[],
  layers: ReadonlyMap<Node, Layer>,
  format: 'int4' | 'int8',
): Set<Weight> {
  const quantised = weights.filter((w) => w.ints)
  if (format === 'int4') return new Set(quantised.filter((w) => !isInByOut(w)))
  // no integer kernel takes scales of groups
  const single = quantised.filter((w) => w.block === 0)
  const between = (n: Node): boolean => layers.has(n) && inputStep(n) !== null && quantisedBehind(n) !== 'none'
  return new Set(single.filter((w) => [...w.value.uses].some(between)))
}

/**
 * Moves biases after the layers: int4, all of those with quantised inputs; int8, of layers whose integers are not chosen
 * (the output is read in floats too, scales run along another axis). No other bias is left that onnxruntime would round.
 */
export function moveBiases(
  paired: ReadonlySet<Weight>,
  layers: ReadonlyMap<Node, Layer>,
  format: 'int4' | 'int8',
): void {
  for (const layer of layers.values()) {
    const { node, weight } = layer
    if (inputStep(node) === null) continue
    const moved = paired.has(weight) && integerAxis(weight, layers) === null
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
): { choices: Choice[]; inexact: Inexact[] } {
  const b = graph.prepend()
  const splits = format === 'int8' ? splitsOf(layers, paired) : new Map<Weight, Split>()
  const isInteger = (w: Weight): boolean => paired.has(w) || splits.has(w)
  const others = planStorage(
    weights.filter((w) => !isInteger(w)),
    { sparse: packed },
  )
  for (const [w, v] of emitWeights(b, others)) attach(graph, w, v)
  const integers = weights.filter(isInteger)
  const inexact: Inexact[] = []
  const multiplierOf = (w: Weight): Tensor => {
    if (splits.has(w)) return takeSigns(w)
    return format === 'int8' ? takeForm(w, layers, inexact) : Tensor.scalar(1)
  }
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
    const scale = graph.addInitializer('_s', Tensor.float32(scaleDims(w.dims, w), w.scale))
    const layout = { ...(w.axis !== null && { axis: w.axis }), ...(w.block > 0 && { block_size: w.block }) }
    attach(graph, w, b.op('DequantizeLinear', [stored.get(w)!, scale], layout, { name: '_w' }))
  }
  return { choices: [...others.choices, ...plan.choices], inexact }
}

/** The layers to compute in two halves: those with float outputs that gain from it. */
function splitsOf(layers: ReadonlyMap<Node, Layer>, paired: ReadonlySet<Weight>): Map<Weight, Split> {
  const found = new Map<Weight, Split>()
  for (const layer of layers.values()) {
    const input = layer.node.attached ? dequantizeBehind(layer.node.inputs[0]) : null
    if (!input || paired.has(layer.weight)) continue
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
  return Tensor.float32(w.broadcastDims, signs)
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
      const of = channelOf(weight)
      const ints = weight.ints!.map((v, i) => v * by[of(i) % by.length]!)
      return [weight, graph.addInitializer('_q', Tensor.from(kind === 'int4' ? 'int4' : 'int8', weight.dims, ints))]
    }),
  )
}
