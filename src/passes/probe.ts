/** What chosen values of a model are on random inputs: two samples of standard normal numbers. */
import { modelError } from '../errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { Rng } from '../rng.ts'
import { ortExecutor } from '../runtime/ort.ts'

const SAMPLES = 2

/** By name. A model error for inputs that are not float32 or have an open dimension beside the first. */
export async function probe(model: Model, values: Iterable<Value>): Promise<Readonly<Record<string, Tensor>>> {
  const copy = cloneModel(model)
  const { graph } = copy
  const names = new Set(Array.from(values, (v) => v.name))
  const feeds = feedsFor(model)
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  for (const name of names) graph.addOutput(graph.find(name)!)
  const folder = model.folder === undefined ? {} : { folder: model.folder }
  const session = await ortExecutor().load(copy, { optimization: 'disabled', ...folder })
  try {
    return await session.run(feeds)
  } finally {
    await session.dispose()
  }
}

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
