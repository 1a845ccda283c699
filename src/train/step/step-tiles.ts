/** Fixes the batch of a training step, types its graph, and tiles the part of it that has large activations (tile-batch.ts). */
import { cloneModel, type ValueMap } from '../../graph/clone.ts'
import type { Node, Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { removeDead } from '../../passes/eliminate-dead.ts'
import { settleShapes } from '../../passes/shapes/settle-shapes.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'
import { isMeasuredAlone } from './batch-statistics.ts'
import type { StepBuilding } from './step-building.ts'
import { fixBatch } from './step-inputs.ts'
import { nameOf } from './step-names.ts'
import { firstState } from './step-parameters.ts'
import { leaves, nodesToTile, tileBatch } from './tile-batch.ts'
import { watchOnRandom } from './watch.ts'

/** Activations above this size are processed in tiles, each about as large or smaller; measured, see tile-batch.ts. */
const TILE_BYTES = 8 * 2 ** 20
const MAX_TILES = 4

export async function settleSizes(step: StepBuilding): Promise<void> {
  const { model, input, options } = step
  if (!options.inputDims?.[nameOf(input)]) fixBatch(input, options.batch)
  await settleShapes(
    model,
    watchOnRandom(() => firstState(step)),
  )
}

export async function tile(step: StepBuilding): Promise<void> {
  const { model, input, options, trainedNorms } = step
  const { batch, inputDims, tiles: asked, native } = options
  if (Object.keys(inputDims ?? {}).length > 1) return
  // between native normalisations there is nothing that an array in the cache would be of use to
  if (native && asked === undefined && trainedNorms.length > 0 && trainedNorms.every(isMeasuredAlone)) return
  const chosen = nodesToTile(model.graph, input, batch, TILE_BYTES)
  const tiles = chosen.size === 0 ? 1 : (asked ?? divisorUpTo(batch, MAX_TILES))
  if (tiles <= 1) return
  const whole = new Map([...model.graph.values()].map((v) => [v, v.type]))
  try {
    await typeTile(model, input, batch / tiles, chosen)
    step.tiles = tileBatch(model.graph, input, tiles, chosen)
    model.graph.sort()
  } catch {
    // the part to tile fixes the batch size somewhere
  }
  if (!step.tiles) for (const [v, type] of whole) v.setType(type)
}

/** Types the input and the chosen nodes for a batch of `size`, on a copy without the others: those may fix the batch. */
async function typeTile(model: Model, input: Value, size: number, chosen: ReadonlySet<Node>): Promise<void> {
  const map: ValueMap = new Map()
  const { graph } = input
  const part = cloneModel(model, map)
  for (const v of [...part.graph.outputs]) part.graph.removeOutput(v)
  const leaving = [...graph.values()].filter((v) => v.producer && chosen.has(v.producer) && leaves(v, chosen))
  for (const v of leaving) part.graph.addOutput(map.get(v)!)
  removeDead(part.graph)
  fixBatch(map.get(input)!, size)
  await inferTypes(part)
  fixBatch(input, size)
  for (const n of chosen) for (const v of n.outputs) v?.setType(map.get(v)!.type)
}

/** The largest power of two that divides `n`, up to `max`. */
function divisorUpTo(n: number, max: number): number {
  let d = 1
  while (d < max && n % (d * 2) === 0) d *= 2
  return d
}
