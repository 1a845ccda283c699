/**
 * Runs a model on calibration batches and gathers a streaming histogram of chosen values. Memory does not grow with
 * the number of batches: one batch's values at a time, and batches are cut along their first axis where the chosen
 * values of a whole one would take more than 256 MiB (possible where the model's batch dim is symbolic).
 */
import { usageError } from '../base/errors.ts'
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { requireFiniteTensor } from '../layers/finite.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { Histogram } from './histogram.ts'

const BYTES_AT_ONCE = 256 * 2 ** 20

type Feeds = Readonly<Record<string, Tensor>>

/**
 * One histogram per value, over all batches. Usage error when there are no batches; model error for what is not finite,
 * which `allowNonfinite` passes over.
 */
export async function collectHistograms(
  model: Model,
  values: readonly Value[],
  data: CalibrationData,
  { allowNonfinite = false }: { readonly allowNonfinite?: boolean | undefined } = {},
): Promise<Map<Value, Histogram>> {
  const map: ValueMap = new Map()
  const copy = cloneModel(model, map)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  for (const v of values) if (!v.isInput) copy.graph.addOutput(map.get(v)!)
  const run = await runner(copy)
  const histograms = new Map(values.map((v) => [v, new Histogram()]))
  let batches = 0
  let samples: number | null = null
  let left = data.samples ?? Number.POSITIVE_INFINITY
  try {
    for await (const batch of data.batches()) {
      if (!allowNonfinite)
        for (const [name, t] of Object.entries(batch)) requireFiniteTensor(name, t, 'an input in the calibration data')
      if (batches++ === 0 && !data.isWhole) samples = await samplesAtOnce(model, values, batch)
      const size = Object.values(batch)[0]?.dims[0] ?? 0
      left -= size
      for (const feeds of cut(batch, samples)) {
        const out = await run.run(feeds)
        for (const [v, h] of histograms) {
          const values = out[v.name] ?? feeds[v.name]!
          h.elem = values.type
          const numbers = counted(values, size, Math.min(size, size + left))
          h.add(allowNonfinite ? numbers.filter(Number.isFinite) : numbers, v.name)
        }
      }
    }
  } finally {
    await run.dispose()
  }
  if (batches === 0) throw usageError('the calibration data contain no samples', 'raise --limit or check --data')
  return histograms
}

/** The values of the first `count` of `size` samples; all of them where the first dim is no multiple of the batch. */
function counted(t: Tensor, size: number, count: number): Float32Array {
  const values = t.toFloat32()
  const [rows = 0] = t.dims
  return count === size || rows === 0 || rows % size > 0 ? values : values.subarray(0, (values.length / size) * count)
}

/** A session, or nothing to run where all values are graph inputs. */
async function runner(model: Model): Promise<{ run(f: Feeds): Promise<Feeds>; dispose(): Promise<void> }> {
  if (model.graph.outputs.length > 0) return ortExecutor().load(model)
  return { run: async () => ({}), dispose: async () => {} }
}

/** How many samples' values fit; null where the batch dim is fixed or unknown, so that batches cannot be cut. */
async function samplesAtOnce(model: Model, values: readonly Value[], batch: Feeds): Promise<number | null> {
  const inputs = model.graph.fed
  if (!inputs.every((v) => typeof v.type?.dims?.[0] === 'string')) return null
  const dims: Record<string, number> = {}
  for (const v of inputs)
    v.type?.dims?.forEach((d, i) => {
      if (typeof d === 'string') dims[d] ??= i === 0 ? 1 : (batch[v.name]?.dims[i] ?? 1)
    })
  const typed = cloneModel(model)
  await inferTypes(typed, { dims })
  let bytes = 0
  for (const v of values) {
    const known = typed.graph.find(v.name)?.type?.dims ?? []
    bytes += known.reduce<number>((n, d) => n * (typeof d === 'number' ? d : 1), 4)
  }
  return Math.max(1, Math.floor(BYTES_AT_ONCE / Math.max(1, bytes)))
}

/** A batch as pieces of at most `samples` along the first axis. */
function* cut(batch: Feeds, samples: number | null): Generator<Feeds> {
  const count = Object.values(batch)[0]?.dims[0] ?? 0
  const size = Math.max(1, samples ?? count)
  if (samples === null || count <= size) {
    yield batch
    return
  }
  for (let at = 0; at < count; at += size) {
    const n = Math.min(size, count - at)
    const piece = Object.entries(batch).map(([name, t]) => {
      const bytes = t.byteLength / count
      return [name, new Tensor(t.type, [n, ...t.dims.slice(1)], t.bytes.subarray(at * bytes, (at + n) * bytes))]
    })
    yield Object.fromEntries(piece)
  }
}
