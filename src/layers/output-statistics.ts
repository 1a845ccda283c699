/** What a layer gives by channel, as the BatchNormalization said that was folded into it: a mark of its node. */
import type { Node } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'

export interface OutputStatistics {
  readonly mean: Float64Array
  readonly deviation: Float64Array
}

/** Digits that are kept. */
const DIGITS = 6

/** null where there are none, or of other channels than the layer has. */
export function outputStatistics(n: Node, channels: number): OutputStatistics | null {
  const said = marks.outputStatistics.get(n)
  if (typeof said !== 'object' || said === null || !('mean' in said) || !('deviation' in said)) return null
  const numbers = (x: unknown): Float64Array | null =>
    Array.isArray(x) && x.length === channels && x.every((v) => typeof v === 'number') ? Float64Array.from(x) : null
  const [mean, deviation] = [numbers(said.mean), numbers(said.deviation)]
  return mean && deviation ? { mean, deviation } : null
}

export function setOutputStatistics(n: Node, { mean, deviation }: OutputStatistics): void {
  const short = (x: Float64Array): number[] => Array.from(x, (v) => Number(v.toPrecision(DIGITS)))
  marks.outputStatistics.set(n, { mean: short(mean), deviation: short(deviation) })
}

/** Of outputs multiplied by k. */
export function scaleOutputStatistics(n: Node, k: Float64Array): void {
  const known = outputStatistics(n, k.length)
  if (!known) return
  const [mean, deviation] = [known.mean, known.deviation].map((x) => x.map((v, c) => v * k[c]!))
  setOutputStatistics(n, { mean: mean!, deviation: deviation! })
}
