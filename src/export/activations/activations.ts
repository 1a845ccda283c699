/**
 * The form of an activation quantiser (QuantizeLinear -> DequantizeLinear) in an exported file.
 *
 *   float     Clip(x, lo*s, hi*s) -> QuantizeLinear(s, 8 or 16 bit, zero point 0) -> Cast -> [Mul s]
 *             QuantizeLinear(s, unsigned, zero point -lo) -> Cast -> Sub -lo -> [Mul s]   where lo..hi fits no type
 *   container QuantizeLinear(uint8, zero point 255-hi) -> Max(q, 255-hi+lo) -> DequantizeLinear
 *
 * with lo..hi the range less the zero point. Both give exactly what the 4-bit pair gives: the division and the rounding
 * to even are QuantizeLinear's own, and clamping commutes with rounding since both limits are multiples of the scale.
 * A ReLU or Clip that only such quantisers read is dropped: lo and hi do its work, since rounding keeps the order.
 *
 * float is for files whose weights reach onnxruntime as floats. There must be no Q/DQ pair there: its optimiser
 * (WeightBiasQuantization) makes an INT8 tensor of any constant float weight between a DequantizeLinear and a
 * QuantizeLinear, which changes results by percents, and then asks QLinearConv for UINT4, which fails to load.
 * The scale s goes into the scales of the following layers, so that the Mul is seldom needed.
 *
 * Per-channel scales stay as they are.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { sweepNode } from '../../graph/sweep.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementTypes } from '../../graph/types.ts'
import { constantValues } from '../../layers/constants.ts'
import { type QuantPair, quantPairOf } from '../../layers/quant-pair.ts'
import { isClip, isQuantize, isRectifier } from '../../ops/facts.ts'
import { roundHalfEven } from '../../quant/quantizer.ts'
import type { Layer } from '../weights/fold-affine.ts'

export interface Activation {
  readonly pair: QuantPair
  readonly step: number
  /** Range of the integers less the zero point; narrower than the type after a ReLU or Clip. */
  readonly lo: number
  readonly hi: number
  /** The ReLU or Clip stays: its outputs are all outside the quantiser's range. */
  readonly plain?: boolean
}

/**
 * Removes operators that return their only input: those that `insert-fake-quant` puts before its quantisers against
 * the optimiser named above, and Identity.
 */
export function dropNoOps(graph: Graph): void {
  for (const n of graph.nodes()) {
    if (!n.is('Sum', 'Identity') || n.inputs.length !== 1) continue
    if (n.output.isOutput) continue
    graph.replaceUses(n.output, n.input(0))
    graph.remove(n)
  }
}

/** Quantisers of computed values with one scale and constant parameters, in graph order. */
export function activationsOf(graph: Graph): Activation[] {
  const found: Activation[] = []
  const constant = constantValues(graph)
  for (const n of graph.nodes()) {
    const pair = quantPairOf(n)
    if (!pair?.quantize || constant.has(pair.source) || pair.axis !== null) continue
    const scale = pair.scale.constant
    const zero = pair.zeroPoint ? pair.zeroPoint.constant : Tensor.scalar(0)
    if (scale?.size !== 1 || zero?.size !== 1) continue
    const z = zero.toNumbers()[0]!
    const step = scale.toNumbers()[0]!
    const [least, most] = limitsOf(pair.source.producer) ?? [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]
    const level = (limit: number): number => roundHalfEven(Math.fround(Math.fround(limit) / step))
    const [lo, hi] = [Math.max(pair.lo - z, level(least)), Math.min(pair.hi - z, level(most))]
    // limits outside the quantiser's range: it gives a single level
    const outside = lo > pair.hi - z || hi < pair.lo - z || lo > hi
    found.push({ pair, step, ...(outside ? { lo: pair.lo - z, hi: pair.hi - z, plain: true } : { lo, hi }) })
  }
  return found
}

/** The range of numbers that a ReLU or a Clip between constants leaves; null for other nodes. */
function limitsOf(node: Node | null | undefined): readonly [number, number] | null {
  if (!node) return null
  if (isRectifier(node)) return [0, Number.POSITIVE_INFINITY]
  if (!isClip(node)) return null
  const at = (i: number, open: number): number | null => {
    const v = node.inputs[i]
    return v ? (v.constant?.size === 1 ? v.constant.item() : null) : open
  }
  const [least, most] = [at(1, Number.NEGATIVE_INFINITY), at(2, Number.POSITIVE_INFINITY)]
  return least === null || most === null ? null : [least, most]
}

/**
 * The value to quantise: in front of a ReLU or Clip where the quantisers make it superfluous. Read from the graph as it is now:
 * what a quantiser reads may be another one's output, which has been replaced.
 */
export function sourceOf({ pair, plain }: Activation): Value {
  const source = pair.quantize!.input(0)
  const limiter = source.producer
  if (plain || !limiter || !limitsOf(limiter) || source.isOutput) return source
  for (const n of source.uses) if (!isQuantize(n)) return source
  return limiter.input(0)
}

/** Replaces the pairs by float arithmetic; scales go into the weights of `layers` where they can. */
export function lowerToFloat(activations: readonly Activation[], layers: ReadonlyMap<Node, Layer>): void {
  const whole = new Map<Node, Value>()
  for (const a of activations) {
    const { dequantize, quantize } = a.pair
    const { graph } = dequantize
    const { name: inner } = quantize!.output
    const levels = whole.get(quantize!) ?? emitLevels(graph.before(quantize!), sourceOf(a), a, inner)
    if (!levels) continue
    whole.set(quantize!, levels)
    const y = dequantize.output
    for (const reader of [...y.uses]) {
      const layer = layers.get(reader)
      if (!layer || layer.weight.reader !== reader || reader.inputs.lastIndexOf(y) !== 0) continue
      layer.weight.multiply(a.step)
      reader.setInput(0, levels)
    }
    if (y.isUsed) {
      const { name } = y
      const scaled = graph.before(dequantize).op('Mul', [levels, stepOf(graph, a)], {}, { type: y.type })
      graph.replaceUses(y, scaled)
      sweepNode(dequantize)
      if (scaled.name !== name && !graph.find(name)) graph.rename(scaled, name)
    } else sweepNode(dequantize)
  }
}

const stepOf = (graph: Graph, a: Activation): Value =>
  a.pair.scale.constant!.dims.length === 0 ? a.pair.scale : graph.addInitializer('step', Tensor.scalar(a.step))

/** The integers less the zero point as float32; null where no type holds them. */
function emitLevels(b: Builder, x: Value, a: Activation, name: string): Value | null {
  const form = containerOf(a)
  if (!form) return null
  const { type, min, max } = form
  const limit = (levels: number): Value => b.scalar(Math.fround(levels * a.step))
  const low = a.lo > min || a.hi < max ? limit(a.lo) : null
  const limited = low ? b.op('Clip', [x, low, limit(a.hi)], {}, { name: `${name}.c` }) : x
  const shift = type.startsWith('u') ? -min : 0
  const q = b.op('QuantizeLinear', [limited, stepOf(b.graph, a), b.scalar(shift, type)], {}, { name: `${name}.q` })
  const levels = b.op('Cast', [q], { to: elementTypes.float32.code }, { name: `${name}.f` })
  return shift === 0 ? levels : b.op('Sub', [levels, b.scalar(shift)], {}, { name: `${name}.l` })
}

interface Container {
  readonly type: 'int8' | 'uint8' | 'int16' | 'uint16'
  readonly min: number
  readonly max: number
}

/** The type for lo..hi and the levels at which it saturates: without a zero point where possible. */
function containerOf({ lo, hi }: Activation): Container | null {
  for (const bits of [8, 16] as const) {
    const most = 2 ** bits - 1
    const half = 2 ** (bits - 1)
    if (lo >= 0 && hi <= most) return { type: `uint${bits}`, min: 0, max: most }
    if (lo >= -half && hi < half) return { type: `int${bits}`, min: -half, max: half - 1 }
    if (lo >= -most && lo < 0 && hi - lo <= most) return { type: `uint${bits}`, min: lo, max: lo + most }
  }
  return null
}

/** Replaces the pairs by uint8 pairs that saturate at the same scales; returns the new DequantizeLinear nodes. */
export function toContainers(activations: readonly Activation[]): Set<Node> {
  const made = new Set<Node>()
  const whole = new Map<Node, { levels: Value; zero: Value }>()
  for (const a of activations) {
    const { dequantize, quantize } = a.pair
    if (a.hi - a.lo > 255 || a.lo > 0 || a.hi < 0) continue
    const { graph } = dequantize
    let q = whole.get(quantize!)
    if (!q) {
      const b = graph.before(quantize!)
      const zero = b.scalar(255 - a.hi, 'uint8')
      const { name } = quantize!.output
      const all = b.op('QuantizeLinear', [sourceOf(a), stepOf(graph, a), zero], {}, { name: `${name}.q` })
      const floor = 255 - a.hi + a.lo
      q = { zero, levels: floor === 0 ? all : b.op('Max', [all, b.scalar(floor, 'uint8')], {}, { name: `${name}.m` }) }
      whole.set(quantize!, q)
    }
    const b = graph.before(dequantize)
    const y = b.op('DequantizeLinear', [q.levels, stepOf(graph, a), q.zero], {}, { type: dequantize.output.type })
    const { name } = dequantize.output
    graph.replaceUses(dequantize.output, y)
    sweepNode(dequantize)
    if (y.name !== name && !graph.find(name)) graph.rename(y, name)
    made.add(y.producer!)
  }
  return made
}
