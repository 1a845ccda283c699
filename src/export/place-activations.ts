/**
 * The form of each quantised activation in the exported file: rounded in float arithmetic, a Q/DQ pair of its own width,
 * one in an 8-bit container (a plain one for other readers), or not rounded at all.
 */
import type { Node } from '../graph/graph.ts'
import { elementTypes } from '../graph/types.ts'
import { constantOf, isRectified } from '../ops/facts.ts'
import { type Activation, lowerToFloat, toContainers } from './activations/activations.ts'
import { dropRounding, toPlain } from './activations/plain.ts'
import { type ExportFormat, type ExportOptions, holdsFloats } from './export-options.ts'
import type { Layer } from './weights/fold-affine.ts'
import type { Inexact } from './weights/integer-form.ts'
import type { Weight } from './weights/weights.ts'

export function placeActivations(
  format: ExportFormat,
  { floatActivations, symmetric }: ExportOptions,
  activations: readonly Activation[],
  layers: ReadonlyMap<Node, Layer>,
): readonly Inexact[] {
  if (floatActivations || holdsFloats(format)) dropRounding(activations)
  else if (format === 'packed' || format === 'weight-only') lowerToFloat(activations, layers)
  else {
    // onnxruntime would quantise float weights between quantisers on its own, and no integer kernel takes scales of groups
    const floatLayer = (w: Weight): boolean => w.ints === null || w.block > 0
    const lowered = activations.filter((a) => someWeight(a, layers, floatLayer))
    // a compiler that takes symmetric pairs alone takes no others
    if (symmetric) dropRounding(lowered)
    else lowerToFloat(lowered, layers)
    const rest = activations.filter((a) => !lowered.includes(a))
    if (format === 'qdq') return toPlain(rest, symmetric ?? false).map(coarser)
    if (format === 'int8') toContainers(rest)
    else placeNarrow(rest, layers, lowered.length > 0)
  }
  return []
}

const coarser = ({ pair }: Activation): Inexact => ({
  layer: pair.source.name,
  reason: 'its unsigned activations keep half of their levels as signed ones',
})

/**
 * Plain Q/DQ, except for two things that onnxruntime gets wrong: its QLinearConv takes INT8 weights with a UINT4 input and
 * then refuses to load; and it drops a ReLU in front of a 4-bit quantiser that holds negative numbers, too, whose zero
 * point it takes for its lowest value. Where any activation is in 8 bits (`wide`, or for these reasons) all are:
 * mixed-widths.ts says why. Those in int8 get uint8: activation-range.ts says why.
 */
function placeNarrow(activations: readonly Activation[], layers: ReadonlyMap<Node, Layer>, wide: boolean): void {
  const lowered = activations.filter((a) => a.hi - a.lo < 16 && someWeight(a, layers, (w) => w.bits > 4))
  lowerToFloat(lowered, layers)
  const rest = activations.filter((a) => !lowered.includes(a))
  const isNarrow = (a: Activation): boolean => elementTypes[a.pair.container].bits === 4
  const behindRelu = rest.some((a) => isRectified(a.pair.source) && holdsNegatives(a))
  if (wide || lowered.length > 0 || behindRelu || !rest.every(isNarrow))
    toContainers(rest.filter((a) => isNarrow(a) || a.pair.container === 'int8'))
}

const holdsNegatives = ({ pair }: Activation): boolean => pair.lo < (constantOf(pair.zeroPoint)?.toNumbers()[0] ?? 0)

/** Whether a layer with such a weight reads the quantised value. */
function someWeight(a: Activation, layers: ReadonlyMap<Node, Layer>, test: (w: Weight) => boolean): boolean {
  for (const n of a.pair.dequantize.output.uses) {
    const weight = layers.get(n)?.weight
    if (weight && test(weight)) return true
  }
  return false
}
