/**
 * Prepares a graph of fixed inputs for differentiation: types every value, replaces the shapes that are thereby known,
 * and all that exporters compute from them, by constants, until no more shapes come to light, also by running the model
 * where the caller can (seen-shapes.ts); then rewrites what has no gradient rule of its own as simpler operators
 * (decompose-ops.ts), and types that.
 */
import type { Graph } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { findOp } from '../../ops/index.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'
import { decomposeNodes } from '../decompose-ops.ts'
import { foldConstants } from '../fold-constants.ts'
import { SeenShapes, type Watch } from './seen-shapes.ts'

/** Constants that a fold makes of small ones stay small. */
const MAX_BYTES = 2 ** 20

const quiet = { decline: () => {}, log: () => {}, seed: 0 }

/** Edits `model` in place. Values whose shapes depend on data stay open; without `watch` also those that only a run shows. */
export async function settleShapes(model: Model, watch?: Watch): Promise<void> {
  await inferTypes(model)
  await foldShapes(model)
  const seen = watch && new SeenShapes(watch)
  while (await seen?.settle(model)) {
    await foldConstants.run(model, { maxBytes: MAX_BYTES }, quiet)
    await inferTypes(model)
    await foldShapes(model)
  }
  if (decomposeNodes(model.graph) > 0) await inferTypes(model)
}

async function foldShapes(model: Model): Promise<void> {
  while (replaceShapes(model.graph)) {
    await foldConstants.run(model, { maxBytes: MAX_BYTES }, quiet)
    await inferTypes(model)
  }
}

/** Nodes that read only the shape of their input become constants where that is known. */
function replaceShapes(graph: Graph): boolean {
  let found = false
  for (const n of graph.nodes()) {
    const tensor = findOp(n)?.ofShape?.(n)
    if (!tensor || n.output.isOutput) continue
    graph.replaceUses(n.output, graph.append().initializer(`${n.output.name}.known`, tensor))
    graph.remove(n)
    found = true
  }
  return found
}
