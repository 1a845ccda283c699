/**
 * Keeps 4-bit and 8-bit activations out of one graph. onnxruntime 1.30 plans memory by element count and element size,
 * and counts two 4-bit elements as one byte-sized element: if a value in uint8 is given the memory of a dead one in UINT4 of
 * the same shape, it is written past its end (wrong results, or `free(): invalid next size`). So where a graph rounds
 * activations to 8-bit types too, its 4-bit quantisers get 8-bit containers with a Clip on the integers, as 3 bits have.
 */

import type { Graph } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { Tensor } from '../graph/tensor.ts'
import { constantOf, isCast } from '../ops/facts.ts'
import { WEIGHT_QUANT } from './layers.ts'
import { type QuantPair, quantPairOf } from './quant-pair.ts'
import { removeUnused } from './remove-unused.ts'

/** Whether anything changed. */
export function separateWidths(graph: Graph): boolean {
  const pairs: QuantPair[] = []
  for (const n of graph.nodes()) {
    const pair = quantPairOf(n)
    if (pair?.quantize && isActivation(pair)) pairs.push(pair)
  }
  const narrow = pairs.filter((p) => p.container === 'uint4' || p.container === 'int4')
  if (narrow.length === 0 || narrow.length === pairs.length) return false
  const done = new Set<unknown>()
  for (const pair of narrow) {
    if (done.has(pair.quantize)) continue
    done.add(pair.quantize)
    dropCasts(pair)
    widen(pair)
  }
  return true
}

/** Weights are rounded at run time only without optimisations: lowerings/nibble-bytes.ts. */
const isActivation = ({ source, axis, dequantize }: QuantPair): boolean =>
  !source.constant && axis === null && marks.role.get(dequantize) !== WEIGHT_QUANT

/** Casts to the type that the integers have anyway. */
function dropCasts({ quantize }: QuantPair): void {
  const levels = quantize!.output
  for (const n of [...levels.uses]) {
    if (!isCast(n)) continue
    n.graph.replaceUses(n.output, levels)
    removeUnused([n])
  }
}

function widen({ quantize, dequantize, container, zeroPoint, lo, hi }: QuantPair): void {
  const { graph } = dequantize
  // not int8 for int4: activation-range.ts says why
  const wide = 'uint8'
  const shift = container === 'int4' ? 128 : 0
  const levels = quantize!.output
  const given = constantOf(zeroPoint)
  const zero = given?.toNumbers() ?? [0]
  const b = graph.after(quantize!)
  const z = graph.addInitializer(
    `${levels.name}.zero`,
    Tensor.from(
      wide,
      given?.dims ?? [],
      Array.from(zero, (v) => v + shift),
    ),
  )
  const readers = [...levels.uses]
  const metadata = Object.fromEntries(dequantize.metadata)
  const limits = [b.scalar(lo + shift, wide), b.scalar(hi + shift, wide)]
  const clipped = b.op('Clip', [levels, ...limits], {}, { name: `${levels.name}.clipped`, metadata })
  quantize!.setInput(2, z)
  quantize!.setAttribute('output_dtype', null)
  levels.setType(null)
  for (const n of readers) {
    n.setInput(0, clipped)
    n.setInput(2, z)
  }
  if (zeroPoint?.constant && !zeroPoint.isUsed) graph.removeInitializer(zeroPoint)
}
