/** What a trained network remembers of the data it was trained on: means and deviations of channels, by normalisation. */
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { constantOf, isChannelNorm, isInBatchMode } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'
import { biasedOutput, outputChannels } from './layer-algebra.ts'
import { weightLayers } from './layers.ts'
import { outputStatistics } from './output-statistics.ts'

/** A value and what its channels (axis 1) were like in training. */
export interface Remembered {
  readonly value: Value
  readonly mean: Float32Array
  readonly deviation: Float32Array
}

/** Deviations of channels that hardly vary are taken to be this part of their mean: dividing by less says nothing. */
const LEAST = 1e-3

/**
 * Of the inputs of normalisations in inference form, and of the outputs of layers into which one was folded (the mark
 * that fold-bn leaves).
 */
export function rememberedIn({ graph }: Model): Remembered[] {
  const found: Remembered[] = []
  for (const n of graph.nodes()) {
    const [mean, variance] = (findOp(n)?.state ?? []).map((i) => constantOf(n.inputs[i])?.toNumbers())
    if (isChannelNorm(n) && !isInBatchMode(n) && mean && variance)
      found.push({ value: n.input(0), ...numbers(mean, Array.from(variance, Math.sqrt)) })
  }
  for (const layer of weightLayers(graph)) {
    const own = outputStatistics(layer.node, outputChannels(layer))
    if (own) found.push({ value: biasedOutput(layer), ...numbers(own.mean, Array.from(own.deviation)) })
  }
  return found
}

function numbers(mean: ArrayLike<number>, deviation: readonly number[]) {
  const least = Math.max(1e-12, (LEAST * deviation.reduce((a, b) => a + b, 0)) / Math.max(1, deviation.length))
  return { mean: Float32Array.from(mean), deviation: Float32Array.from(deviation, (d) => Math.max(d, least)) }
}
