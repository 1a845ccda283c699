/** Runs a model, as it is, for what a pass wants to know of it. */
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { ortExecutor } from '../runtime/ort.ts'

export type Named = Readonly<Record<string, Tensor>>

/** The outputs of `model`, by name, for each set of inputs; without the engine's optimiser. */
export async function probe(model: Model, sets: readonly Named[]): Promise<Named[]> {
  const { folder } = model
  const load = { optimization: 'disabled', quiet: true, ...(folder !== undefined && { folder }) } as const
  const session = await ortExecutor().load(model, load)
  try {
    const out: Named[] = []
    for (const feeds of sets) out.push(await session.run(feeds))
    return out
  } finally {
    await session.dispose()
  }
}
<<<<<<< HEAD
=======

function feedsFor(model: Model): Record<string, Tensor> {
  const rng = new Rng(0)
  const feeds: Record<string, Tensor> = {}
  for (const v of model.graph.fed) {
    const dims = v.type?.dims?.map((d, i) => (typeof d === 'number' ? d : i === 0 ? SAMPLES : null))
    if (v.type?.elem !== 'float32' || !dims?.every((d) => d !== null))
      throw modelError('open-input', `input '${v.name}' has no fixed float32 shape`, {
        next: 'give its dimensions beside the batch a size',
      })
    const count = dims.reduce<number>((p, d) => p * d!, 1)
    feeds[v.name] = Tensor.float32(
      dims as number[],
      Float32Array.from({ length: count }, () => rng.normal()),
    )
  }
  return feeds
}
>>>>>>> ba388a6 (What is constant is one field: inputs with a default are made constant in one warning, IR 3 files list new initializers, declared outputs, sparse tensors and both declarations of a passed-through value survive)
