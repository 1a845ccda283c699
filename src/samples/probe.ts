/** Runs a model as it is, to learn what a pass needs to know about it. */
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { loadIsolated } from '../runtime/isolated/engine.ts'

export type Named = Readonly<Record<string, Tensor>>

/** The outputs of `model`, by name, for each set of inputs; without the engine's optimiser. */
export async function probe(model: Model, sets: readonly Named[]): Promise<Named[]> {
  const session = await loadIsolated(model, { optimization: 'disabled' })
  try {
    const out: Named[] = []
    for (const feeds of sets) out.push(await session.run(feeds))
    return out
  } finally {
    await session.dispose()
  }
}
