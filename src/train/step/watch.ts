/** Runs a step graph that is being built on two sets of random inputs, in a separate process, for shapes that only a run shows. */
import { MncError } from '../../base/errors.ts'
import type { Tensor } from '../../graph/tensor.ts'
import type { Watch } from '../../passes/shapes/seen-shapes.ts'
import { loadIsolated } from '../../runtime/isolated/engine.ts'
import { randomFeeds } from '../../samples/random-feeds.ts'

/** `state`: inputs that are not data, mainly the weights. A graph that does not run shows nothing. */
export function watchOnRandom(state: () => Readonly<Record<string, Tensor>>): Watch {
  return async (model) => {
    try {
      const make = randomFeeds(model)
      const dims = Object.fromEntries(model.graph.fed.map((v) => [v.name, v.dims]))
      const session = await loadIsolated(model, { optimization: 'disabled' })
      try {
        const fixed = state()
        return [
          await session.run({ ...make(dims, [0]), ...fixed }),
          await session.run({ ...make(dims, [1]), ...fixed }),
        ]
      } finally {
        await session.dispose()
      }
    } catch (error) {
      if (error instanceof MncError) return []
      throw error
    }
  }
}
