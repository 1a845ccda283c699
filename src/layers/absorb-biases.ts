/**
 * High-bias absorption (Nagel, van Baalen, Blankevoort, Welling, arXiv:1906.04721, section 4.1.3): what a channel before a ReLU
 * has in any case goes into the biases of the layers behind it, so that the numbers between them have a smaller range. With
 * beta and gamma the mean and deviation of the channel, as the BatchNormalization said that was folded into the layer,
 *
 *   c = max(0, beta - 3 gamma)      b1' = b1 - c      b2' = b2 + W2 c
 *
 * as relu(x - c) = relu(x) - c wherever x >= c. A channel that falls below c, as one number in 740 does if they are normal, is
 * cut off there: outputs are the same where none does.
 *
 * Does not apply to layers without such statistics, nor where something else than layers that do not pad reads what the ReLU gives.
 */
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { isRectifier } from '../ops/facts.ts'
import {
  biasedOutput,
  canShiftInputs,
  canShiftOutputs,
  outputChannels,
  shiftOfInputs,
  shiftOutputs,
} from './layer-algebra.ts'
import { layersByNode, type WeightLayer } from './layers.ts'
import { outputStatistics, setOutputStatistics } from './output-statistics.ts'
import { rankLookup } from './ranks.ts'

/** Deviations below the mean. */
const DEVIATIONS = 3

/** Of the layers `isChosen` allows to change; returns how many gave of their bias. */
export async function absorbBiases(model: Model, isChosen: (l: WeightLayer) => boolean): Promise<number> {
  const layers = layersByNode(model.graph)
  const rank = await rankLookup(model)
  let count = 0
  for (const layer of layers.values()) {
    const known = outputStatistics(layer.node, outputChannels(layer))
    if (!known || !isChosen(layer) || !canShiftOutputs(layer)) continue
    const c = known.mean.map((m, i) => sureOf(m, known.deviation[i]!))
    if (c.every((x) => x === 0)) continue
    const readers = readersOf(biasedOutput(layer), layers)
    if (!readers) continue
    const affine = { k: new Float64Array(c.length).fill(1), c }
    if (readers.some((r) => !isChosen(r) || !canShiftOutputs(r) || canShiftInputs(r.node, affine, rank) !== null))
      continue
    for (const reader of readers) shiftOutputs(reader, shiftOfInputs(reader, c, outputChannels(reader)))
    shiftOutputs(
      layer,
      c.map((x) => -x),
    )
    // what the readers give stays as it was
    setOutputStatistics(layer.node, { ...known, mean: known.mean.map((m, i) => m - c[i]!) })
    count++
  }
  return count
}

/** What is left of a channel that gave already is the rounding of its statistics. */
function sureOf(mean: number, deviation: number): number {
  const least = mean - DEVIATIONS * deviation
  return least > LEAST_SHARE * Math.abs(mean) ? least : 0
}

const LEAST_SHARE = 1e-4

/** The layers behind the one ReLU that reads `v`; null where anything else reads either. */
function readersOf(v: Value, layers: ReadonlyMap<unknown, WeightLayer>): WeightLayer[] | null {
  const [relu, ...others] = v.uses
  if (!relu || others.length > 0 || v.isOutput || !isRectifier(relu) || relu.output.isOutput) return null
  const found: WeightLayer[] = []
  for (const n of relu.output.uses) {
    const layer = layers.get(n)
    if (!layer || layer.slot.data === undefined || n.input(layer.slot.data) !== relu.output) return null
    found.push(layer)
  }
  return found.length > 0 ? found : null
}
