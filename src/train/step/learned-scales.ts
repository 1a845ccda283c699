/**
 * Quantiser scales as trained parameters: LSQ (Esser et al., 2020, "Learned Step Size Quantization").
 *
 *   dL/ds is multiplied by g = 1 / sqrt(N Qmax)
 *
 * N: elements that share the scale, in one image where an activation is quantised; Qmax: the largest integer less the
 * zero point. The lowered quantiser (passes/lower-fake-quant.ts) supplies dL/ds. Scales get no weight decay. One update
 * takes at most a tenth off a scale, and none takes it to where w / s would overflow: at a learning rate that is too
 * high, a scale and the weights that it clips pull each other to zero.
 *
 * Does not apply to frozen quantisers, scales that are computed, and quantisers that lower-fake-quant declines.
 */

import { bugError } from '../../base/errors.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { marks } from '../../graph/marks.ts'
import { weightLayers } from '../../layers/layers.ts'
import { quantPairOf } from '../../layers/quant-pair.ts'
import { removeUnused } from '../../layers/remove-unused.ts'
import { constantOf, isQuantizer } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'
import type { FlatLayout } from './flat-layout.ts'

export interface LearnedScale {
  readonly scale: Value
  /** Ends the quantiser; lowering removes it. */
  readonly dequantize: Node
  readonly source: Value
  /** The source is a weight, not an activation with the batch as its first dim. */
  readonly isWeight: boolean
  readonly largest: number
}

/** The smallest factor that one update may multiply a scale by. At one half, ResNet-20 (W4A4, lr 0.04) lost channels this way. */
const SMALLEST_SHRINK = 0.9
/** No scale gets below this: weights divided by it are still far from float32's end. */
const LEAST_STEP = 2 ** -40

/** The scales that can be trained. Needs the quantisers as Q/DQ pairs, before they are lowered. */
export function learnableScales(graph: Graph): LearnedScale[] {
  const ofWeights = new Set(weightLayers(graph).map((l) => l.quant?.dequantize))
  const found = new Map<Value, LearnedScale>()
  for (const dequantize of graph.nodes()) {
    const pair = quantPairOf(dequantize)
    if (!pair?.quantize || found.has(pair.scale) || pair.scale.constant?.type !== 'float32') continue
    if ([dequantize, pair.scale].some((x) => marks.frozen.is(x))) continue
    const { scale, source, zeroPoint, hi } = pair
    const largest = Math.max(1, hi - (zeroPoint?.constant?.toNumbers()[0] ?? 0))
    found.set(scale, { scale, dequantize, source, isWeight: ofWeights.has(dequantize), largest })
  }
  return [...found.values()]
}

/** g above. Needs known shapes. */
export function gradientFactor({ scale, source, isWeight, largest }: LearnedScale): number {
  // another quantiser's output has been lowered, and the value in its place has its name
  const { dims } = source.graph.find(source.name) ?? source
  const elements = (isWeight ? dims : dims.slice(1)).reduce((a, b) => a * b, 1)
  return 1 / Math.sqrt((elements / scale.dims.reduce((a, b) => a * b, 1)) * largest)
}

/** `next`, an update of the flat vector `now`, with the quantiser scales at its end, `scales`, kept positive. */
export function boundShrink(
  b: Builder,
  next: Value,
  now: Value,
  layout: FlatLayout,
  scales: ReadonlySet<string>,
): Value {
  const first = layout.entries.findIndex((e) => scales.has(e.name))
  if (layout.entries.slice(first).some((e) => !scales.has(e.name))) throw bugError('quantiser steps come last')
  const { offset } = layout.entries[first]!
  const part = (v: Value, from: number, to: number): Value => b.op('Slice', [v, b.ints([from]), b.ints([to])])
  const least = b.op('Mul', [part(now, offset, layout.size), b.scalar(SMALLEST_SHRINK)])
  const bounded = b.op('Max', [part(next, offset, layout.size), b.op('Max', [least, b.scalar(LEAST_STEP)])])
  return offset === 0 ? bounded : b.op('Concat', [part(next, 0, offset), bounded], { axis: 0 })
}

/** Makes quantisers read the initializers of their scales and zero points, not an Identity of them. */
function parametersThemselves(graph: Graph): void {
  for (const n of [...graph.nodes()]) {
    if (!isQuantizer(n)) continue
    for (const i of [1, 2])
      for (let v = n.inputs[i]; v && !v.constant && constantOf(v); v = n.inputs[i]) {
        const identity = v.producer!
        if (findOp(identity)?.carries !== 'value') break
        n.setInput(i, identity.input(0))
        removeUnused([identity])
      }
  }
}

/**
 * Gives every quantiser one scale of its own: its two halves read the same initializer, and no other quantiser does.
 * Foreign files share equal constants or repeat them, and a scale that moves must move in both halves only.
 */
export function separateScales(graph: Graph): void {
  parametersThemselves(graph)
  const owned = new Set<Value>()
  for (const dequantize of graph.nodes()) {
    const pair = quantPairOf(dequantize)
    const tensor = pair?.scale.constant
    if (!pair?.quantize || !tensor) continue
    let { scale } = pair
    if (owned.has(scale)) {
      scale = graph.addInitializer(scale.name, tensor)
      for (const [k, v] of pair.scale.metadata) scale.metadata.set(k, v)
    }
    owned.add(scale)
    for (const half of [pair.quantize, dequantize]) if (half.inputs[1] !== scale) half.setInput(1, scale)
  }
}
