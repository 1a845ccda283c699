/**
 * Weights of the qdq format: INT8 initializers with a DequantizeLinear each, one scale for each output channel.
 *
 * Between quantisers the integers and the int32 bias are chosen as for int8 files (integer-form.ts), so that kernels of
 * integers give what the graph gives. `symmetric`: biases stay floats, scales are positive, and weights of layers whose input is not
 * quantised are floats, as compilers that take nothing else want it. A negative scale changes the signs of its integers;
 * -128 then becomes 127, and is reported (without `symmetric` such a scale stays negative).
 */
import type { Graph, Node } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import { attach } from './dense.ts'
import type { Layer } from './fold-affine.ts'
import { type Inexact, takeForm } from './integer-form.ts'
import { inputStep } from './layer-form.ts'
import { type Choice, rawChoice } from './storage.ts'
import { channelOf, rawValues, type Weight } from './weights.ts'

/** For channels of zeros: fine enough for any bias that is a whole number of them. */
const SCALE_OF_ZEROS = 2 ** -14

export interface PlainWeights {
  readonly choices: readonly Choice[]
  readonly inexact: readonly Inexact[]
}

export function writePlain(
  graph: Graph,
  weights: readonly Weight[],
  layers: ReadonlyMap<Node, Layer>,
  symmetric: boolean,
): PlainWeights {
  const b = graph.prepend()
  const inexact: Inexact[] = []
  const choices = weights.map((w): Choice => {
    const readers = [...w.value.uses]
    if (w.block > 0) return writeFloats(graph, [w], 'it has scales for groups of weights, which the format has not')[0]!
    const isPaired = w.ints !== null && (!symmetric || readers.every((n) => inputStep(n) !== null))
    if (!isPaired) return writeFloats(graph, [w], 'its input is not quantised')[0]!
    const axis = axisOf(w, layers)
    if (axis !== null) w.multiply(new Float64Array(w.dims[axis]!).fill(1), axis)
    const by = symmetric ? Tensor.scalar(1) : takeForm(w, layers, inexact)
    const stored = storedIntegers(w, by.toFloat32(), symmetric)
    if (stored.clipped > 0)
      inexact.push({ layer: w, reason: `${stored.clipped} weights of -128 with a negative scale became 127, not 128` })
    const q = graph.addInitializer('_q', Tensor.from('int8', w.dims, stored.ints))
    const scale = graph.addInitializer('_s', Tensor.float32(w.axis === null ? [] : [stored.scale.length], stored.scale))
    const attributes: Record<string, number> = w.axis === null ? {} : { axis: w.axis }
    attach(graph, w, b.op('DequantizeLinear', [q, scale], attributes, { name: '_w' }))
    return { weight: w, kind: 'int8', payload: w.size }
  })
  return { choices, inexact }
}

/** All weights as float32 initializers. */
export function writeFloats(graph: Graph, weights: readonly Weight[], reason = 'the format stores floats'): Choice[] {
  return weights.map((w) => {
    attach(graph, w, graph.addInitializer('_w', Tensor.float32(w.dims, rawValues(w))))
    return rawChoice(w, reason)
  })
}

/** The output channels, where one scale can be written for each of them. */
function axisOf(w: Weight, layers: ReadonlyMap<Node, Layer>): number | null {
  const axes = new Set([...w.value.uses].map((n) => layers.get(n)?.outputAxis ?? null))
  const [axis = null] = axes
  return axes.size === 1 && axis !== null && w.canMultiply(axis) ? axis : null
}

/** With multipliers and signs of the scales taken in; a channel with -128 keeps a negative scale unless scales have to be positive. */
function storedIntegers(w: Weight, by: Float32Array, symmetric: boolean) {
  const of = channelOf(w)
  const products = Int16Array.from(w.ints!, (v, i) => v * by[of(i) % by.length]!)
  const least = new Int16Array(w.scale.length)
  products.forEach((v, i) => {
    least[of(i)] = Math.min(least[of(i)]!, v)
  })
  const signs = w.scale.map((s, c) => (s < 0 && (symmetric || least[c]! > -128) ? -1 : Math.abs(Math.sign(s))))
  const exact = products.map((v, i) => v * signs[of(i)]!)
  const scale = w.scale.map((s, c) => s * signs[c]! || SCALE_OF_ZEROS)
  return { ints: exact.map((v) => Math.min(127, v)), scale, clipped: exact.filter((v) => v > 127).length }
}
